import { ApiError } from "../api";
import { withMessage } from "../chat/reducer";
import { type ChatState, isOpen, NO_THREAD, type Thread } from "../chat/state";
import { threadOf, withPage, withThread } from "../chat/thread";
import type { HistoryItem, List, ServerFrame } from "../protocol.gen";
import type { Core } from "./core";
import { openConversation } from "./route";

/** Reads the messages of conversations: when one is opened, paged upwards, or no longer to be trusted. */

const PAGE = 40;
/** Threads kept in memory besides the open one, so that going back is immediate and the heap stays small. */
const KEPT = 4;
const RETRY_MS = 2_000;

export function createThreads(core: Core) {
  const running = new Map<string, AbortController>();
  let recent: string[] = [];

  function open(conversation: string): void {
    recent = [conversation, ...recent.filter(id => id !== conversation)].slice(0, KEPT + 1);
    core.setChat(chat => evict(chat, recent));
    const thread = threadOf(core.get().chat, conversation);
    if (thread.load === "none" || thread.load === "failed") void load(conversation, "newest");
  }

  async function load(conversation: string, mode: "newest" | "older" | { through: string }): Promise<void> {
    const thread = threadOf(core.get().chat, conversation);
    running.get(conversation)?.abort();
    const mine = new AbortController();
    running.set(conversation, mine);
    if (thread.load !== "ready") patch(conversation, { load: "loading" });
    try {
      const page = await core.api.messages(conversation, request(thread, mode), mine.signal);
      if (typeof mode === "object") patch(conversation, { chosen: true, path: [] });
      core.setChat(chat => withLoaded(chat, conversation, page, mode === "older" ? "older" : "newest"));
    } catch (error) {
      if (mine.signal.aborted) return;
      failed(conversation, error);
    } finally {
      if (running.get(conversation) === mine) running.delete(conversation);
    }
  }

  function failed(conversation: string, error: unknown): void {
    const gone = error instanceof ApiError && error.code === "not_found";
    if (threadOf(core.get().chat, conversation).load === "loading") {
      patch(conversation, { load: gone ? "not_found" : "failed" });
    }
    // A server that is away comes back; the link says so only to those it lost.
    if (gone || openConversation(core.get().route) !== conversation) return;
    setTimeout(() => {
      const open = openConversation(core.get().route) === conversation;
      if (open && threadOf(core.get().chat, conversation).load === "failed")
        void load(conversation, "newest");
    }, RETRY_MS);
  }

  function patch(conversation: string, change: Partial<Thread>): void {
    core.setChat(chat =>
      withThread(chat, conversation, { ...(chat.threads[conversation] ?? NO_THREAD), ...change }),
    );
  }

  /** What happened while no link told us is read again: messages of other tabs and devices, ends we missed. */
  function refresh(): void {
    const open = openConversation(core.get().route);
    if (open === null) return;
    const thread = threadOf(core.get().chat, open);
    const leaf = thread.path.at(-1);
    if (thread.load === "ready" && !running.has(open)) {
      void load(open, thread.chosen && leaf !== undefined ? { through: leaf } : "newest");
    } else if (thread.load === "failed") void load(open, "newest");
  }

  function onFrame(_frame: ServerFrame): void {
    const open = openConversation(core.get().route);
    if (open === null || running.has(open)) return;
    if (core.get().chat.threads[open]?.reload) void load(open, "newest");
  }

  return {
    open,
    refresh,
    onFrame,
    older: (conversation: string) => load(conversation, "older"),
    /** Shows the branch that goes through this message. */
    choose: (conversation: string, message: string) => load(conversation, { through: message }),
    retry: (conversation: string) => load(conversation, "newest"),
  };
}

function request(thread: Thread, mode: "newest" | "older" | { through: string }) {
  if (typeof mode === "object") return { through: mode.through, limit: PAGE };
  if (mode === "newest") return { limit: PAGE };
  const leaf = thread.path.at(-1);
  return {
    limit: PAGE,
    ...(thread.older !== null ? { before: thread.older } : {}),
    ...(thread.chosen && leaf !== undefined ? { through: leaf } : {}),
  };
}

function withLoaded(
  chat: ChatState,
  conversation: string,
  page: List<HistoryItem>,
  mode: "newest" | "older",
): ChatState {
  const thread = withPage(threadOf(chat, conversation), page.items, page.next, mode);
  const next = withThread(chat, conversation, thread);
  return page.items.reduce((state, item) => withMessage(state, item, false), next);
}

/** Forgets the messages of threads that are neither kept nor being written to. */
function evict(chat: ChatState, keep: readonly string[]): ChatState {
  const stay = new Set(keep);
  for (const g of Object.values(chat.generations))
    if (g.conversation !== null && isOpen(g)) stay.add(g.conversation);
  const gone = Object.keys(chat.threads).filter(id => !stay.has(id));
  if (gone.length === 0) return chat;
  const threads = Object.fromEntries(Object.entries(chat.threads).filter(([id]) => stay.has(id)));
  const messages = Object.fromEntries(
    Object.entries(chat.messages).filter(([, message]) => stay.has(message.conversation)),
  );
  return { ...chat, threads, messages };
}
