import { type KeyboardEvent, type ReactNode, useId, useRef } from "react";
import { Icon, type IconName } from "./Icon";

/** A menu in the top layer (the popover of the platform): it closes on Escape and outside clicks by itself. */
export function Menu({ label, icon, children }: { label: string; icon: IconName; children: ReactNode }) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const panel = useRef<HTMLDivElement>(null);
  const items = () => [...(panel.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
  const place = () => {
    if (!button.current || !panel.current) return;
    const at = button.current.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = panel.current;
    const below = at.bottom + 4 + height <= innerHeight;
    panel.current.style.left = `${Math.max(8, Math.min(at.left, innerWidth - width - 8))}px`;
    panel.current.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - height - 4)}px`;
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Tab") panel.current?.hidePopover();
    const all = items();
    const at = all.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    all[(to + all.length) % all.length]?.focus();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        className="icon-button menu-button"
        aria-label={label}
        aria-haspopup="menu"
        popoverTarget={id}
      >
        <Icon name={icon} />
      </button>
      <div
        ref={panel}
        id={id}
        popover="auto"
        className="menu"
        role="menu"
        tabIndex={-1}
        aria-label={label}
        onKeyDown={onKey}
        onToggle={event => {
          if (event.newState !== "open") return;
          place();
          items()[0]?.focus();
        }}
        onClick={() => panel.current?.hidePopover()}
      >
        {children}
      </div>
    </>
  );
}

interface ItemProps {
  readonly icon: IconName;
  readonly children: ReactNode;
  readonly danger?: boolean;
}

export function MenuItem({
  icon,
  children,
  danger,
  onChoose,
}: ItemProps & { readonly onChoose: () => void }) {
  return (
    <button
      type="button"
      role="menuitem"
      tabIndex={-1}
      className={danger ? "danger" : undefined}
      onClick={onChoose}
    >
      <Icon name={icon} size={16} />
      {children}
    </button>
  );
}

export function MenuLink({ icon, children, href }: ItemProps & { readonly href: string }) {
  return (
    <a role="menuitem" tabIndex={-1} href={href} download>
      <Icon name={icon} size={16} />
      {children}
    </a>
  );
}
