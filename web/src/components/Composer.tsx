import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { openGeneration, waitingIn } from "../chat/view";
import { useI18n } from "../i18n/i18n";
import { loadDraft, saveDraft } from "../store/preferences";
import { useApp, useStore } from "../store/react";
import { byFinger, composes, sends } from "./enter";
import { Icon } from "./Icon";
import { ModelPicker } from "./ModelPicker";
import type { ModelChoice } from "./models";
import { COMPOSER_ID, EDIT_EVENT } from "./shortcuts";

/** Something put a text into the draft of the open conversation. */
export const DRAFT_EVENT = "chatnode:draft";

interface Props {
  readonly conversation: string | null;
  readonly model: ModelChoice;
  readonly onModel: (id: string) => void;
  readonly customized: boolean;
  readonly onOptions: () => void;
  readonly onSend: (content: string) => void;
}

const DRAFT_PAUSE_MS = 250;

export function Composer({ conversation, model, onModel, customized, onOptions, onSend }: Props) {
  const { t } = useI18n();
  const store = useStore();
  // The field is the browser's own (uncontrolled): input methods compose in it undisturbed by any rendering.
  const field = useRef<HTMLTextAreaElement>(null);
  const [filled, setFilled] = useState(() => loadDraft(conversation).trim() !== "");
  const waiting = useApp(state => waitingIn(state.chat, conversation));
  const generation = useApp(state =>
    conversation === null ? null : openGeneration(state.chat, state.chat.threads[conversation]),
  );
  const busy = waiting !== undefined || generation !== null;
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);

  useEffect(() => {
    const area = field.current;
    if (!area) return;
    const fill = () => {
      area.value = loadDraft(conversation);
      setFilled(area.value.trim() !== "");
      resize(area);
    };
    fill();
    // Under a finger the focus would bring up a keyboard that hides half of the page.
    if (!byFinger()) area.focus();
    const keep = () => {
      clearTimeout(timer.current);
      saveDraft(conversation, area.value);
    };
    document.addEventListener(DRAFT_EVENT, fill);
    addEventListener("pagehide", keep);
    return () => {
      keep();
      document.removeEventListener(DRAFT_EVENT, fill);
      removeEventListener("pagehide", keep);
    };
  }, [conversation]);

  const submit = () => {
    const area = field.current;
    if (!area || busy || area.value.trim() === "") return;
    onSend(area.value);
    // From here on the unanswered send keeps the text.
    area.value = "";
    clearTimeout(timer.current);
    saveDraft(conversation, "");
    setFilled(false);
    resize(area);
  };

  const stop = () => {
    store.stopIn(conversation);
    if (!byFinger()) field.current?.focus();
  };

  const onKey = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (composes(event)) return;
    if (sends(event)) {
      event.preventDefault();
      if (!event.repeat) submit();
    }
    if (event.key === "ArrowUp" && event.currentTarget.value === "" && conversation !== null) {
      const { chat } = store.get();
      const path = chat.threads[conversation]?.path ?? [];
      const last = path.findLast(id => chat.messages[id]?.role === "user");
      if (last === undefined || busy) return;
      event.preventDefault();
      document.dispatchEvent(new CustomEvent(EDIT_EVENT, { detail: last }));
    }
  };

  return (
    <form
      className="composer"
      onSubmit={event => {
        event.preventDefault();
        submit();
      }}
    >
      <div className="composer-box">
        <textarea
          id={COMPOSER_ID}
          ref={field}
          rows={1}
          aria-label={t("composer")}
          placeholder={t("placeholder")}
          dir="auto"
          onKeyDown={onKey}
          onInput={event => {
            const area = event.currentTarget;
            resize(area);
            setFilled(area.value.trim() !== "");
            clearTimeout(timer.current);
            timer.current = setTimeout(() => saveDraft(conversation, area.value), DRAFT_PAUSE_MS);
          }}
        />
        <div className="composer-row">
          <ModelPicker choice={model} onChoose={onModel} />
          <button
            type="button"
            className="icon-button"
            data-on={customized}
            aria-label={t("options")}
            title={t("options")}
            onClick={onOptions}
          >
            <Icon name="sliders" />
          </button>
          <span className="composer-hint">{t("composerHint")}</span>
          {busy ? (
            <button
              type="button"
              className="send"
              onClick={stop}
              disabled={generation?.stopping}
              aria-label={t("stop")}
              title={`${t("stop")} (Esc)`}
            >
              <Icon name="stop" />
            </button>
          ) : (
            <button
              type="submit"
              className="send"
              disabled={!filled}
              aria-label={t("send")}
              title={t("send")}
            >
              <Icon name="send" />
            </button>
          )}
        </div>
      </div>
    </form>
  );
}

const NATIVE_FIT = CSS.supports("field-sizing", "content");

/** Grows the field with its text where the browser does not do so by itself. */
function resize(area: HTMLTextAreaElement): void {
  if (NATIVE_FIT) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}
