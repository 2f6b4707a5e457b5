import { useI18n } from "../i18n/i18n";
import { Dialog } from "./Dialog";

export default function Shortcuts({ onClose }: { onClose: () => void }) {
  const { t } = useI18n();
  const command = /Mac|iP/.test(navigator.platform) ? "⌘" : "Ctrl";
  const keys: [string[], string][] = [
    [["Enter"], t("keySend")],
    [["Shift", "Enter"], t("keyLine")],
    [["Esc"], t("keyStop")],
    [["↑"], t("keyEdit")],
    [[command, "Shift", "O"], t("keyNew")],
    [[command, "K"], t("keySearch")],
    [[command, "B"], t("keySidebar")],
    [["/"], t("keyComposer")],
    [[command, "End"], t("keyBottom")],
    [["?"], t("keyHelp")],
  ];
  return (
    <Dialog title={t("shortcuts")} onClose={onClose}>
      <dl className="keys">
        {keys.map(([combination, words]) => (
          <div key={words}>
            <dt>
              {combination.map(key => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{words}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
