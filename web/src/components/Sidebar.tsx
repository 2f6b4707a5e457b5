import { type RefObject, useDeferredValue, useEffect, useLayoutEffect, useRef, useState } from "react";
import { useI18n } from "../i18n/i18n";
import type { Conversation } from "../protocol.gen";
import { useApp, useStore } from "../store/react";
import type { DialogName } from "./App";
import { ConversationList } from "./ConversationList";
import { Icon } from "./Icon";
import { COMPOSER_ID, focusOn, SEARCH_ID } from "./shortcuts";

interface Props {
  readonly drawer: boolean;
  readonly wide: boolean;
  readonly onToggle: () => void;
  /** Something was chosen: on a narrow screen the list makes way. */
  readonly onLeave: () => void;
  readonly onDialog: (name: DialogName) => void;
}

export function Sidebar({ drawer, wide, onToggle, onLeave, onDialog }: Props) {
  const { t } = useI18n();
  const store = useStore();
  const [q, setQ] = useState("");
  const found = useSearch(q.trim());
  const panel = useRef<HTMLElement>(null);
  const leave = useRef(onLeave);
  leave.current = onLeave;
  useEffect(() => {
    if (!drawer) return;
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      leave.current();
    };
    addEventListener("keydown", onKey, { capture: true });
    return () => removeEventListener("keydown", onKey, { capture: true });
  }, [drawer]);
  useDrawerFocus(panel, drawer);
  const go = (conversation: string | null) => {
    store.go({ page: "chat", conversation });
    onLeave();
    if (conversation === null) focusOn(COMPOSER_ID);
  };
  return (
    <>
      <button type="button" className="skip primary" inert={drawer} onClick={() => focusOn(COMPOSER_ID)}>
        {t("keyComposer")}
      </button>
      <nav ref={panel} className="sidebar" aria-label={t("conversations")} data-wide={wide}>
        <div className="sidebar-top">
          <button type="button" className="new-chat" onClick={() => go(null)}>
            <Icon name="plus" />
            {t("newChat")}
          </button>
          <button
            type="button"
            className="icon-button"
            onClick={onToggle}
            aria-label={t("closeSidebar")}
            title={t("closeSidebar")}
          >
            <Icon name="panel" />
          </button>
        </div>
        <div className="search-field">
          <Icon name="search" size={16} />
          <input
            id={SEARCH_ID}
            type="search"
            value={q}
            onChange={event => setQ(event.target.value)}
            placeholder={t("search")}
            aria-label={t("search")}
            dir="auto"
            autoComplete="off"
            maxLength={200}
          />
          {q !== "" && (
            <button
              type="button"
              className="icon-button small"
              onClick={() => setQ("")}
              aria-label={t("clearSearch")}
            >
              <Icon name="close" size={14} />
            </button>
          )}
        </div>
        <ConversationList found={q.trim() === "" ? null : found} q={q.trim()} onOpen={go} />
        <div className="sidebar-bottom">
          <button type="button" className="quiet" onClick={() => onDialog("settings")}>
            <Icon name="settings" />
            {t("settings")}
          </button>
          <a
            className="icon-button"
            href="#/cluster"
            aria-label={t("cluster")}
            title={t("cluster")}
            onClick={onLeave}
          >
            <Icon name="cluster" />
          </a>
          <button
            type="button"
            className="icon-button"
            onClick={() => onDialog("shortcuts")}
            aria-label={t("shortcuts")}
            title={`${t("shortcuts")} (?)`}
          >
            <Icon name="keyboard" />
          </button>
        </div>
      </nav>
      {drawer && (
        <button type="button" className="backdrop" aria-label={t("closeSidebar")} onClick={onLeave} />
      )}
    </>
  );
}

/** Into the drawer when it opens, and back to where it was. In the same commit: a frame later the browser has already taken the
 *  focus from the page beside the drawer, which is inert by then. */
function useDrawerFocus(panel: RefObject<HTMLElement | null>, drawer: boolean): void {
  const before = useRef<Element>(null);
  useLayoutEffect(() => {
    if (drawer) {
      before.current = document.activeElement;
      panel.current?.querySelector<HTMLElement>("button")?.focus();
      return;
    }
    const at = document.activeElement;
    const lost = at === document.body || panel.current?.contains(at);
    if (lost && before.current instanceof HTMLElement) before.current.focus();
    before.current = null;
  }, [panel, drawer]);
}

export type Found =
  | { readonly state: "searching" | "failed" }
  | { readonly state: "found"; readonly items: readonly Conversation[] };

const SEARCH_PAUSE_MS = 180;

/** The server searches (titles and messages); titles that are here are shown at once by the list itself. */
function useSearch(q: string): Found {
  const store = useStore();
  const asked = useDeferredValue(q);
  const version = useApp(state => state.chat.conversations);
  const [result, setResult] = useState<{ q: string; found: Found }>({ q: "", found: { state: "searching" } });
  // biome-ignore lint/correctness/useExhaustiveDependencies: a renamed or deleted conversation changes what is found
  useEffect(() => {
    if (asked === "") return;
    const abort = new AbortController();
    const timer = setTimeout(() => {
      store.search(asked, abort.signal).then(
        items => setResult({ q: asked, found: { state: "found", items } }),
        () => {
          if (!abort.signal.aborted) setResult({ q: asked, found: { state: "failed" } });
        },
      );
    }, SEARCH_PAUSE_MS);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [asked, store, version]);
  return result.q === q ? result.found : { state: "searching" };
}
