import { isOpen } from "../chat/state";
import type { Known, ServerFrame } from "../protocol.gen";
import type { Core } from "./core";
import { openConversation } from "./route";

/** Which conversations this link listens to, and when it asks for what it misses: the one that is open, and those in
 *  which an answer is being written. */

/** Background answers followed at once; the rest is seen when it is opened. */
const BACKGROUND_MAX = 8;
const ASK_AGAIN_MS = 8_000;
/** Gaps that come back right after a catch-up are not asked for in a tight loop. */
const STREAK_PAUSE_MS = 250;
const STREAK_OVER_MS = 5_000;

interface Asked {
  readonly at: number;
  readonly answered: boolean;
  /** How many times in a row, each soon after the other. */
  readonly streak: number;
}

export function createSubscriptions(core: Core) {
  const subscribed = new Set<string>();
  const asked = new Map<string, Asked>();

  function wanted(): Set<string> {
    const { chat, route } = core.get();
    const open = openConversation(route);
    const result = new Set<string>();
    if (open !== null && chat.threads[open]?.load !== "not_found") result.add(open);
    const writing = [
      ...Object.values(chat.generations)
        .filter(isOpen)
        .map(g => g.conversation),
      ...Object.values(chat.conversations)
        .filter(c => c.generating)
        .map(c => c.id),
    ];
    for (const id of writing) if (id !== null && result.size <= BACKGROUND_MAX) result.add(id);
    return result;
  }

  function known(conversation: string): Known[] {
    return Object.values(core.get().chat.generations)
      .filter(g => g.conversation === conversation && isOpen(g) && g.position !== null)
      .map(g => ({ generation: g.id, position: g.position as string, offset: g.textBytes }));
  }

  function ask(conversation: string): void {
    const held = known(conversation);
    const sent = core.transmit({
      type: "subscribe",
      conversation,
      ...(held.length > 0 ? { known: held } : {}),
    });
    if (!sent) return;
    subscribed.add(conversation);
    const before = asked.get(conversation);
    const at = Date.now();
    const streak = before && at - before.at < STREAK_OVER_MS ? before.streak + 1 : 0;
    asked.set(conversation, { at, answered: false, streak });
  }

  /** Brings the server's idea of what we listen to in line with ours, and asks for what is missing. */
  function sync(): void {
    if (!core.online()) return;
    const want = wanted();
    for (const conversation of want) if (!subscribed.has(conversation)) ask(conversation);
    for (const conversation of subscribed) {
      if (want.has(conversation)) continue;
      subscribed.delete(conversation);
      asked.delete(conversation);
      core.transmit({ type: "unsubscribe", conversation });
    }
    for (const conversation of missing(want)) {
      if (mayAsk(asked.get(conversation))) ask(conversation);
    }
  }

  function mayAsk(before: Asked | undefined): boolean {
    if (before === undefined) return true;
    const pause = before.answered ? Math.min(before.streak, 12) * STREAK_PAUSE_MS : ASK_AGAIN_MS;
    return Date.now() - before.at >= pause;
  }

  /** A gap in a generation of which only the id came yet may be of any conversation. */
  function missing(want: Set<string>): Set<string> {
    const result = new Set<string>();
    for (const g of Object.values(core.get().chat.generations)) {
      if (!g.gap) continue;
      if (g.conversation !== null) result.add(g.conversation);
      else for (const conversation of want) result.add(conversation);
    }
    return result;
  }

  function onFrame(frame: ServerFrame): void {
    if (frame.type === "welcome") {
      subscribed.clear();
      asked.clear();
    }
    // `send` and `regenerate` subscribe by themselves.
    if (frame.type === "accepted") subscribed.add(frame.conversation);
    if (frame.type === "caught_up") {
      const before = asked.get(frame.conversation);
      if (before) asked.set(frame.conversation, { ...before, answered: true });
    }
    // Tokens come hundreds a second, and all that one can ask for is what it shows to be missing.
    if (frame.type === "delta" && !core.get().chat.generations[frame.generation]?.gap) return;
    sync();
  }

  return { sync, onFrame };
}
