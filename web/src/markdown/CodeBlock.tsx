import { memo, type ReactNode, type RefObject, useEffect, useRef, useState } from "react";
import { useI18n } from "../i18n/i18n";
import { Growing } from "./Growing";
import type { Highlighted } from "./highlight";

export const CodeBlock = memo(function CodeBlock(props: { text: string; language: string; live: boolean }) {
  const { text, live } = props;
  const { t } = useI18n();
  const language = /^[\w+#.-]{1,24}/.exec(props.language)?.[0] ?? "";
  const code = useRef<HTMLElement>(null);
  const coloured = useHighlight(text, language, live, code);
  return (
    <figure className="code-block">
      <figcaption>
        <span>{language || t("code")}</span>
        <CopyButton text={text} label={t("copyCode")} />
      </figcaption>
      <pre tabIndex={0} dir="ltr">
        <code ref={code}>
          {coloured?.parts.map(draw)}
          <Growing text={text.slice(coloured?.text.length ?? 0)} />
        </code>
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
/** While the block grows it is coloured at this pace, and the newest wanted are plain in between. */
const LIVE_MS = 400;
const LIVE_MAX = 6_000;

/** The beginning of a listing, as far as it has its colours. */
interface Coloured {
  readonly text: string;
  readonly parts: readonly Highlighted[];
}

function useHighlight(
  text: string,
  language: string,
  live: boolean,
  target: RefObject<HTMLElement | null>,
): Coloured | null {
  const [result, setResult] = useState<Coloured | null>(null);
  const latest = useRef(text);
  latest.current = text;
  // What grows is coloured from time to time, however fast it grows.
  const source = live ? "" : text;
  const wanted = text.length > (live ? LIVE_MAX : HIGHLIGHT_MAX) || language === "" ? null : source;
  useEffect(() => {
    if (wanted === null) return;
    let gone = false;
    let coloured = "";
    const colour = async () => {
      const now = latest.current;
      // The colours come as other elements, and would take away what is selected in these.
      if (now === coloured || isSelected(target.current)) return;
      coloured = now;
      const { highlight } = await import("./highlight");
      const parts = await highlight(now, language);
      if (isSelected(target.current)) coloured = "";
      else if (!gone && parts) setResult({ text: now, parts });
    };
    const tryTo = () => colour().catch(() => {});
    if (!live) void tryTo();
    const timer = setInterval(() => {
      if (live || coloured !== latest.current) void tryTo();
      else clearInterval(timer);
    }, LIVE_MS);
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [wanted, language, live, target]);
  return result && text.startsWith(result.text) ? result : null;
}

function isSelected(element: HTMLElement | null): boolean {
  const selection = getSelection();
  return (
    element !== null && selection !== null && !selection.isCollapsed && selection.containsNode(element, true)
  );
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
      onClick={event => copy(text, event.currentTarget).then(setCopied)}
    >
      {children && !copied ? children : copied ? t("copied") : t("copy")}
    </button>
  );
}

async function copy(text: string, button: HTMLElement): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages served over plain HTTP have no clipboard; the old command still works there, and beside the button also in a
    // dialog, around which nothing can be selected.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    button.after(area);
    area.select();
    const selected = document.activeElement === area;
    const done = selected && document.execCommand("copy");
    area.remove();
    button.focus();
    return done;
  }
}
