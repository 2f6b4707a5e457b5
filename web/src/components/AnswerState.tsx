import type { Generation } from "../chat/state";
import { useI18n } from "../i18n/i18n";
import type { Message } from "../protocol.gen";
import { HOPELESS } from "../store/outbox";
import { Icon } from "./Icon";

interface ProgressProps {
  readonly generation: Generation | null;
  readonly begun: boolean;
  /** The reasoning says by itself that something is going on. */
  readonly thinking: boolean;
}

/** What an answer is waiting for, in words: silence is never left unexplained. */
export function AnswerProgress({ generation, begun, thinking }: ProgressProps) {
  const { t, number } = useI18n();
  if (generation?.stopping) return <p className="progress">{t("stopping")}</p>;
  if (generation?.status === "recovering") {
    return (
      <p className="progress" data-kind="recovering">
        <Dots /> {t("recovering")}
      </p>
    );
  }
  if (thinking) return null;
  if (begun) return <span className="caret" aria-hidden="true" />;
  const ahead = generation?.ahead ?? 0;
  const words =
    generation?.status === "queued"
      ? ahead > 0
        ? t("queuedAhead", { ahead: number(ahead) })
        : t("queued")
      : t("waitingFirst");
  return (
    <p className="progress">
      <Dots /> {words}
    </p>
  );
}

export function Dots() {
  return (
    <span className="dots" aria-hidden="true">
      <span />
      <span />
      <span />
    </span>
  );
}

interface EndProps {
  readonly message: Message;
  readonly onRetry: () => void;
  readonly onContinue: () => void;
  readonly onEdit: () => void;
}

/** How an answer ended, where that is not simply its last word, and what can be done about it. */
export function AnswerEnd({ message, onRetry, onContinue, onEdit }: EndProps) {
  const { t, error } = useI18n();
  const retry = (
    <button type="button" className="secondary" onClick={onRetry}>
      <Icon name="redo" size={16} /> {t("retry")}
    </button>
  );
  const goOn = message.content !== "" && (
    <button type="button" className="secondary" onClick={onContinue}>
      <Icon name="play" size={16} /> {t("continueAnswer")}
    </button>
  );
  switch (message.status) {
    case "cancelled":
      return <p className="ending">{t("cancelled")}</p>;
    case "interrupted":
      return (
        <div className="ending" data-kind="interrupted">
          <p>
            <strong>{t("interrupted")}</strong> {t("interruptedText")}
          </p>
          <div className="ending-buttons">
            {goOn}
            {retry}
          </div>
        </div>
      );
    case "failed":
      return (
        <div className="ending" data-kind="failed" role="alert">
          <p>
            <strong>{t("failedTitle")}.</strong> {error(message.error?.code ?? "unknown")}
          </p>
          {message.error?.message && <p className="ending-detail">{message.error.message}</p>}
          <div className="ending-buttons">
            {HOPELESS.has(message.error?.code ?? "") ? (
              <button type="button" className="secondary" onClick={onEdit}>
                <Icon name="edit" size={16} /> {t("edit")}
              </button>
            ) : (
              retry
            )}
            {goOn}
          </div>
        </div>
      );
    case "completed":
      if (message.finish_reason === "length") {
        return (
          <div className="ending">
            <p>{t("truncated")}</p>
            <div className="ending-buttons">{goOn}</div>
          </div>
        );
      }
      return message.content === "" ? <p className="ending">{t("emptyAnswer")}</p> : null;
    case "queued":
    case "running":
      return null;
    default:
      return message.status satisfies never;
  }
}
