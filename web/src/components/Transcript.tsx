import { useEffect, useMemo, useRef } from "react";
import { openGeneration, visibleItems } from "../chat/view";
import { useI18n } from "../i18n/i18n";
import { useApp, useStore } from "../store/react";
import { Answer } from "./Answer";
import { useFollowTail } from "./follow";
import { Icon } from "./Icon";
import { PendingItem } from "./PendingItem";
import { Question } from "./Question";
import { BOTTOM_EVENT } from "./shortcuts";

interface Props {
  readonly conversation: string | null;
  readonly model: string | undefined;
  readonly onSend: (content: string, parent?: string | null) => void;
}

export function Transcript({ conversation, model, onSend }: Props) {
  const { t } = useI18n();
  const store = useStore();
  const thread = useApp(state => (conversation === null ? undefined : state.chat.threads[conversation]));
  const pending = useApp(state => state.chat.pending);
  const streaming = useApp(state => openGeneration(state.chat, thread) !== null);
  const items = useMemo(() => visibleItems(thread, pending, conversation), [thread, pending, conversation]);
  const first = items[0]?.kind === "message" ? items[0].id : null;
  const { scroller, content, following, toBottom } = useFollowTail(first);
  const sent = pending.length > 0 ? pending[pending.length - 1]?.request_id : undefined;
  const seen = useRef<string>(undefined);
  useEffect(() => {
    // What I send I want to see, wherever I had scrolled to.
    if (sent !== undefined && sent !== seen.current) toBottom();
    seen.current = sent;
  }, [sent, toBottom]);
  useEffect(() => {
    document.addEventListener(BOTTOM_EVENT, toBottom);
    return () => document.removeEventListener(BOTTOM_EVENT, toBottom);
  }, [toBottom]);
  const load = thread?.load ?? "none";
  return (
    <div className="transcript-frame">
      <div
        className="transcript"
        ref={scroller}
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label={t("transcript")}
        aria-busy={streaming}
      >
        <div className="transcript-content" ref={content}>
          {conversation !== null && thread?.older && (
            <button type="button" className="quiet older" onClick={() => void store.older(conversation)}>
              {t("loadOlder")}
            </button>
          )}
          {load === "loading" && items.length === 0 && <Skeleton label={t("loadingMessages")} />}
          {load === "failed" && conversation !== null && (
            <p className="centered-note">
              {t("threadFailed")}{" "}
              <button type="button" className="link" onClick={() => void store.reload(conversation)}>
                {t("tryAgain")}
              </button>
            </p>
          )}
          {items.map((item, i) =>
            item.kind === "message" ? (
              <MessageItem
                key={item.id}
                id={item.id}
                last={i === items.length - 1}
                model={model}
                onSend={onSend}
              />
            ) : (
              <PendingItem key={item.pending.request_id} pending={item.pending} />
            ),
          )}
        </div>
      </div>
      {!following && (
        <button type="button" className="to-bottom" onClick={toBottom} title={t("jumpDown")}>
          <Icon name="arrowDown" size={16} />
          {t("newBelow")}
        </button>
      )}
    </div>
  );
}

interface ItemProps {
  readonly id: string;
  readonly last: boolean;
  readonly model: string | undefined;
  readonly onSend: (content: string, parent?: string | null) => void;
}

function MessageItem({ id, last, model, onSend }: ItemProps) {
  const message = useApp(state => state.chat.messages[id]);
  if (!message) return null;
  if (message.role === "user") return <Question message={message} onSend={onSend} />;
  return <Answer message={message} last={last} model={model} onSend={onSend} />;
}

function Skeleton({ label }: { label: string }) {
  return (
    <div className="thread-skeleton">
      <span className="visually-hidden">{label}</span>
      <span aria-hidden="true" />
      <span aria-hidden="true" />
      <span aria-hidden="true" />
    </div>
  );
}
