import { useMemo } from "react";
import { type Group, groupByDate } from "../chat/view";
import { type I18n, useI18n } from "../i18n/i18n";
import { useApp, useStore } from "../store/react";
import { openConversation } from "../store/route";
import { ConversationRow } from "./ConversationRow";
import type { Found } from "./Sidebar";

interface Props {
  readonly found: Found | null;
  readonly q: string;
  readonly onOpen: (conversation: string) => void;
}

export function ConversationList({ found, q, onOpen }: Props) {
  const i18n = useI18n();
  const { t } = i18n;
  const store = useStore();
  const conversations = useApp(state => state.chat.conversations);
  const hidden = useApp(state => state.hidden);
  const list = useApp(state => state.list);
  const open = useApp(state => openConversation(state.route));
  const shown = useMemo(() => {
    const all =
      found?.state === "found"
        ? found.items.map(c => conversations[c.id] ?? c)
        : Object.values(conversations);
    return all.filter(c => !hidden.includes(c.id));
  }, [conversations, found, hidden]);
  const groups = useMemo(() => groupByDate(shown, new Date()), [shown]);
  const row = (group: Group) =>
    group.items.map(c => (
      <ConversationRow key={c.id} conversation={c} open={c.id === open} onOpen={onOpen} />
    ));

  if (found !== null && found.state !== "found") {
    return <p className="list-note">{found.state === "failed" ? t("loadFailed") : t("loadingMessages")}</p>;
  }
  if (found?.state === "found" && shown.length === 0)
    return <p className="list-note">{t("searchEmpty", { q })}</p>;
  return (
    <div className="conversations">
      {found === null && list.load === "loading" && <Skeleton />}
      {found === null && list.load === "failed" && (
        <p className="list-note">
          {t("loadFailed")}{" "}
          <button type="button" className="link" onClick={store.listRetry}>
            {t("tryAgain")}
          </button>
        </p>
      )}
      {found === null && list.load === "ready" && shown.length === 0 && (
        <p className="list-note">{t("noConversations")}</p>
      )}
      {groups.map(group => (
        <section key={group.key} aria-label={groupName(group, i18n)}>
          <h2>{groupName(group, i18n)}</h2>
          <ul>{row(group)}</ul>
        </section>
      ))}
      {found === null && list.next !== null && (
        <button type="button" className="quiet more" onClick={store.listMore}>
          {t("loadMore")}
        </button>
      )}
    </div>
  );
}

function groupName({ name }: Group, { t, language }: I18n): string {
  if (typeof name === "string") return t(name);
  const words = name.month.toLocaleDateString(language === "vi" ? "vi-VN" : "en", {
    month: "long",
    year: "numeric",
  });
  return words.charAt(0).toLocaleUpperCase() + words.slice(1);
}

function Skeleton() {
  return (
    <div className="skeleton" aria-hidden="true">
      <span />
      <span />
      <span />
    </div>
  );
}
