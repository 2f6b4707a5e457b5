import fc from "fast-check";
import type { Token } from "marked";
import { describe, expect, test } from "vitest";
import { lexBlocks, normalize } from "./lexer";
import { repair } from "./repair";
import { type Parsed, parse } from "./stream";

const LINES = [
  "A paragraph.",
  "# Heading",
  "Setext",
  "===",
  "---",
  "- one",
  "  - nested",
  "    more of it",
  "1. first",
  "2",
  "2. second",
  "- [ ] task",
  "> quoted",
  "> - list in a quote",
  "> [!NOTE]",
  "> [!caution] ",
  ">",
  "[^1]: a *note*",
  "  [^22]:",
  "text[^1], `[^1]` and [^a-z]",
  "```js",
  "```",
  "~~~~",
  "  ```",
  "const a = `x`;",
  "| a | b |",
  "|---|:-:|",
  "| 1 | 2 |",
  "$$",
  "x^2 + y^2",
  "Price: $5 and $10, but $a_1$ is math and \\(b\\) too",
  "\\[",
  "\\]",
  "<div onclick=x>",
  "</div>",
  "    indented code",
  "**bold** _it_ ~~no~~ `code` [link](https://a.b)",
  "![image](https://a.b/c.png)",
  "Đường đi khó, không khó vì ngăn sông cách núi.",
  "",
  "",
  "",
];

const markdown = fc.array(fc.constantFrom(...LINES), { maxLength: 24 }).map(lines => lines.join("\n"));

/** What is inside of a block, but for sources and for spaces that no browser draws. */
const inside = (block: Token) =>
  JSON.stringify(block, (key, value) => {
    if (key === "raw") return undefined;
    return typeof value === "string" ? value.replace(/\s+/g, " ").trim() : value;
  });
const types = (blocks: readonly Token[]) => blocks.map(block => [block.type, block.raw, inside(block)]);

/** Feeds the text in pieces as a stream would bring it. */
function feed(text: string, cuts: readonly number[]): Parsed | undefined {
  let parsed: Parsed | undefined;
  let at = 0;
  for (const cut of [...cuts, text.length]) {
    at = Math.min(text.length, at + cut);
    parsed = parse(text.slice(0, at), true, parsed);
  }
  return parsed;
}

describe("tail parsing", () => {
  test("equals full parsing, whatever the pieces", () => {
    fc.assert(
      fc.property(markdown, fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 80 }), (text, cuts) => {
        const streamed = feed(text, cuts) as Parsed;
        const full = parse(text, true);
        expect(types(streamed.blocks)).toEqual(types(full.blocks));
        expect(types(parse(text, false, streamed).blocks)).toEqual(types(lexBlocks(text)));
      }),
      { numRuns: 1_500 },
    );
  });

  test.each([
    "a\n2. second\n- one",
    "a\n2. second\n  - nested\nA paragraph.",
    "a\n2. second\n- [ ] task\nA paragraph.",
  ])("takes back what only looked like a list: %j", text => {
    const streamed = feed(text, Array(text.length).fill(1)) as Parsed;
    expect(types(streamed.blocks)).toEqual(types(parse(text, true).blocks));
  });

  test("settles blocks, so that a token's cost does not grow with the text", () => {
    const text = Array.from({ length: 400 }, (_, i) => `Paragraph ${i} with **words**.`).join("\n\n");
    const parsed = feed(text, Array(5_000).fill(5)) as Parsed;
    expect(parsed.text.length - parsed.settledLength).toBeLessThan(200);
  });

  test("keeps the object of a block that did not change", () => {
    const one = parse("First.\n\nSecond.\n\nThi", true);
    const two = parse("First.\n\nSecond.\n\nThird", true, one);
    expect(two.blocks[0]).toBe(one.blocks[0]);
    expect(two.blocks[2]).toBe(one.blocks[2]);
    const end = parse("First.\n\nSecond.\n\nThird", false, two);
    expect(end.blocks[0]).toBe(one.blocks[0]);
  });

  test("no character of the source is lost", () => {
    fc.assert(
      fc.property(fc.oneof(markdown, fc.string({ unit: "grapheme" })), source => {
        const text = normalize(source);
        expect(
          lexBlocks(text)
            .map(block => block.raw)
            .join(""),
        ).toBe(text);
      }),
      { numRuns: 1_000 },
    );
  });

  test("a definition below its use works at the end", () => {
    const text = "See [it][1].\n\nMore.\n\nMore.\n\n[1]: https://a.b";
    const end = parse(text, false, feed(text, Array(50).fill(1)));
    expect(JSON.stringify(end.blocks[0])).toContain("https://a.b");
  });
});

