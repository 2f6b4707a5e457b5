import { tokenRate } from "../chat/view";
import { useI18n } from "../i18n/i18n";
import type { Message } from "../protocol.gen";
import { useApp } from "../store/react";
import { modelName } from "./models";

/** Which model wrote it, how much, how fast. */
export function Measures({ message }: { message: Message }) {
  const { t, number, duration } = useI18n();
  const model = useApp(state => state.models?.find(known => known.id === message.model));
  const rate = tokenRate(message);
  const { usage, timing } = message;
  const parts = [
    usage && t(usage.estimated ? "tokensEstimated" : "tokens", { count: number(usage.output_tokens) }),
    rate !== null && t("tokensPerSecond", { rate: number(rate, rate < 10 ? 1 : 0) }),
    timing && timing.first_token_ms >= 50 && t("firstToken", { time: duration(timing.first_token_ms) }),
  ].filter(part => typeof part === "string");
  return (
    <span className="measures">
      {message.model !== undefined && (
        <span className="measure-model" data-demo={model?.demo}>
          {model ? modelName(model, t) : message.model}
        </span>
      )}
      {parts.map(part => (
        <span key={part} className="measure">
          {part}
        </span>
      ))}
    </span>
  );
}
