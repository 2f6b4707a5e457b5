import { defaults, Lexer, type Token, type TokenizerExtension, type Tokens } from "marked";

/** GFM plus LaTeX, as a list of block tokens. Nothing here makes HTML. */

export interface MathToken extends Tokens.Generic {
  type: "math";
  /** Empty while the end is missing. */
  text: string;
  display: boolean;
}

/** A note, or the place in the text that it belongs to. */
export interface FootnoteToken extends Tokens.Generic {
  type: "footnote" | "footnoteMark";
  label: string;
  /** The note's text. */
  tokens?: Token[];
}

/** What GitHub draws of a quote whose first line says what kind of note it is. */
export interface AlertToken extends Tokens.Generic {
  type: "alert";
  kind: "note" | "tip" | "important" | "warning" | "caution";
  tokens: Token[];
}

type Links = Record<string, { href: string; title: string }>;

/** A formula that stands for itself ends with its closing mark, or unfinished with the paragraph: were it to look for
 *  its end further down, a text that grows would change blocks that are settled. */
const blockMath: TokenizerExtension = {
  name: "math",
  level: "block",
  start: src => indexOr(src, /(?:^|\n) {0,3}(?:\$\$(?!\$)|\\\[)/),
  tokenizer(src) {
    const opened = /^ {0,3}(\$\$(?!\$)|\\\[)/.exec(src);
    if (!opened) return undefined;
    const blank = /\n[ \t]*\n/.exec(src);
    const part = blank ? src.slice(0, blank.index + 1) : src;
    const closed = /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n|$)/.exec(part);
    if (closed && !closed[1]?.includes("$$")) return mathToken(closed, true);
    const closing = opened[1] === "$$" ? "$$" : "\\]";
    if (part.indexOf(closing, opened[0].length) >= 0) return undefined;
    return { type: "math", raw: part, text: "", display: true };
  },
};

/** `$` also stands for money: it opens only before, and closes only after, something that is not a space, and what is
 *  followed by a digit closes nothing ("$5 and $10"). */
const inlineMath: TokenizerExtension = {
  name: "inlineMath",
  level: "inline",
  start: src => indexOr(src, /\$|\\\(|\\\[/),
  tokenizer(src) {
    const display = /^(?:\$\$([^$]+?)\$\$|\\\[([\s\S]+?)\\\])/.exec(src);
    if (display) return mathToken(display, true);
    const found = /^(?:\$(?![\s$])((?:[^$\n\\]|\\[^\n])*?[^\s$\\])\$(?![\d$])|\\\(([\s\S]+?)\\\))/.exec(src);
    return found ? mathToken(found, false) : undefined;
  },
};

/** One line, and no part of a paragraph above it: a text that grows changes no block that is settled. Numbers only, since
 *  `[^a-z]` is somebody's pattern. */
const footnote: TokenizerExtension = {
  name: "footnote",
  level: "block",
  tokenizer(src) {
    const found = /^ {0,3}\[\^(\d{1,4})\]:(.*)(?:\n|$)/.exec(src);
    if (!found) return undefined;
    const [raw, label, text = ""] = found;
    return { type: "footnote", raw, label, tokens: this.lexer.inline(text.trim()) };
  },
};

const footnoteMark: TokenizerExtension = {
  name: "footnoteMark",
  level: "inline",
  tokenizer(src) {
    const found = this.lexer.state.inLink ? null : /^\[\^(\d{1,4})\](?!\()/.exec(src);
    return found ? { type: "footnoteMark", raw: found[0], label: found[1] } : undefined;
  },
};

function mathToken(found: RegExpExecArray, display: boolean): MathToken {
  return { type: "math", raw: found[0], text: (found[1] ?? found[2] ?? "").trim(), display };
}

function indexOr(src: string, pattern: RegExp): number | undefined {
  const found = pattern.exec(src);
  if (!found) return undefined;
  return found[0].startsWith("\n") ? found.index + 1 : found.index;
}

/** What `Marked` would make of the extensions. Written out, its parser and renderer stay out of the page. */
const options = {
  ...defaults,
  gfm: true,
  extensions: {
    renderers: {},
    childTokens: {},
    block: [blockMath.tokenizer, footnote.tokenizer],
    inline: [inlineMath.tokenizer, footnoteMark.tokenizer],
    startBlock: [blockMath.start as (src: string) => number | undefined],
    startInline: [inlineMath.start as (src: string) => number | undefined],
  },
};

/** Lines longer than this are no prose; the inline rules would take seconds over them. */
const LINE_MAX = 20_000;
/** More marks of emphasis and links in one paragraph than this are no prose either; their cost is quadratic. */
const MARKS_MAX = 500;
/** Deeper than anybody writes, shallower than the stack. */
const TOO_DEEP = /^(?:[ \t]*(?:>|[-*+]|\d+[.)])){60}/;

const ALERT = /^\[!(note|tip|important|warning|caution)\][ \t]*(?:\n|$)/i;

/** The blocks of a text whose line ends are normalized. `links`: the reference definitions seen so far, added to. */
export function lexBlocks(text: string, links: Links = {}): Token[] {
  if (!isSafe(text)) return [plain(text)];
  const lexer = new Lexer(options);
  Object.assign(lexer.tokens.links, links);
  try {
    const tokens = lexer.lex(text);
    Object.assign(links, lexer.tokens.links);
    // What the rules lose is worse than what they leave unformatted.
    const whole = tokens.reduce((length, token) => length + token.raw.length, 0) === text.length;
    return whole ? tokens.map(token => alertOr(token, links)) : [plain(text)];
  } catch {
    return [plain(text)];
  }
}

function alertOr(token: Token, links: Links): Token {
  const found = token.type === "blockquote" && ALERT.exec(token.text);
  if (!found) return token;
  const kind = found[1]?.toLowerCase() as AlertToken["kind"];
  const tokens = lexBlocks(token.text.slice(found[0].length), links);
  return { type: "alert", raw: token.raw, kind, tokens };
}

function isSafe(text: string): boolean {
  let fenced = false;
  let marks = 0;
  for (let start = 0; start < text.length; ) {
    const newline = text.indexOf("\n", start);
    const end = newline < 0 ? text.length : newline;
    if (end - start > LINE_MAX) return false;
    const line = text.slice(start, end);
    start = end + 1;
    if (/^ {0,3}(?:```|~~~)/.test(line)) fenced = !fenced;
    // What a line of its own begins is taken apart on its own.
    if (fenced || line.trim() === "" || /^\s*(?:[-*+]|\d+[.)]|#{1,6})\s/.test(line)) marks = 0;
    if (fenced) continue;
    if (!line.startsWith("|")) marks += line.match(/[*_~[]/g)?.length ?? 0;
    if (marks > MARKS_MAX) return false;
    if (!fenced && TOO_DEEP.test(line)) return false;
  }
  return true;
}

function plain(text: string): Tokens.Generic {
  return { type: "plain", raw: text, text };
}

export function normalize(text: string): string {
  return text.includes("\r") ? text.replace(/\r\n?/g, "\n") : text;
}