describe("repair", () => {
  test.each([
    ["some **bo", "some **bo**"],
    ["some **bold** and", "some **bold** and"],
    ["some *it", "some *it*"],
    ["***both", "***both***"],
    ["a ~~gone", "a ~~gone~~"],
    ["run `cargo b", "run `cargo b`"],
    ["run `", "run "],
    ["end with **", "end with "],
    ["**bold**", "**bold**"],
    ["**bold `co", "**bold `co`**"],
    ["snake_case_name", "snake_case_name"],
    ["2 * 3 = 6", "2 * 3 = 6"],
    ["see [the li", "see the li"],
    ["see [the link](https://exa", "see the link"],
    ["see [the link](https://a.b)", "see [the link](https://a.b)"],
    ["an ![image](http", "an "],
    ["- a\n- [x", "- a\n- [x"],
    ["text\n\n[", "text\n\n"],
    ["> [!NO", "> "],
    ["> [!NOTE]", "> [!NOTE]"],
    ["text[^1", "text"],
    ["text[^1]", "text[^1]"],
    ["- [ ", "- [ "],
    ["`[not a link`", "`[not a link`"],
    ["\\*literal", "\\*literal"],
    ["**bold ", "**bold**"],
  ])("%j → %j", (half, whole) => {
    expect(repair(half)).toBe(whole);
  });

  test("never throws and never takes a letter away", () => {
    fc.assert(
      fc.property(fc.string(), text => {
        const letters = (s: string) => s.replace(/[^a-zA-Z]/g, "");
        const half = /!?\[[^[\]\n]*(\]\([^()\s]*)?$/.test(text);
        if (!half) expect(letters(repair(text))).toBe(letters(text));
        else repair(text);
      }),
    );
  });
});

describe("hostile text", () => {
  test.each([
    ["a line of a megabyte", "a".repeat(1_000_000)],
    ["brackets", "[".repeat(15_000)],
    ["stars", "*a ".repeat(6_000)],
    ["quotes in quotes", ">".repeat(5_000)],
    ["lists in lists", "- ".repeat(5_000)],
    ["open emphasis over many lines", "**a\n".repeat(5_000)],
    ["table of 10,000 cells", `|a|b|\n|-|-|\n${"|1|2|\n".repeat(5_000)}`],
    ["underscores", "_".repeat(15_000)],
    ["backticks", "`a``".repeat(4_000)],
    ["dollars", "$a ".repeat(6_000)],
    ["half links", "[a](".repeat(4_000)],
    ["an alert of a megabyte", `> [!NOTE]\n${"> text **and** more\n".repeat(50_000)}`],
    ["alerts in alerts", `${"> [!NOTE]\n".repeat(4_000)}`],
    ["alerts", "> [!NOTE]\n\n".repeat(4_000)],
    ["footnotes", "text[^1]\n\n[^1]: a\n".repeat(4_000)],
    ["footnotes' marks", "[^1]".repeat(5_000)],
  ])("%s is parsed within a second", (_name, text) => {
    const started = performance.now();
    parse(text, true, parse(text.slice(0, -1), true));
    parse(text, false);
    expect(performance.now() - started).toBeLessThan(3_000);
  });
});
