import { memo, type ReactNode, useEffect, useRef, useState } from "react";
import { useI18n } from "../i18n/i18n";
import type { Highlighted } from "./highlight";

export const CodeBlock = memo(function CodeBlock(props: { text: string; language: string; live: boolean }) {
  const { text, live } = props;
  const { t } = useI18n();
  const language = /^[\w+#.-]{1,24}/.exec(props.language)?.[0] ?? "";
  const parts = useHighlight(text, language, live);
  return (
    <figure className="code-block">
      <figcaption>
        <span>{language || t("code")}</span>
        <CopyButton text={text} label={t("copyCode")} />
      </figcaption>
      <pre tabIndex={0}>
        <code>{parts ? parts.map(draw) : text}</code>
      </pre>
    </figure>
  );
});

function draw(part: Highlighted, key: number): ReactNode {
  if (typeof part === "string") return part;
  return (
    <span key={key} className={part.className}>
      {part.children.map(draw)}
    </span>
  );
}

/** Larger listings stay plain: colouring them would hold the page up. */
const HIGHLIGHT_MAX = 60_000;
/** While the block grows it is coloured at this pace, and the newest lines are plain in between. */
const LIVE_MS = 400;
const LIVE_MAX = 6_000;

function useHighlight(text: string, language: string, live: boolean): readonly Highlighted[] | null {
  const [result, setResult] = useState<{ text: string; parts: readonly Highlighted[] } | null>(null);
  const latest = useRef(text);
  latest.current = text;
  const colour = useRef<() => void>(undefined);
  useEffect(() => {
    let gone = false;
    if (language === "" || text.length > (live ? LIVE_MAX : HIGHLIGHT_MAX)) return;
    colour.current = () => {
      const source = latest.current;
      import("./highlight")
        .then(({ highlight }) => highlight(source, language))
        .then(parts => {
          if (!gone && parts) setResult({ text: source, parts });
        })
        .catch(() => {});
    };
    if (!live) colour.current();
    const timer = live ? setTimeout(colour.current, LIVE_MS) : undefined;
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [text, language, live]);
  if (!result) return null;
  if (result.text === text) return result.parts;
  return text.startsWith(result.text) ? [...result.parts, text.slice(result.text.length)] : null;
}

const COPIED_MS = 1_600;

export function CopyButton({ text, label, children }: { text: string; label: string; children?: ReactNode }) {
  const { t } = useI18n();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), COPIED_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <button
      type="button"
      className={children ? "icon-button" : "copy"}
      aria-label={copied ? t("copied") : label}
      title={copied ? t("copied") : label}
      onClick={() => copy(text).then(setCopied)}
    >
      {children && !copied ? children : copied ? t("copied") : t("copy")}
    </button>
  );
}

async function copy(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages served over plain HTTP have no clipboard; the old command still works there.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
