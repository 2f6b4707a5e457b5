import { useEffect, useState } from "react";
import { isRecovering } from "../chat/view";
import type { Link } from "../connection";
import { useI18n } from "../i18n/i18n";
import { useApp, useStore } from "../store/react";

type PillState = "connecting" | "online" | "reconnecting" | "tooMany" | "offline" | "recovering";

/** The link to the server, in one word. */
export function Pill() {
  const { t } = useI18n();
  const store = useStore();
  const link = useApp(state => state.link);
  const recovering = useApp(state => isRecovering(state.chat));
  const now = useClock(link.phase === "waiting");
  const state = pillState(link, recovering);
  const seconds = link.phase === "waiting" ? Math.max(0, Math.ceil((link.retryAt - now) / 1000)) : 0;
  const words: Record<PillState, string> = {
    connecting: t("linkConnecting"),
    online: t("linkOnline"),
    tooMany: t("linkTooMany", { seconds }),
    reconnecting: seconds > 0 ? t("linkReconnectingIn", { seconds }) : t("linkReconnecting"),
    offline: t("linkOffline"),
    recovering: t("linkRecovering"),
  };
  return (
    <div
      className="pill"
      data-state={state}
      title={link.phase === "online" ? t("linkNode", { node: link.node }) : undefined}
    >
      <span className="pill-dot" aria-hidden="true" />
      <span className="pill-words">{words[state]}</span>
      {link.phase === "waiting" && (
        <button type="button" className="link" onClick={store.reconnectNow}>
          {t("linkNow")}
        </button>
      )}
    </div>
  );
}

function pillState(link: Link, recovering: boolean): PillState {
  switch (link.phase) {
    case "connecting":
      if (link.offline) return "offline";
      return link.first ? "connecting" : "reconnecting";
    case "waiting":
      if (link.tooMany) return "tooMany";
      return link.offline ? "offline" : "reconnecting";
    case "online":
      return recovering ? "recovering" : "online";
    default:
      return link satisfies never;
  }
}

function useClock(running: boolean): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!running) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, [running]);
  return now;
}
