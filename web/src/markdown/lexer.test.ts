import type { Token } from "marked";
import { describe, expect, test } from "vitest";
import { lexBlocks } from "./lexer";
import { parse } from "./stream";

/** A token with what it says and what is in it, for people to read. */
function outline(token: Token): unknown {
  const { type, kind, label, tokens, items } = token as Token & Record<string, unknown>;
  const inner = ((tokens ?? items ?? []) as Token[]).map(outline);
  const name = [type, kind ?? label].filter(Boolean).join(" ");
  return inner.length === 0 ? (type === "text" ? token.raw : name) : { [name]: inner };
}

const outlines = (text: string) => lexBlocks(text).map(outline);

describe("alerts", () => {
  test.each(["NOTE", "tip", "Important", "WARNING", "CAUTION"])(
    "a quote that begins with [!%s] is one",
    word => {
      const expected = [
        { [`alert ${word.toLowerCase()}`]: [{ paragraph: ["Mind ", { strong: ["this"] }] }, "space", "hr"] },
      ];
      expect(outlines(`> [!${word}]\n> Mind **this**\n> \n> ---`)).toEqual(expected);
    },
  );

  test.each([
    "> [!NOTE] on the same line",
    "> [!DANGER]\n> a kind that nobody knows",
    "> Text\n> [!NOTE]",
    "> > [!NOTE]\n> > deep",
    "- > [!NOTE]\n  > deep",
    "[!NOTE]\ntext",
    "> \\[!NOTE]\n> text",
  ])("%j is none", text => {
    expect(JSON.stringify(outlines(text))).not.toContain("alert");
  });

  test("may be empty, while its text is still to come", () => {
    expect(outlines("> [!NOTE]")).toEqual(["alert note"]);
    expect(outlines("> [!NOTE]  \n> ")).toEqual(["alert note"]);
  });

  test("knows the links that are defined below it", () => {
    const text = "> [!TIP]\n> See [it][1].\n\nMore.\n\n[1]: https://a.b";
    expect(JSON.stringify(lexBlocks(text)[0])).toContain('"href":"https://a.b"');
    expect(parse(text, false, parse(text.slice(0, 40), true)).blocks).toEqual(lexBlocks(text));
  });

  test("one in which nothing can be formatted is shown as it was written", () => {
    const text = `> [!NOTE]\n> ${"a".repeat(19_990)}\n> ${"*".repeat(501)}`;
    expect(lexBlocks(text)[0]).toMatchObject({ type: "plain", raw: text });
  });
});

describe("footnotes", () => {
  test("have a mark in the text and a line of their own", () => {
    expect(outlines("It is so.[^1] And so.[^20]\n\n[^1]: *Said* by him.\n[^20]: https://a.b")).toEqual([
      { paragraph: ["It is so.", "footnoteMark 1", " And so.", "footnoteMark 20"] },
      "space",
      { "footnote 1": [{ em: ["Said"] }, " by him."] },
      { "footnote 20": [{ link: ["https://a.b"] }] },
    ]);
  });

  test.each([
    "[^a-z]",
    "[^]",
    "[^ 1]",
    "[^12345]",
    "`[^1]`",
    "\\[^1]",
    "[^1](https://a.b)",
    "[a [^1] b](https://a.b)",
  ])("%j is none", text => {
    expect(JSON.stringify(outlines(`x ${text} y`))).not.toContain("footnote");
  });

  test.each(["[^a]: text", "    [^1]: code", "text\n[^1]: the paragraph goes on"])(
    "%j defines none",
    text => {
      expect(JSON.stringify(outlines(text))).not.toContain('"footnote 1');
    },
  );
});
