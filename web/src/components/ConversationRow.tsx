import { memo, useRef, useState } from "react";
import { useI18n } from "../i18n/i18n";
import type { Conversation } from "../protocol.gen";
import { useStore } from "../store/react";
import { composes } from "./enter";
import { Menu, MenuItem, MenuLink } from "./Menu";
import { keepFocus, SEARCH_ID } from "./shortcuts";

interface Props {
  readonly conversation: Conversation;
  readonly open: boolean;
  readonly onOpen: (conversation: string) => void;
}

export const ConversationRow = memo(function ConversationRow({ conversation, open, onOpen }: Props) {
  const { t } = useI18n();
  const store = useStore();
  const [renaming, setRenaming] = useState(false);
  const row = useRef<HTMLLIElement>(null);
  const title = conversation.title || t("untitled");
  const { id, pinned } = conversation;
  if (renaming) {
    return (
      <li className="row">
        <Rename
          title={conversation.title}
          onDone={name => {
            setRenaming(false);
            keepFocus(() => document.querySelector(`.row a[href="#/c/${id}"]`));
            if (name !== null && name !== conversation.title) void store.change(id, { title: name });
          }}
        />
      </li>
    );
  }
  return (
    <li ref={row} className="row" data-open={open}>
      <a
        href={`#/c/${id}`}
        aria-current={open ? "page" : undefined}
        title={title}
        onClick={event => {
          if (event.metaKey || event.ctrlKey || event.shiftKey) return;
          event.preventDefault();
          onOpen(id);
        }}
        onDoubleClick={() => setRenaming(true)}
      >
        <span className="row-title" dir="auto">
          {title}
        </span>
        {conversation.generating && (
          <span className="live-dot" role="img" aria-label={t("generatingDot")} title={t("generatingDot")} />
        )}
      </a>
      <Menu label={t("conversationMenu", { title })} icon="more">
        <MenuItem icon="pin" onChoose={() => void store.change(id, { pinned: !pinned })}>
          {pinned ? t("unpin") : t("pin")}
        </MenuItem>
        <MenuItem icon="edit" onChoose={() => setRenaming(true)}>
          {t("rename")}
        </MenuItem>
        <MenuLink icon="download" href={store.exportAddress(id, "markdown")}>
          {t("exportMarkdown")}
        </MenuLink>
        <MenuLink icon="download" href={store.exportAddress(id, "json")}>
          {t("exportJson")}
        </MenuLink>
        <MenuItem
          icon="trash"
          danger
          onChoose={() => {
            const beside = row.current?.nextElementSibling ?? row.current?.previousElementSibling;
            store.remove(id);
            keepFocus(() => beside?.querySelector("a") ?? document.getElementById(SEARCH_ID));
          }}
        >
          {t("delete")}
        </MenuItem>
      </Menu>
    </li>
  );
});

/** `null`: left as it was. */
function Rename({ title, onDone }: { title: string; onDone: (name: string | null) => void }) {
  const { t } = useI18n();
  const over = useRef(false);
  const done = (name: string | null) => {
    if (over.current) return;
    over.current = true;
    onDone(name === null || name.trim() === "" ? null : name.trim());
  };
  return (
    <input
      className="rename"
      defaultValue={title}
      dir="auto"
      aria-label={t("titleField")}
      maxLength={200}
      // biome-ignore lint/a11y/noAutofocus: it takes the place of what was just activated
      autoFocus
      onFocus={event => event.target.select()}
      onBlur={event => done(event.target.value)}
      onKeyDown={event => {
        if (composes(event)) return;
        if (event.key === "Enter") done(event.currentTarget.value);
        if (event.key === "Escape") {
          event.stopPropagation();
          event.preventDefault();
          done(null);
        }
      }}
    />
  );
}
