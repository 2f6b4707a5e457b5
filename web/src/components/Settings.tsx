import { useRef } from "react";
import { useI18n } from "../i18n/i18n";
import type { Preferences } from "../store/preferences";
import { useStore } from "../store/react";
import { AccountSettings } from "./AccountSettings";
import { Dialog } from "./Dialog";
import "../styles/signin.css";

interface Props {
  readonly preferences: Preferences;
  readonly onChange: (change: Partial<Preferences>) => void;
  readonly onClose: () => void;
}

export default function Settings({ preferences, onChange, onClose }: Props) {
  const { t } = useI18n();
  const store = useStore();
  const file = useRef<HTMLInputElement>(null);
  const load = async (chosen: File | undefined) => {
    if (!chosen) return;
    const conversation = await store.importFile(chosen);
    if (conversation === null) return;
    onClose();
    store.go({ page: "chat", conversation });
  };
  return (
    <Dialog title={t("settings")} onClose={onClose}>
      <Choice
        legend={t("language")}
        name="language"
        value={preferences.language}
        options={[
          ["system", t("languageSystem")],
          ["vi", "Tiếng Việt"],
          ["en", "English"],
        ]}
        onChange={language => onChange({ language })}
      />
      <Choice
        legend={t("theme")}
        name="theme"
        value={preferences.theme}
        options={[
          ["system", t("themeSystem")],
          ["light", t("themeLight")],
          ["dark", t("themeDark")],
        ]}
        onChange={theme => onChange({ theme })}
      />
      <div className="field">
        <span className="field-name">{t("importJson")}</span>
        <div>
          <button type="button" className="secondary" onClick={() => file.current?.click()}>
            {t("chooseFile")}
          </button>
          <input
            ref={file}
            type="file"
            accept="application/json,.json"
            hidden
            aria-label={t("importJson")}
            onChange={event => void load(event.target.files?.[0])}
          />
        </div>
        <span className="field-hint">{t("importHint")}</span>
      </div>
      <AccountSettings />
    </Dialog>
  );
}

interface ChoiceProps<T extends string> {
  readonly legend: string;
  readonly name: string;
  readonly value: T;
  readonly options: readonly (readonly [T, string])[];
  readonly onChange: (value: T) => void;
}

function Choice<T extends string>({ legend, name, value, options, onChange }: ChoiceProps<T>) {
  return (
    <fieldset className="field">
      <legend className="field-name">{legend}</legend>
      <div className="segments">
        {options.map(([option, label]) => (
          <label key={option} data-on={option === value}>
            <input
              type="radio"
              name={name}
              className="visually-hidden"
              checked={option === value}
              onChange={() => onChange(option)}
            />
            {label}
          </label>
        ))}
      </div>
    </fieldset>
  );
}
