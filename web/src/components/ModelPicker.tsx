import { useI18n } from "../i18n/i18n";
import { Icon } from "./Icon";
import { type ModelChoice, modelName } from "./models";

export function ModelPicker({ choice, onChoose }: { choice: ModelChoice; onChoose: (id: string) => void }) {
  const { t } = useI18n();
  const { models, chosen } = choice;
  if (models === null) return <span className="model-picker" aria-hidden="true" />;
  if (chosen === null) return <span className="model-picker model-none">{t("noModels")}</span>;
  const providers = [...new Set(models.map(model => model.provider))];
  return (
    <span className="model-picker" data-demo={chosen.demo}>
      {/* The select lies over its own label: it is as wide as the chosen name, not as the longest one. */}
      <span className="model-name" aria-hidden="true">
        <span>{modelName(chosen, t)}</span>
        <Icon name="down" size={14} />
      </span>
      <select
        value={chosen.id}
        aria-label={t("model")}
        title={t("model")}
        onChange={event => onChoose(event.target.value)}
      >
        {providers.map(provider => (
          <optgroup key={provider} label={provider}>
            {models
              .filter(model => model.provider === provider)
              .map(model => (
                <option key={model.id} value={model.id}>
                  {modelName(model, t)}
                </option>
              ))}
          </optgroup>
        ))}
      </select>
    </span>
  );
}
