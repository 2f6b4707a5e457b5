import { memo, type ReactNode, useRef } from "react";

/** A text that may still grow. What is new is put behind what stands there: a browser that is given a whole new text
 *  forgets what the reader has selected in the old one. */
export const Growing = memo(function Growing({ text }: { text: string }): ReactNode {
  const held = useRef<Held>(NOTHING);
  // A cache: with or without it the same text is shown.
  held.current = grow(held.current, text);
  return held.current.pieces;
});

interface Held {
  readonly text: string;
  readonly pieces: readonly string[];
}

const NOTHING: Held = { text: "", pieces: [] };
/** More pieces than this become one again, when nobody has anything selected. */
const PIECES_MAX = 24;

function grow(held: Held, text: string): Held {
  if (text === held.text) return held;
  const fits = held.text !== "" && text.startsWith(held.text);
  const whole = held.pieces.length >= PIECES_MAX && (getSelection()?.isCollapsed ?? true);
  if (!fits || whole) return { text, pieces: [text] };
  return { text, pieces: [...held.pieces, text.slice(held.text.length)] };
}
