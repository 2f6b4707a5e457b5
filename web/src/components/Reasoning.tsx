import { useEffect, useRef, useState } from "react";
import { useI18n } from "../i18n/i18n";
import { Markdown } from "../markdown/Markdown";
import { Icon } from "./Icon";

/** How the model thought: folded, with the time it takes. The time is known only to a page that watched. */
export function Reasoning({ text, thinking }: { text: string; thinking: boolean }) {
  const { t, duration } = useI18n();
  const [open, setOpen] = useState(false);
  const started = useRef(thinking ? performance.now() : null);
  const [elapsed, setElapsed] = useState(0);
  useEffect(() => {
    if (!thinking || started.current === null) return;
    const from = started.current;
    const measure = () => setElapsed(performance.now() - from);
    const timer = setInterval(measure, 100);
    return () => {
      measure();
      clearInterval(timer);
    };
  }, [thinking]);
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
