import type { HistoryItem, Message } from "../protocol.gen";
import { type ChatState, NO_THREAD, ROOT, type Thread } from "./state";

/** The rules of the message tree: which branch is shown, and what a new message does to it. */

export function threadOf(state: ChatState, conversation: string): Thread {
  return state.threads[conversation] ?? NO_THREAD;
}

export function withThread(state: ChatState, conversation: string, thread: Thread): ChatState {
  if (state.threads[conversation] === thread) return state;
  return { ...state, threads: { ...state.threads, [conversation]: thread } };
}

/** The alternatives of a message, itself included, in order of creation. */
export function siblingsOf(thread: Thread, message: Message): readonly string[] {
  return thread.children[message.parent ?? ROOT] ?? [message.id];
}

function withChild(thread: Thread, parent: string | null, ids: readonly string[]): Thread {
  const known = thread.children[parent ?? ROOT] ?? [];
  const fresh = ids.filter(id => !known.includes(id));
  if (fresh.length === 0) return thread;
  return { ...thread, children: { ...thread.children, [parent ?? ROOT]: [...known, ...fresh] } };
}

/** Puts a created message into the thread: on the shown branch if it extends or, with `follow`, replaces part of it. */
export function place(thread: Thread, message: HistoryItem, follow: boolean): Thread {
  const known = withChild(thread, message.parent, alternatives(message));
  if (known.path.includes(message.id)) return known;
  const at = message.parent === null ? -1 : known.path.indexOf(message.parent);
  if (message.parent !== null && at < 0) return known;
  const extends_ = at === known.path.length - 1;
  if (!extends_ && !follow) return known;
  const path = [...known.path.slice(0, at + 1), message.id];
  return { ...known, path: descend(path, known), older: at < 0 ? null : known.older };
}

/** Goes on below the last message while children are known: they may have come before their parent. */
function descend(path: string[], thread: Thread): readonly string[] {
  for (;;) {
    const next = thread.children[path[path.length - 1] as string]?.at(-1);
    if (next === undefined || path.includes(next)) return path;
    path.push(next);
  }
}

/** A page of the path, as the server gives it: the newest one replaces what is shown, an older one goes before it. */
export function withPage(
  thread: Thread,
  items: readonly HistoryItem[],
  next: string | null,
  place: "newest" | "older",
): Thread {
  let result = thread;
  for (const item of items) {
    result = {
      ...result,
      children: { ...result.children, [item.parent ?? ROOT]: alternatives(item) },
    };
  }
  const ids = items.map(item => item.id);
  if (place === "older") {
    const fresh = ids.filter(id => !thread.path.includes(id));
    return { ...result, path: [...fresh, ...thread.path], older: next };
  }
  // What was paged in above the newest page stays, so that a reload does not take away what is being read.
  const joint = ids[0] === undefined ? -1 : thread.path.indexOf(ids[0]);
  const above = joint > 0 ? thread.path.slice(0, joint) : [];
  return {
    ...result,
    path: [...above, ...ids],
    older: above.length > 0 ? thread.older : next,
    load: "ready",
    reload: false,
  };
}

function alternatives(item: HistoryItem): readonly string[] {
  return item.siblings !== undefined && item.siblings.length > 0 ? item.siblings : [item.id];
}
