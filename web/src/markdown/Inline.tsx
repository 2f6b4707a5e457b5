import type { Token, Tokens } from "marked";
import { type ReactNode, useState } from "react";
import { useI18n } from "../i18n/i18n";
import { decodeReferences, hostOf, safeAddress } from "./addresses";
import { Formula } from "./Formula";
import { Growing } from "./Growing";
import type { FootnoteToken, MathToken } from "./lexer";

export function Inline({ tokens }: { tokens: readonly Token[] }): ReactNode {
  // biome-ignore lint/suspicious/noArrayIndexKey: what is written never moves
  return tokens.map((token, i) => <InlineToken key={i} token={token} />);
}

function InlineToken({ token }: { token: Token }): ReactNode {
  switch (token.type) {
    case "text": {
      const { tokens, text } = token as Tokens.Text;
      return tokens ? <Inline tokens={tokens} /> : <Growing text={decodeReferences(text)} />;
    }
    case "escape":
      return (token as Tokens.Escape).text;
    case "strong":
      return (
        <strong>
          <Inline tokens={(token as Tokens.Strong).tokens} />
        </strong>
      );
    case "em":
      return (
        <em>
          <Inline tokens={(token as Tokens.Em).tokens} />
        </em>
      );
    case "del":
      return (
        <del>
          <Inline tokens={(token as Tokens.Del).tokens} />
        </del>
      );
    case "codespan":
      return (
        <code>
          <Growing text={(token as Tokens.Codespan).text} />
        </code>
      );
    case "br":
      return <br />;
    case "link":
      return <Link token={token as Tokens.Link} />;
    case "footnoteMark":
      return <FootnoteMark label={(token as FootnoteToken).label} of="text" />;
    case "image":
      return <Picture token={token as Tokens.Image} />;
    case "inlineMath":
    case "math":
      return (
        <Formula text={(token as MathToken).text} source={token.raw} display={(token as MathToken).display} />
      );
    default:
      // The one tag that models use inside of tables, where Markdown has no other way to break a line.
      if (token.type === "html" && /^<br\s*\/?>$/i.test(token.raw)) return <br />;
      return token.raw;
  }
}

function Link({ token }: { token: Tokens.Link }) {
  const address = safeAddress(token.href);
  const text = <Inline tokens={token.tokens} />;
  if (address === null) return text;
  return (
    <a href={address} target="_blank" rel="noopener noreferrer nofollow" title={token.title ?? undefined}>
      {text}
    </a>
  );
}

/** Leads from a number in the text to its note, and back. The page's addresses are conversations, and other answers have
 *  notes of the same numbers: it is looked for in this one, by no id. */
export function FootnoteMark({ label, of }: { label: string; of: "text" | "note" }) {
  const other = `[data-mark=${of === "text" ? "note" : "text"}${label}]`;
  return (
    <sup>
      <a
        href={location.hash}
        role={of === "text" ? "doc-noteref" : "doc-backlink"}
        data-mark={of + label}
        onClick={event => {
          event.preventDefault();
          event.currentTarget.closest(".markdown")?.querySelector<HTMLElement>(other)?.focus();
        }}
      >
        {label}
      </a>
    </sup>
  );
}

/** A picture from elsewhere tells its server who reads this, and when: it waits for a click. Where the page's policy
 *  forbids foreign pictures even then, it becomes a link. */
function Picture({ token }: { token: Tokens.Image }) {
  const { t } = useI18n();
  const [state, setState] = useState<"asked" | "shown" | "refused">("asked");
  const address = safeAddress(token.href);
  const name = token.text || t("image");
  if (address === null || address.startsWith("mailto:")) return name;
  if (state === "shown") {
    return (
      <img
        src={address}
        alt={name}
        loading="lazy"
        referrerPolicy="no-referrer"
        onError={() => setState("refused")}
      />
    );
  }
  if (state === "refused") {
    return (
      <a href={address} target="_blank" rel="noopener noreferrer nofollow">
        {name} ({hostOf(address)})
      </a>
    );
  }
  return (
    <button type="button" className="picture" onClick={() => setState("shown")}>
      <span className="picture-name">{name}</span>
      <span>{t("loadImage", { host: hostOf(address) })}</span>
    </button>
  );
}
