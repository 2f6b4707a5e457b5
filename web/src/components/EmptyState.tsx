import { useI18n } from "../i18n/i18n";

export function EmptyState({ demo, onAsk }: { demo: boolean; onAsk: (content: string) => void }) {
  const { t } = useI18n();
  const suggestions = [t("suggestion1"), t("suggestion2"), t("suggestion3"), t("suggestion4")];
  return (
    <div className="empty">
      <h2>{t("emptyTitle")}</h2>
      <p>{t("emptyText")}</p>
      {demo && <p className="demo-note">{t("demoNote")}</p>}
      <ul className="suggestions">
        {suggestions.map(text => (
          <li key={text}>
            <button type="button" onClick={() => onAsk(text)}>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}
