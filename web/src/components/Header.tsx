import { useEffect } from "react";
import { useI18n } from "../i18n/i18n";
import { Icon } from "./Icon";
import { Pill } from "./Pill";

export function Header({ title, onToggleSidebar }: { title: string; onToggleSidebar: () => void }) {
  const { t } = useI18n();
  useEffect(() => {
    document.title = `${title} · chatnode`;
  }, [title]);
  return (
    <header className="page-header">
      <button
        type="button"
        className="icon-button sidebar-toggle"
        onClick={onToggleSidebar}
        aria-label={t("openSidebar")}
        title={t("openSidebar")}
      >
        <Icon name="panel" />
      </button>
      <h1 title={title} dir="auto">
        {title}
      </h1>
      <Pill />
    </header>
  );
}
