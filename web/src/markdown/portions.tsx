import { type ReactNode, startTransition, useEffect, useState } from "react";
import { useI18n } from "../i18n/i18n";

/** Whoever opens a conversation never waits for its longest part: an answer of thousands of blocks is drawn over several
 *  frames, and of one list, table or line that nobody reads to its end the rest is drawn when it is asked for. */

const BLOCKS_AT_ONCE = 200;

/** How many of `count` blocks are drawn by now. What is being written is drawn as it comes. */
export function useGrowing(count: number, streaming: boolean): number {
  const [drawn, setDrawn] = useState(streaming ? Number.POSITIVE_INFINITY : BLOCKS_AT_ONCE);
  useEffect(() => {
    if (drawn >= count) return;
    const frame = requestAnimationFrame(() =>
      startTransition(() => setDrawn(before => before + BLOCKS_AT_ONCE)),
    );
    return () => cancelAnimationFrame(frame);
  }, [drawn, count]);
  return Math.min(drawn, count);
}

/** How many of `count` parts to draw, and the button that brings as many more. */
export function usePortions(count: number, portion: number): { shown: number; more: ReactNode } {
  const { t, number } = useI18n();
  const [portions, setPortions] = useState(1);
  const shown = Math.min(count, portion * portions);
  if (shown === count) return { shown, more: null };
  const more = (
    <button type="button" className="quiet rest" onClick={() => setPortions(portions + 1)}>
      {t("showRest", { count: number(count - shown) })}
    </button>
  );
  return { shown, more };
}

/** Characters of one unformatted text. */
const TEXT_AT_ONCE = 40_000;

/** A text as it was written, however long. */
export function PlainText({ text }: { text: string }) {
  const { shown, more } = usePortions(text.length, TEXT_AT_ONCE);
  return (
    <>
      {shown === text.length ? text : text.slice(0, shown)}
      {more}
    </>
  );
}
