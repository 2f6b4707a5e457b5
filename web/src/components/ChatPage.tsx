import { lazy, Suspense, useState } from "react";
import { useI18n } from "../i18n/i18n";
import { loadSetup, type Setup, saveSetup } from "../store/preferences";
import { useApp, useStore } from "../store/react";
import { Composer } from "./Composer";
import { EmptyState } from "./EmptyState";
import { Header } from "./Header";
import { useModelChoice } from "./models";
import { Transcript } from "./Transcript";

const OptionsDialog = lazy(() => import("./OptionsDialog"));

interface Props {
  readonly conversation: string | null;
  readonly onToggleSidebar: () => void;
}

export function ChatPage({ conversation, onToggleSidebar }: Props) {
  const { t } = useI18n();
  const store = useStore();
  const [setup, setSetup] = useState<Setup>(() => loadSetup(conversation));
  const [options, setOptions] = useState(false);
  const change = (next: Setup) => {
    setSetup(next);
    saveSetup(conversation, next);
  };
  const model = useModelChoice(conversation, setup.model ?? null);
  const title = useApp(state =>
    conversation === null ? null : state.chat.conversations[conversation]?.title,
  );
  const load = useApp(state => (conversation === null ? "none" : state.chat.threads[conversation]?.load));
  const empty = useApp(
    state => conversation === null && !state.chat.pending.some(p => p.conversation === null),
  );
  const send = (content: string, parent?: string | null) =>
    store.send({
      content,
      conversation,
      ...(model.chosen ? { model: model.chosen.id } : {}),
      ...(parent !== undefined ? { parent } : {}),
      ...(setup.options ? { options: setup.options } : {}),
    });
  return (
    <main className="page chat">
      <Header
        title={
          title || t(conversation === null ? "newChat" : load === "not_found" ? "notFoundTitle" : "untitled")
        }
        onToggleSidebar={onToggleSidebar}
      />
      {load === "not_found" ? (
        <div className="centered">
          <h2>{t("notFoundTitle")}</h2>
          <p>{t("notFoundText")}</p>
          <button
            type="button"
            className="primary"
            onClick={() => store.go({ page: "chat", conversation: null })}
          >
            {t("newChat")}
          </button>
        </div>
      ) : empty ? (
        <EmptyState demo={model.chosen?.demo ?? false} onAsk={send} />
      ) : (
        <Transcript conversation={conversation} model={model.chosen?.id} onSend={send} />
      )}
      {load !== "not_found" && (
        <Composer
          conversation={conversation}
          model={model}
          onModel={id => change({ ...setup, model: id })}
          customized={setup.options !== undefined}
          onOptions={() => setOptions(true)}
          onSend={send}
        />
      )}
      {options && (
        <Suspense>
          <OptionsDialog
            options={setup.options ?? {}}
            onSave={next => {
              const { options: _former, ...rest } = setup;
              change(Object.keys(next).length === 0 ? rest : { ...rest, options: next });
            }}
            onClose={() => setOptions(false)}
          />
        </Suspense>
      )}
    </main>
  );
}
