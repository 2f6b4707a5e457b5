import { useEffect, useRef } from "react";
import { useStore } from "../store/react";
import { openConversation } from "../store/route";
import { byFinger } from "./enter";

/** Element ids that shortcuts lead to. */
export const COMPOSER_ID = "composer";
export const SEARCH_ID = "search";
export const EDIT_EVENT = "chatnode:edit";
export const BOTTOM_EVENT = "chatnode:bottom";

interface Actions {
  readonly toggleSidebar: () => void;
  readonly showHelp: () => void;
}

/** One place for keys that work everywhere. Letters alone act only outside of text fields. */
export function useShortcuts(actions: Actions): void {
  const store = useStore();
  const latest = useRef(actions);
  latest.current = actions;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.isComposing) return;
      const typing = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
      const command = event.ctrlKey || event.metaKey;
      const act = (action: () => void) => {
        event.preventDefault();
        action();
      };
      if (event.key === "Escape") {
        if (document.querySelector("dialog[open], [popover]:popover-open")) return;
        // Clears the search first.
        if (event.target instanceof HTMLInputElement && event.target.value !== "") return;
        if (store.stopIn(openConversation(store.get().route))) event.preventDefault();
      } else if (command && event.shiftKey && event.key.toLowerCase() === "o") {
        act(() => {
          store.go({ page: "chat", conversation: null });
          focusOn(COMPOSER_ID);
        });
      } else if (command && !event.shiftKey && event.key.toLowerCase() === "k") {
        act(() => {
          const field = document.getElementById(SEARCH_ID);
          if (!field?.checkVisibility({ visibilityProperty: true })) latest.current.toggleSidebar();
          focusOn(SEARCH_ID);
        });
      } else if (command && !event.shiftKey && event.key.toLowerCase() === "b") {
        act(latest.current.toggleSidebar);
      } else if (command && event.key === "End") {
        act(() => document.dispatchEvent(new Event(BOTTOM_EVENT)));
      } else if (typing || command || event.altKey) {
        return;
      } else if (event.key === "?") {
        act(latest.current.showHelp);
      } else if (event.key === "/") {
        act(() => focusOn(COMPOSER_ID));
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [store]);
}

/** With the next frame, when what is being drawn stands there and can be reached. */
export function focusOn(id: string): void {
  requestAnimationFrame(() => document.getElementById(id)?.focus());
}

/** Where one goes on after a question. Not under a finger, where a keyboard would come up and hide half of the page. */
export function focusComposer(): void {
  if (!byFinger()) focusOn(COMPOSER_ID);
}

/** What had the focus is being replaced: the next one is where it was. Not taken from whoever is elsewhere by then. */
export function keepFocus(find: () => Element | null | undefined): void {
  requestAnimationFrame(() => {
    if (document.activeElement !== document.body) return;
    const next = find();
    if (next instanceof HTMLElement) next.focus();
  });
}
