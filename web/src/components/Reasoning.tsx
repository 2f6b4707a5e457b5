import { useEffect, useState } from "react";
import { useI18n } from "../i18n/i18n";
import { Markdown } from "../markdown/Markdown";
import { Icon } from "./Icon";

interface Props {
  readonly message: string;
  readonly text: string;
  readonly thinking: boolean;
}

/** How the model thought: folded, with the time it takes. The time is known only to a tab that watched. */
export function Reasoning({ message, text, thinking }: Props) {
  const { t, duration } = useI18n();
  const [open, setOpen] = useState(false);
  const [seen, setSeen] = useState<Thinking | null>(() => recall(message));
  useEffect(() => {
    if (!thinking) return;
    const from = recall(message)?.from ?? Date.now();
    const measure = () => {
      const now = { from, to: Date.now() };
      remember(message, now);
      setSeen(now);
    };
    const timer = setInterval(measure, 100);
    return () => {
      clearInterval(timer);
      measure();
    };
  }, [message, thinking]);
  const elapsed = seen === null ? 0 : Math.max(0, seen.to - seen.from);
  const words = thinking
    ? t("thinking", { time: duration(elapsed) })
    : elapsed > 0
      ? t("thoughtFor", { time: duration(elapsed) })
      : t("thought");
  return (
    <div className="reasoning" data-thinking={thinking}>
      <button type="button" className="reasoning-toggle" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name={open ? "down" : "right"} size={16} />
        <span>{words}</span>
      </button>
      {open && (
        <div className="reasoning-text">
          <Markdown text={text} streaming={thinking} />
        </div>
      )}
    </div>
  );
}

/** From when to when a tab saw a model think, by the clock. */
interface Thinking {
  readonly from: number;
  readonly to: number;
}

/** Outlives a reload, not the tab. */
function remember(message: string, seen: Thinking): void {
  try {
    sessionStorage.setItem(key(message), JSON.stringify(seen));
  } catch {
    // Without storage it is known until the reload.
  }
}

function recall(message: string): Thinking | null {
  try {
    return JSON.parse(sessionStorage.getItem(key(message)) ?? "null");
  } catch {
    return null;
  }
}

const key = (message: string) => `chatnode.thinking.${message}`;
