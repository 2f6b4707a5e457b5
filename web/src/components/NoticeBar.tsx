import { useEffect } from "react";
import { useI18n } from "../i18n/i18n";
import type { Notice } from "../store/core";
import { useApp, useStore } from "../store/react";
import { Icon } from "./Icon";

const SHOWN_MS = 6_000;

export function NoticeBar() {
  const { t, error } = useI18n();
  const store = useStore();
  const notice = useApp(state => state.notice);
  const deletedTitle = useApp(state =>
    state.notice?.kind === "deleted"
      ? (state.chat.conversations[state.notice.conversation]?.title ?? "")
      : "",
  );
  useEffect(() => {
    if (notice === null) return;
    const timer = setTimeout(store.dismissNotice, SHOWN_MS);
    return () => clearTimeout(timer);
  }, [notice, store]);
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
        <div className="notice" data-kind={notice.kind} key={notice.id}>
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
