import { useEffect, useState } from "react";
import { useI18n } from "../i18n/i18n";
import type { Notice } from "../store/core";
import { useApp, useStore } from "../store/react";
import { Icon } from "./Icon";

const SHOWN_MS = 8_000;

export function NoticeBar() {
  const { t, error } = useI18n();
  const store = useStore();
  const notice = useApp(state => state.notice);
  const deletedTitle = useApp(state =>
    state.notice?.kind === "deleted"
      ? (state.chat.conversations[state.notice.conversation]?.title ?? "")
      : "",
  );
  // Whoever points at it, or came to it by keys, reads it or is about to undo something.
  const [held, setHeld] = useState<number | null>(null);
  useEffect(() => {
    if (notice === null || held === notice.id) return;
    const timer = setTimeout(store.dismissNotice, SHOWN_MS);
    return () => clearTimeout(timer);
  }, [notice, held, store]);
  const words = (shown: Notice) => {
    switch (shown.kind) {
      case "deleted":
        return t("deleted", { title: deletedTitle || t("untitled") });
      case "imported":
        return t("imported", { count: shown.count });
      case "error":
        return error(shown.code);
      default:
        return shown satisfies never;
    }
  };
  return (
    <div className="notices" role="status">
      {notice !== null && (
        // biome-ignore lint/a11y/noStaticElementInteractions: it only stays for longer
        <div
          className="notice"
          data-kind={notice.kind}
          key={notice.id}
          onPointerEnter={() => setHeld(notice.id)}
          onPointerLeave={() => setHeld(null)}
          onFocus={() => setHeld(notice.id)}
          onBlur={() => setHeld(null)}
        >
          <span>{words(notice)}</span>
          {notice.kind === "deleted" && (
            <button type="button" className="link" onClick={() => store.undoRemove(notice.conversation)}>
              {t("undo")}
            </button>
          )}
          <button
            type="button"
            className="icon-button small"
            onClick={store.dismissNotice}
            aria-label={t("dismiss")}
          >
            <Icon name="close" size={14} />
          </button>
        </div>
      )}
    </div>
  );
}
