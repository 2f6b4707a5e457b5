import type { Token, Tokens } from "marked";
import { memo, type ReactNode, useRef } from "react";
import { useI18n } from "../i18n/i18n";
import { CodeBlock } from "./CodeBlock";
import { Formula } from "./Formula";
import { FootnoteMark, Inline } from "./Inline";
import type { AlertToken, FootnoteToken, MathToken } from "./lexer";
import { PlainText, useGrowing, usePortions } from "./portions";
import { type Parsed, parse } from "./stream";

/** An answer's text as React elements. While it streams, only the last blocks are new objects, so only they render. */
export const Markdown = memo(function Markdown({ text, streaming }: { text: string; streaming: boolean }) {
  const parsed = useRef<Parsed>(undefined);
  // Kept from render to render as a cache: the same text gives the same blocks with or without it.
  parsed.current = parse(text, streaming, parsed.current);
  const { blocks } = parsed.current;
  const depths = headingDepths(blocks);
  const drawn = useGrowing(blocks.length, streaming);
  const settled = streaming ? blocks.length - GROWING_BLOCKS : blocks.length;
  return (
    <div className="markdown">
      {Array.from({ length: Math.ceil(drawn / STRETCH_BLOCKS) }, (_, i) => {
        const from = i * STRETCH_BLOCKS;
        const to = Math.min(from + STRETCH_BLOCKS, drawn);
        const live = Math.min(to, Math.max(from, settled));
        return <Stretch key={from} blocks={blocks} from={from} to={to} live={live} depths={depths} />;
      })}
    </div>
  );
});

/** The last ones may still grow. */
const GROWING_BLOCKS = 2;
/** So many blocks are one for the layout, and for React while none of them changes: a token costs the same at the end
 *  of a long answer as at its beginning. */
const STRETCH_BLOCKS = 32;

interface StretchProps {
  readonly blocks: readonly Token[];
  readonly from: number;
  readonly to: number;
  /** From this one on they may still grow. */
  readonly live: number;
  readonly depths: string;
}

const Stretch = memo(
  function Stretch({ blocks, from, to, live, depths }: StretchProps) {
    return (
      <div className="stretch">
        {blocks.slice(from, to).map((block, i) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: blocks never move
          <Block key={i} token={block} depths={depths} live={from + i >= live} dir="auto" />
        ))}
      </div>
    );
  },
  (before, after) => {
    if (before.to !== after.to || before.live !== after.live || before.depths !== after.depths) return false;
    for (let i = after.from; i < after.to; i++) if (before.blocks[i] !== after.blocks[i]) return false;
    return true;
  },
);

/** The depths of headings that occur, as digits: a string, since it is compared at every rendering. */
function headingDepths(blocks: readonly Token[]): string {
  const found = new Set<number>();
  for (const block of blocks) if (block.type === "heading") found.add((block as Tokens.Heading).depth);
  return [...found].sort().join("");
}

interface BlockProps {
  readonly token: Token;
  /** May still grow, so nothing slow is done with it yet. */
  readonly live: boolean;
  readonly depths: string;
  /** The outermost block goes the way its first letter is written, and everything in it with it. */
  readonly dir?: "auto";
}

const Block = memo(function Block({ token, live, depths, dir }: BlockProps): ReactNode {
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading":
      return <Heading token={token as Tokens.Heading} depths={depths} dir={dir} />;
    case "paragraph":
      return (
        <p dir={dir}>
          <Inline tokens={(token as Tokens.Paragraph).tokens} />
        </p>
      );
    case "text":
      return <Inline tokens={(token as Tokens.Text).tokens ?? [token]} />;
    case "code":
      return (
        <CodeBlock
          text={(token as Tokens.Code).text}
          language={(token as Tokens.Code).lang ?? ""}
          live={live}
        />
      );
    case "blockquote":
      return (
        <blockquote dir={dir}>
          <Blocks tokens={(token as Tokens.Blockquote).tokens} live={live} />
        </blockquote>
      );
    case "alert":
      return <Alert token={token as AlertToken} live={live} dir={dir} />;
    case "footnote":
      return (
        <p className="footnote" dir={dir}>
          <FootnoteMark label={(token as FootnoteToken).label} of="note" />{" "}
          <Inline tokens={(token as FootnoteToken).tokens ?? []} />
        </p>
      );
    case "list":
      return <List token={token as Tokens.List} live={live} dir={dir} />;
    case "table":
      return <Table token={token as Tokens.Table} dir={dir} />;
    case "hr":
      return <hr />;
    case "math":
      return <Formula text={(token as MathToken).text} source={token.raw} display />;
    default:
      // HTML, and whatever the rules could not take apart, is shown as it was written.
      return (
        <p className="literal" dir={dir}>
          <PlainText text={token.raw.trimEnd()} />
        </p>
      );
  }
});

