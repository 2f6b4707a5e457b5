import { useMemo } from "react";
import { en } from "../i18n/en";
import type { I18n } from "../i18n/i18n";
import type { ModelInfo } from "../protocol.gen";
import { useApp } from "../store/react";

export interface ModelChoice {
  readonly models: readonly ModelInfo[] | null;
  readonly chosen: ModelInfo | null;
}

/** The model that the next question goes to: the one chosen here, else the one that answered last, else the default. */
export function useModelChoice(conversation: string | null, picked: string | null): ModelChoice {
  const models = useApp(state => state.models);
  const last = useApp(state => {
    const path = conversation === null ? undefined : state.chat.threads[conversation]?.path;
    const leaf = path?.at(-1);
    return leaf === undefined ? null : (state.chat.messages[leaf]?.model ?? null);
  });
  return useMemo(() => {
    const named = (id: string | null) => models?.find(model => model.id === id);
    const chosen =
      named(picked) ?? named(last) ?? models?.find(model => model.default) ?? models?.[0] ?? null;
    return { models, chosen };
  }, [models, picked, last]);
}

/** What people read. That a model is none is always said, and in their language where the server's words are known. */
export function modelName(model: ModelInfo, t: I18n["t"]): string {
  if (!model.demo) return model.name;
  return model.name === en.demoName ? t("demoName") : `${model.name} (${t("demoModel")})`;
}
