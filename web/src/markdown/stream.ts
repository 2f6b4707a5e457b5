import type { Token } from "marked";
import { lexBlocks, normalize } from "./lexer";
import { repair } from "./repair";

/** Markdown of a text that grows. Only its tail is lexed again: a block that two later ones follow can't change any more
 *  ("2" below a list may still become its second item, so one is not enough). */
export interface Parsed {
  readonly text: string;
  readonly blocks: readonly Token[];
  /** How many blocks, and characters, are settled. */
  readonly settled: number;
  readonly settledLength: number;
  readonly links: Readonly<Record<string, { href: string; title: string }>>;
  readonly streaming: boolean;
}

const NOTHING: Parsed = { text: "", blocks: [], settled: 0, settledLength: 0, links: {}, streaming: true };
const UNSETTLED_BLOCKS = 2;

export function parse(source: string, streaming: boolean, previous: Parsed = NOTHING): Parsed {
  const text = normalize(source);
  if (text === previous.text && streaming === previous.streaming) return previous;
  if (!streaming) return whole(text, previous);
  const base = previous.streaming && text.startsWith(previous.text) ? previous : NOTHING;
  const links = { ...base.links };
  const tail = lexBlocks(copied(text.slice(base.settledLength)), links);
  const settledTail = tail.slice(0, settledCount(tail));
  const blocks = [...base.blocks.slice(0, base.settled), ...tail];
  const last = blocks.at(-1);
  if (last && last.type !== "code" && last.type !== "space") {
    blocks.splice(-1, 1, ...lexBlocks(repair(last.raw), { ...links }));
  }
  return {
    text,
    blocks: keepSame(blocks, previous.blocks),
    settled: base.settled + settledTail.length,
    settledLength: base.settledLength + settledTail.reduce((n, token) => n + token.raw.length, 0),
    links,
    streaming,
  };
}

/** A part of a string keeps the whole alive, and each settled block would keep the whole text as it was by then. */
function copied(part: string): string {
  return ` ${part}`.slice(1);
}

/** The end: everything once more and as a whole, since a link's definition may stand below its use. */
function whole(text: string, previous: Parsed): Parsed {
  const links = {};
  const blocks = lexBlocks(text, links);
  const same = Object.keys(links).length === 0;
  return {
    text,
    blocks: same ? keepSame(blocks, previous.blocks) : blocks,
    settled: blocks.length,
    settledLength: text.length,
    links,
    streaming: false,
  };
}

function settledCount(tail: readonly Token[]): number {
  let unsettled = 0;
  for (let i = tail.length - 1; i >= 0; i--) {
    if (tail[i]?.type !== "space") unsettled++;
    if (unsettled === UNSETTLED_BLOCKS) return behindParagraph(tail, i);
  }
  return 0;
}

/** What follows a paragraph without a blank line may turn out to be a part of it after all: below "a", "2. b" and a
 *  line "-" are two lists until a letter follows the dash. Such a paragraph stays in the tail. */
function behindParagraph(tail: readonly Token[], count: number): number {
  let i = count;
  while (i > 0 && tail[i - 1]?.type === "paragraph" && tail[i]?.type !== "space") i--;
  return i;
}

/** A block that was lexed again to the same text stays the same object: that is what keeps it from rendering again. */
function keepSame(blocks: readonly Token[], before: readonly Token[]): readonly Token[] {
  return blocks.map((block, i) => {
    const old = before[i];
    return old && old.type === block.type && old.raw === block.raw ? old : block;
  });
}
