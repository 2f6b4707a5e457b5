import { memo, useCallback, useEffect, useRef, useState } from "react";
import { useI18n } from "../i18n/i18n";
import { CopyButton } from "../markdown/CodeBlock";
import { PlainText } from "../markdown/portions";
import type { Message } from "../protocol.gen";
import { Branches } from "./Branches";
import { composes, sends } from "./enter";
import { Icon } from "./Icon";
import { EDIT_EVENT, focusComposer, keepFocus } from "./shortcuts";

interface Props {
  readonly message: Message;
  readonly onSend: (content: string, parent?: string | null) => void;
}

export const Question = memo(function Question({ message, onSend }: Props) {
  const { t } = useI18n();
  const [editing, setEditing] = useState(false);
  const from = useRef<Element>(null);
  const edit = useCallback(() => {
    from.current = document.activeElement;
    setEditing(true);
  }, []);
  useEffect(() => {
    const onEdit = (event: Event) => {
      if ((event as CustomEvent<string>).detail === message.id) edit();
    };
    document.addEventListener(EDIT_EVENT, onEdit);
    return () => document.removeEventListener(EDIT_EVENT, onEdit);
  }, [message.id, edit]);
  return (
    <article className="message question" data-message={message.id} data-editing={editing}>
      <h2 className="visually-hidden">{t("you")}</h2>
      {editing ? (
        <Editor
          content={message.content}
          onCancel={() => {
            setEditing(false);
            keepFocus(() =>
              from.current?.isConnected
                ? from.current
                : document.querySelector(`[data-message="${message.id}"] .edit`),
            );
          }}
          onSend={content => {
            setEditing(false);
            onSend(content, message.parent);
            focusComposer();
          }}
        />
      ) : (
        <>
          <div className="bubble" dir="auto">
            <PlainText text={message.content} />
          </div>
          <div className="actions">
            <Branches message={message} />
            <CopyButton text={message.content} label={t("copyQuestion")}>
              <Icon name="copy" size={16} />
            </CopyButton>
            <button
              type="button"
              className="icon-button edit"
              aria-label={t("edit")}
              title={t("edit")}
              onClick={edit}
            >
              <Icon name="edit" size={16} />
            </button>
          </div>
        </>
      )}
    </article>
  );
});

interface EditorProps {
  readonly content: string;
  readonly onCancel: () => void;
  readonly onSend: (content: string) => void;
}

function Editor({ content, onCancel, onSend }: EditorProps) {
  const { t } = useI18n();
  const send = (text: string) => {
    if (text.trim() !== "") onSend(text);
  };
  return (
    <form
      className="edit-form"
      onSubmit={event => {
        event.preventDefault();
        send(String(new FormData(event.currentTarget).get("content") ?? ""));
      }}
    >
      <textarea
        name="content"
        defaultValue={content}
        aria-label={t("edit")}
        dir="auto"
        rows={3}
        // biome-ignore lint/a11y/noAutofocus: it takes the place of what was just activated
        autoFocus
        onFocus={event => event.target.setSelectionRange(content.length, content.length)}
        onKeyDown={event => {
          if (composes(event)) return;
          if (event.key === "Escape") {
            event.preventDefault();
            onCancel();
          }
          if (sends(event)) {
            event.preventDefault();
            send(event.currentTarget.value);
          }
        }}
      />
      <div className="edit-buttons">
        <button type="button" className="secondary" onClick={onCancel}>
          {t("cancel")}
        </button>
        <button type="submit" className="primary">
          {t("editSend")}
        </button>
      </div>
    </form>
  );
}
