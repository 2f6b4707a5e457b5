import katex from "katex";
import "katex/dist/katex.min.css";

/** Draws a formula into an element of its own; false if it is not one. It makes elements, not markup, and `trust` keeps
 *  it from making links or loading anything. */
export function typeset(text: string, target: HTMLElement, display: boolean): boolean {
  try {
    katex.render(text, target, {
      displayMode: display,
      throwOnError: true,
      trust: false,
      strict: "ignore",
      maxExpand: 200,
      maxSize: 20,
    });
    return true;
  } catch {
    target.replaceChildren();
    return false;
  }
}
