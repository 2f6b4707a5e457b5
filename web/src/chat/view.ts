import type { Conversation, Message } from "../protocol.gen";
import { type ChatState, type Generation, isOpen, type Pending, type Thread } from "./state";

/** What is on the screen, derived from what is known. Pure. */

export type Item =
  | { readonly kind: "message"; readonly id: string }
  | { readonly kind: "pending"; readonly pending: Pending };

/** The shown branch with what is being sent. A pending edit or regeneration already hides what it will replace. */
export function visibleItems(
  thread: Thread | undefined,
  pending: readonly Pending[],
  conversation: string | null,
): readonly Item[] {
  let path = thread?.path ?? [];
  const mine = pending.filter(p => p.conversation === conversation);
  for (const p of mine) path = path.slice(0, cut(path, p));
  return [
    ...path.map((id): Item => ({ kind: "message", id })),
    ...mine.map((p): Item => ({ kind: "pending", pending: p })),
  ];
}

function cut(path: readonly string[], pending: Pending): number {
  if (pending.kind === "regenerate") {
    const at = path.indexOf(pending.message);
    return at < 0 ? path.length : at;
  }
  if (pending.parent === undefined) return path.length;
  if (pending.parent === null) return 0;
  const at = path.indexOf(pending.parent);
  return at < 0 ? path.length : at + 1;
}

/** The open generation that the end of the shown branch waits for. */
export function openGeneration(chat: ChatState, thread: Thread | undefined): Generation | null {
  const last = thread?.path.at(-1);
  const id = last === undefined ? undefined : chat.messages[last]?.generation;
  const generation = id === undefined ? undefined : chat.generations[id];
  return generation && isOpen(generation) ? generation : null;
}

/** What was sent here, and was neither taken nor refused yet. */
export function waitingIn(chat: ChatState, conversation: string | null): Pending | undefined {
  return chat.pending.find(p => p.conversation === conversation && p.error === null);
}

export function isRecovering(chat: ChatState): boolean {
  return Object.values(chat.generations).some(g => isOpen(g) && (g.status === "recovering" || g.gap));
}

export type GroupName = "pinned" | "today" | "yesterday" | "last7" | "last30" | { readonly month: Date };

export interface Group {
  readonly key: string;
  readonly name: GroupName;
  readonly items: readonly Conversation[];
}

const DAY_MS = 86_400_000;

/** Newest first, pinned ones on top, by the reader's own calendar days. */
export function groupByDate(conversations: readonly Conversation[], now: Date): readonly Group[] {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const sorted = [...conversations].sort(
    (a, b) => b.updated_at.localeCompare(a.updated_at) || b.id.localeCompare(a.id),
  );
  const groups = new Map<string, { name: GroupName; items: Conversation[] }>();
  const put = (key: string, name: GroupName, item: Conversation) => {
    const group = groups.get(key) ?? { name, items: [] };
    group.items.push(item);
    groups.set(key, group);
  };
  for (const item of sorted) if (item.pinned) put("pinned", "pinned", item);
  for (const item of sorted) {
    if (item.pinned) continue;
    const at = new Date(item.updated_at);
    const name = groupOf(at, midnight);
    put(typeof name === "string" ? name : `${at.getFullYear()}-${at.getMonth()}`, name, item);
  }
  return [...groups].map(([key, group]) => ({ key, ...group }));
}

function groupOf(at: Date, midnight: number): GroupName {
  const time = at.getTime();
  if (time >= midnight) return "today";
  if (time >= midnight - DAY_MS) return "yesterday";
  if (time >= midnight - 7 * DAY_MS) return "last7";
  if (time >= midnight - 30 * DAY_MS) return "last30";
  return { month: new Date(at.getFullYear(), at.getMonth(), 1) };
}

/** Tokens per second of the writing itself, without the wait for the first one. */
export function tokenRate(message: Message): number | null {
  const { usage, timing } = message;
  if (!usage || !timing) return null;
  const writing = timing.total_ms - timing.first_token_ms;
  return writing < 50 || usage.output_tokens < 2 ? null : (usage.output_tokens * 1000) / writing;
}
