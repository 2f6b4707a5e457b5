import { isOpen } from "../chat/state";
import type { Known, ServerFrame } from "../protocol.gen";
import type { Core } from "./core";
import { openConversation } from "./route";

/** Which conversations this link listens to, and when it asks for what it misses: the one that is open, and those in
 *  which an answer is being written. */

/** Background answers followed at once; the rest is seen when it is opened. */
const BACKGROUND_MAX = 8;
const ASK_AGAIN_MS = 8_000;
/** A gap that is still there right after a catch-up is not asked for in a tight loop. */
const ASK_PAUSE_MS = 300;

export function createSubscriptions(core: Core) {
  const subscribed = new Set<string>();
  const asked = new Map<string, number>();

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
    asked.set(conversation, Date.now());
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
      const since = Date.now() - (asked.get(conversation) ?? 0);
      const answered = !asked.has(conversation);
      if (answered || since > ASK_AGAIN_MS) ask(conversation);
    }
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
      const { conversation } = frame;
      setTimeout(() => {
        asked.delete(conversation);
        sync();
      }, ASK_PAUSE_MS);
      return;
    }
    // Tokens come hundreds a second, and all that one can ask for is what it shows to be missing.
    if (frame.type === "delta" && !core.get().chat.generations[frame.generation]?.gap) return;
    sync();
  }

  return { sync, onFrame };
}
