import { memo } from "react";
import { isEnded } from "../chat/state";
import { useI18n } from "../i18n/i18n";
import { CopyButton } from "../markdown/CodeBlock";
import { Markdown } from "../markdown/Markdown";
import type { Message } from "../protocol.gen";
import { useApp, useStore } from "../store/react";
import { AnswerEnd, AnswerProgress } from "./AnswerState";
import { Branches } from "./Branches";
import { Icon } from "./Icon";
import { Measures } from "./Measures";
import { Reasoning } from "./Reasoning";
import { EDIT_EVENT, focusComposer } from "./shortcuts";

interface Props {
  readonly message: Message;
  readonly last: boolean;
  readonly model: string | undefined;
  readonly onSend: (content: string, parent?: string | null) => void;
}

export const Answer = memo(function Answer({ message, last, model, onSend }: Props) {
  const { t } = useI18n();
  const store = useStore();
  const generation = useApp(state =>
    message.generation === undefined ? undefined : state.chat.generations[message.generation],
  );
  const open = !isEnded(message.status);
  const text = open ? (generation?.text ?? message.content) : message.content;
  const reasoning = open ? (generation?.reasoning ?? message.reasoning ?? "") : (message.reasoning ?? "");
  const retry = () => {
    store.regenerate(message.conversation, message.id, model);
    focusComposer();
  };
  const again = t("regenerate");
  return (
    <article
      className="message answer"
      data-message={message.id}
      data-status={message.status}
      aria-busy={open}
    >
      <h2 className="visually-hidden">{t("assistant")}</h2>
      {reasoning !== "" && <Reasoning message={message.id} text={reasoning} thinking={open && text === ""} />}
      {text !== "" && <Markdown text={text} streaming={open} />}
      {open ? (
        <AnswerProgress
          generation={generation ?? null}
          begun={text !== ""}
          thinking={reasoning !== "" && text === ""}
        />
      ) : (
        <AnswerEnd
          message={message}
          onRetry={retry}
          onContinue={() => {
            onSend(t("continuePrompt"), message.id);
            focusComposer();
          }}
          onEdit={() => document.dispatchEvent(new CustomEvent(EDIT_EVENT, { detail: message.parent }))}
        />
      )}
      <div className="actions" data-last={last} data-open={open}>
        {!open && (
          <>
            <Branches message={message} />
            {text !== "" && (
              <CopyButton text={text} label={t("copyAnswer")}>
                <Icon name="copy" size={16} />
              </CopyButton>
            )}
            <button type="button" className="icon-button" aria-label={again} title={again} onClick={retry}>
              <Icon name="redo" size={16} />
            </button>
            <Measures message={message} />
          </>
        )}
      </div>
    </article>
  );
});
