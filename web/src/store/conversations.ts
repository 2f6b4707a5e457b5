import { ApiError } from "../api";
import { withConversation, withoutConversation } from "../chat/reducer";
import type { ServerFrame } from "../protocol.gen";
import type { Core, Notice } from "./core";
import { forgetConversation } from "./preferences";

/** The list of conversations, and what can be done to one of them. */

const PAGE = 50;
/** A new conversation is told by a frame of its own; if that does not come, it is read. */
const TOLD_WITHIN_MS = 1_500;

/** `Omit` that keeps the alternatives apart. */
type NewNotice = Notice extends infer N ? (N extends Notice ? Omit<N, "id"> : never) : never;

export function createConversations(core: Core, leave: (conversation: string) => void) {
  let notices = 0;

  async function load(cursor?: string): Promise<void> {
    try {
      const page = await core.api.conversations({ cursor, limit: PAGE });
      core.setChat(chat => page.items.reduce(withConversation, chat));
      core.set({ list: { load: "ready", next: page.next } });
    } catch {
      if (core.get().list.load !== "ready") core.set({ list: { load: "failed", next: null } });
    }
  }

  function more(): void {
    const { next } = core.get().list;
    if (next !== null) void load(next);
  }

  async function change(id: string, what: { title?: string; pinned?: boolean }): Promise<void> {
    const before = core.get().chat.conversations[id];
    if (before) core.setChat(chat => withConversation(chat, { ...before, ...what }));
    try {
      const after = await core.api.change(id, what);
      core.setChat(chat => withConversation(chat, after));
    } catch (error) {
      if (before) core.setChat(chat => ({ ...chat, conversations: { ...chat.conversations, [id]: before } }));
      report(error);
    }
  }

  /** Goes away from the screen at once, from the server with the notice that offers to undo it. */
  function remove(id: string): void {
    core.set({ hidden: [...core.get().hidden, id] });
    leave(id);
    notify({ kind: "deleted", conversation: id });
  }

  function undoRemove(id: string): void {
    core.set({ hidden: core.get().hidden.filter(other => other !== id), notice: null });
  }

  /** The notice has been read, makes way for another, or goes away with the page. */
  function dismissNotice(): void {
    const { notice } = core.get();
    if (notice === null) return;
    core.set({ notice: null });
    if (notice.kind === "deleted") void carryOut(notice.conversation);
  }

  async function carryOut(id: string): Promise<void> {
    try {
      await core.api.remove(id);
      core.setChat(chat => withoutConversation(chat, id));
      forgetConversation(id);
    } catch (error) {
      const gone = error instanceof ApiError && error.status === 404;
      if (gone) core.setChat(chat => withoutConversation(chat, id));
      else report(error);
    }
    core.set({ hidden: core.get().hidden.filter(other => other !== id) });
  }

  async function importFile(file: Blob): Promise<string | null> {
    try {
      const { conversation, messages } = await core.api.importing(file);
      core.setChat(chat => withConversation(chat, conversation));
      notify({ kind: "imported", count: messages });
      return conversation.id;
    } catch (error) {
      report(error);
      return null;
    }
  }

  function notify(notice: NewNotice): void {
    dismissNotice();
    notices += 1;
    core.set({ notice: { ...notice, id: notices } as Notice });
  }

  function report(error: unknown): void {
    const code = error instanceof ApiError ? error.code : "unavailable";
    notify({ kind: "error", code, message: error instanceof Error ? error.message : String(error) });
  }

  function onFrame(frame: ServerFrame): void {
    if (frame.type === "accepted") {
      const { conversation } = frame;
      setTimeout(() => {
        if (core.get().chat.conversations[conversation]) return;
        core.api.conversation(conversation).then(
          found => core.setChat(chat => withConversation(chat, found)),
          () => {},
        );
      }, TOLD_WITHIN_MS);
    }
    if (frame.type === "error" && frame.request_id === undefined && frame.code !== "not_found") {
      notify({ kind: "error", code: frame.code, message: frame.message });
    }
  }

  return { load, more, change, remove, undoRemove, dismissNotice, importFile, onFrame };
}
