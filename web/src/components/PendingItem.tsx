import { useState } from "react";
import type { Pending } from "../chat/state";
import { useI18n } from "../i18n/i18n";
import { PlainText } from "../markdown/portions";
import { HOPELESS, RETRYABLE } from "../store/outbox";
import { saveDraft } from "../store/preferences";
import { useApp, useStore } from "../store/react";
import { Dots } from "./AnswerState";
import { DRAFT_EVENT } from "./Composer";

/** What is on its way to the server, or was refused by it. */
export function PendingItem({ pending }: { pending: Pending }) {
  const { t, error } = useI18n();
  const store = useStore();
  const online = useApp(state => state.link.phase === "online");
  const takeBack = () => {
    store.discardPending(pending.request_id);
    if (pending.kind !== "send") return;
    saveDraft(pending.conversation, pending.content);
    document.dispatchEvent(new Event(DRAFT_EVENT));
  };
  return (
    <>
      {pending.kind === "send" && (
        <article className="message question" data-pending="true">
          <h2 className="visually-hidden">{t("you")}</h2>
          <div className="bubble" dir="auto">
            <PlainText text={pending.content} />
          </div>
        </article>
      )}
      <div className="message answer" data-pending="true">
        {pending.error === null ? (
          <p className="progress">
            <Dots /> {online ? t("sending") : t("sendingOffline")}
          </p>
        ) : (
          <div className="ending" data-kind="failed" role="alert">
            <p>
              <strong>{t("sendFailed")}.</strong> {error(pending.error.code)}{" "}
              <WhenItGoesOn key={pending.error.retry_after_ms} refusal={pending.error} />
            </p>
            {pending.error.message && <p className="ending-detail">{pending.error.message}</p>}
            <div className="ending-buttons">
              {!HOPELESS.has(pending.error.code) && (
                <button
                  type="button"
                  className="secondary"
                  onClick={() => store.retryPending(pending.request_id)}
                >
                  {t("retry")}
                </button>
              )}
              <button type="button" className="secondary" onClick={takeBack}>
                {pending.kind === "send" ? t("editAgain") : t("discard")}
              </button>
            </div>
          </div>
        )}
        <div className="actions" />
      </div>
    </>
  );
}

/** What the page does by itself soon, and what its reader can do later. */
function WhenItGoesOn({ refusal }: { refusal: NonNullable<Pending["error"]> }) {
  const { t, duration, language } = useI18n();
  const [refusedAt] = useState(Date.now);
  const wait = refusal.retry_after_ms;
  if (wait === undefined) return null;
  if (RETRYABLE.has(refusal.code)) return t("sentAgainIn", { time: duration(Math.max(wait, 1_000)) });
  const time = new Date(refusedAt + wait).toLocaleString(language, {
    weekday: "long",
    hour: "2-digit",
    minute: "2-digit",
  });
  return t("goesOnAt", { time });
}
