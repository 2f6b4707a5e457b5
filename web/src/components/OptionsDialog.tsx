import { useI18n } from "../i18n/i18n";
import type { Options } from "../protocol.gen";
import { Dialog } from "./Dialog";

interface Props {
  readonly options: Options;
  readonly onSave: (options: Options) => void;
  readonly onClose: () => void;
}

export default function OptionsDialog({ options, onSave, onClose }: Props) {
  const { t } = useI18n();
  const save = (form: FormData) => {
    const system = String(form.get("system") ?? "").trim();
    const temperature = number(form.get("temperature"));
    const max_tokens = number(form.get("max_tokens"));
    onSave({
      ...(system !== "" ? { system } : {}),
      ...(temperature !== null ? { temperature } : {}),
      ...(max_tokens !== null ? { max_tokens } : {}),
    });
    onClose();
  };
  return (
    <Dialog title={t("options")} onClose={onClose}>
      <form
        onSubmit={event => {
          event.preventDefault();
          save(new FormData(event.currentTarget));
        }}
      >
        <label className="field">
          <span className="field-name">{t("systemPrompt")}</span>
          <textarea name="system" rows={5} defaultValue={options.system} aria-describedby="hint-system" />
          <span className="field-hint" id="hint-system">
            {t("systemHint")}
          </span>
        </label>
        <label className="field">
          <span className="field-name">{t("temperature")}</span>
          <input
            name="temperature"
            type="number"
            min={0}
            max={2}
            step={0.1}
            inputMode="decimal"
            defaultValue={options.temperature}
            aria-describedby="hint-temperature"
          />
          <span className="field-hint" id="hint-temperature">
            {t("temperatureHint")}
          </span>
        </label>
        <label className="field">
          <span className="field-name">{t("maxTokens")}</span>
          <input
            name="max_tokens"
            type="number"
            min={1}
            step={1}
            inputMode="numeric"
            defaultValue={options.max_tokens}
            aria-describedby="hint-tokens"
          />
          <span className="field-hint" id="hint-tokens">
            {t("maxTokensHint")}
          </span>
        </label>
        <div className="dialog-buttons">
          <button
            type="button"
            className="secondary"
            onClick={() => {
              onSave({});
              onClose();
            }}
          >
            {t("reset")}
          </button>
          <button type="submit" className="primary">
            {t("save")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

function number(value: FormDataEntryValue | null): number | null {
  if (typeof value !== "string" || value.trim() === "") return null;
  const parsed = Number(value);
  return Number.isFinite(parsed) ? parsed : null;
}