function Blocks({ tokens, live }: { tokens: readonly Token[]; live: boolean }): ReactNode {
  // biome-ignore lint/suspicious/noArrayIndexKey: blocks never move
  return tokens.map((token, i) => <Block key={i} token={token} live={live} depths="" />);
}

/** Its name is of the page's language, and says nothing of the way that the answer is written. */
function Alert({ token, live, dir }: { token: AlertToken; live: boolean; dir?: "auto" }) {
  const { t } = useI18n();
  return (
    <div className="alert" data-kind={token.kind} role="note" dir={dir}>
      <p className="alert-name">
        <bdi>{t(`alert.${token.kind}`)}</bdi>
      </p>
      <Blocks tokens={token.tokens} live={live} />
    </div>
  );
}

/** Headings of an answer stand below the page's own and leave out no level, whichever ones the model uses: a reader who
 *  goes by headings finds the same outline as one who goes by their sizes. */
function Heading({ token, depths, dir }: { token: Tokens.Heading; depths: string; dir?: "auto" }) {
  const rank = Math.max(0, depths.indexOf(String(token.depth)));
  const Tag = (["h3", "h4", "h5", "h6"] as const)[rank] ?? "h6";
  return (
    <Tag className={`heading-${token.depth}`} dir={dir}>
      <Inline tokens={token.tokens} />
    </Tag>
  );
}

const ITEMS_AT_ONCE = 300;

function List({ token, live, dir }: { token: Tokens.List; live: boolean; dir?: "auto" }) {
  const { shown, more } = usePortions(token.items.length, live ? token.items.length : ITEMS_AT_ONCE);
  const items = token.items.slice(0, shown).map((item, i) => (
    // biome-ignore lint/suspicious/noArrayIndexKey: items never move
    <li key={i} className={item.task ? "task" : undefined}>
      <Item item={item} live={live} />
    </li>
  ));
  const Tag = token.ordered ? "ol" : "ul";
  const start = token.ordered && token.start !== "" ? token.start : undefined;
  return (
    <>
      <Tag start={start} dir={dir}>
        {items}
      </Tag>
      {more}
    </>
  );
}

/** In a long list that is being written only the last item is new. */
const Item = memo(
  function Item({ item, live }: { item: Tokens.ListItem; live: boolean }) {
    const tokens = item.tokens.filter(token => token.type !== "checkbox");
    return (
      <>
        {item.task && (
          <input
            type="checkbox"
            checked={item.checked ?? false}
            disabled
            aria-label={item.text.slice(0, 60)}
          />
        )}
        <Blocks tokens={tokens} live={live} />
      </>
    );
  },
  // Once it is written, a definition below it may have changed its links.
  (before, after) =>
    before.live && after.live && before.item.raw === after.item.raw && before.item.loose === after.item.loose,
);

const CELLS_AT_ONCE = 1_500;

function Table({ token, dir }: { token: Tokens.Table; dir?: "auto" }) {
  const { t } = useI18n();
  const rowsAtOnce = Math.max(4, Math.ceil(CELLS_AT_ONCE / token.header.length));
  const { shown, more } = usePortions(token.rows.length, rowsAtOnce);
  const cell = (Tag: "th" | "td", content: Tokens.TableCell, i: number) => (
    <Tag key={i} className={content.align ? `align-${content.align}` : undefined}>
      <Inline tokens={content.tokens} />
    </Tag>
  );
  return (
    <>
      {/* biome-ignore lint/a11y/useSemanticElements: a fieldset holds fields; and an answer may hold too many for landmarks */}
      <div className="table-scroll" role="group" tabIndex={0} aria-label={t("table")}>
        <table dir={dir}>
          <thead>
            <tr>
              {token.header.map((content, i) => cell(content.text.trim() === "" ? "td" : "th", content, i))}
            </tr>
          </thead>
          <tbody>
            {token.rows.slice(0, shown).map((row, i) => (
              // biome-ignore lint/suspicious/noArrayIndexKey: rows never move
              <tr key={i}>{row.map((content, j) => cell("td", content, j))}</tr>
            ))}
          </tbody>
        </table>
      </div>
      {more}
    </>
  );
}
