import type { KeyboardEvent } from "react";

/** A key of a composition (Vietnamese, Chinese, Japanese …) belongs to the input method. */
export function composes(event: KeyboardEvent): boolean {
  return event.nativeEvent.isComposing || event.keyCode === 229;
}

/** Enter sends. Under a finger it is the only way to a new line, and a button sends; Ctrl and Enter do everywhere. */
export function sends(event: KeyboardEvent): boolean {
  if (event.key !== "Enter") return false;
  return event.ctrlKey || event.metaKey || !(event.shiftKey || byFinger());
}

export function byFinger(): boolean {
  return matchMedia("(pointer: coarse)").matches;
}
