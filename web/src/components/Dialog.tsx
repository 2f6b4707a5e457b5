import { type ReactNode, useEffect, useRef } from "react";
import { useI18n } from "../i18n/i18n";
import { Icon } from "./Icon";
import "../styles/dialogs.css";
import "../styles/fields.css";

/** The platform's modal dialog: it keeps the focus inside, closes on Escape, and gives the focus back. */
export function Dialog({
  title,
  onClose,
  children,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
}) {
  const { t } = useI18n();
  const dialog = useRef<HTMLDialogElement>(null);
  const pressedBeside = useRef(false);
  useEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    element?.showModal();
    return () => {
      element?.close();
      // The platform gives it back when Escape closes the dialog, and may tell us when the reader is somewhere else by then.
      const lost = document.activeElement === document.body;
      if (lost && before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: a click beside it; Escape is the key for that, by the platform
    <dialog
      ref={dialog}
      className="dialog"
      aria-labelledby="dialog-title"
      onClose={onClose}
      onPointerDown={event => {
        pressedBeside.current = event.target === dialog.current;
      }}
      onClick={event => {
        // Whoever selects text in a field may let go beside the dialog, and does not mean to leave it.
        if (pressedBeside.current && event.target === dialog.current) onClose();
      }}
    >
      <div className="dialog-body">
        <div className="dialog-head">
          <h2 id="dialog-title">{title}</h2>
          <button
            type="button"
            className="icon-button"
            onClick={onClose}
            aria-label={t("close")}
            title={t("close")}
          >
            <Icon name="close" />
          </button>
        </div>
        {children}
      </div>
    </dialog>
  );
}
