import type { Pending, PendingRegenerate, PendingSend } from "../chat/state";
import type { ServerFrame } from "../protocol.gen";
import type { Core } from "./core";
import { keysWith, read, write } from "./preferences";

/** Sends that no `accepted` has answered. Each is in storage until then, under a key of its own since other tabs have
 *  theirs there too, and is sent again with the same request id as often as needed: the server makes one turn of it. */

const PREFIX = "chatnode.pending.";
/** An unanswered send on a link that lives: something swallowed it. */
const RESEND_MS = 5_000;
/** What lay in storage for longer than this is no longer what somebody wants to say. */
const KEEP_MS = 24 * 3_600_000;
/** What the page sends again by itself. */
export const RETRYABLE = new Set(["rate_limited", "overloaded", "unavailable"]);
const RETRY_AFTER_MAX_MS = 60_000;
/** What the same request is told each time: nobody is offered to repeat it. */
export const HOPELESS = new Set(["bad_frame", "too_large", "not_found", "too_long"]);

type New<T> = Omit<T, "request_id" | "created_at" | "error">;

export function createOutbox(core: Core) {
  const sentAt = new Map<string, number>();

  function restore(): void {
    const stored = keysWith(PREFIX)
      .map(key => read(key) as Pending | null)
      .filter(pending => pending !== null)
      .filter(pending => {
        const fresh = Date.now() - Date.parse(pending.created_at) < KEEP_MS;
        if (!fresh) write(PREFIX + pending.request_id, null);
        return fresh;
      })
      .sort((a, b) => a.created_at.localeCompare(b.created_at));
    core.setChat(chat => ({ ...chat, pending: stored }));
  }

  function add(pending: New<PendingSend> | New<PendingRegenerate>): string {
    const request_id = crypto.randomUUID?.() ?? randomId();
    const full = { ...pending, request_id, created_at: new Date().toISOString(), error: null } as Pending;
    write(PREFIX + request_id, full);
    core.setChat(chat => ({ ...chat, pending: [...chat.pending, full] }));
    transmit(full);
    return request_id;
  }

  function transmit(pending: Pending): void {
    const sent = core.transmit(frameOf(pending));
    if (sent) sentAt.set(pending.request_id, Date.now());
  }

  /** The link is new: whatever was not answered on the old one goes again. */
  function resendAll(): void {
    for (const pending of core.get().chat.pending) if (pending.error === null) transmit(pending);
  }

  function resendUnanswered(): void {
    for (const pending of core.get().chat.pending) {
      const at = sentAt.get(pending.request_id) ?? 0;
      if (pending.error === null && Date.now() - at > RESEND_MS) transmit(pending);
    }
  }

  function retry(requestId: string): void {
    const pending = core.get().chat.pending.find(p => p.request_id === requestId);
    if (!pending) return;
    const again: Pending = { ...pending, error: null };
    core.setChat(chat => ({
      ...chat,
      pending: chat.pending.map(p => (p.request_id === requestId ? again : p)),
    }));
    transmit(again);
  }

  function discard(requestId: string): void {
    forget(requestId);
    core.setChat(chat => ({ ...chat, pending: chat.pending.filter(p => p.request_id !== requestId) }));
  }

  /** A link that ended because something was too big does not say what. */
  function refuseLongest(): void {
    core.setChat(chat => {
      const open = chat.pending.filter(pending => pending.error === null);
      const [longest] = open.sort((a, b) => JSON.stringify(b).length - JSON.stringify(a).length);
      const error = { code: "too_large", message: "" };
      return { ...chat, pending: chat.pending.map(p => (p === longest ? { ...p, error } : p)) };
    });
  }

  function forget(requestId: string): void {
    sentAt.delete(requestId);
    write(PREFIX + requestId, null);
  }

  function onFrame(frame: ServerFrame): void {
    if (frame.type === "accepted") forget(frame.request_id);
    if (frame.type === "error" && frame.request_id !== undefined) {
      const { request_id, retry_after_ms } = frame;
      if (retry_after_ms === undefined || !RETRYABLE.has(frame.code)) return;
      setTimeout(() => retry(request_id), Math.min(retry_after_ms, RETRY_AFTER_MAX_MS));
    }
  }

  return { restore, add, retry, discard, refuseLongest, resendAll, resendUnanswered, onFrame };
}

export function frameOf(pending: Pending) {
  const { request_id, model } = pending;
  if (pending.kind === "regenerate") {
    return { type: "regenerate" as const, request_id, message: pending.message, ...(model ? { model } : {}) };
  }
  return {
    type: "send" as const,
    request_id,
    content: pending.content,
    ...(pending.conversation !== null ? { conversation: pending.conversation } : {}),
    ...(model ? { model } : {}),
    ...(pending.parent !== undefined ? { parent: pending.parent } : {}),
    ...(pending.options ? { options: pending.options } : {}),
  };
}

/** `crypto.randomUUID` exists in secure contexts only; a page served over plain HTTP in a home network has none. */
function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  const hex = Array.from(bytes, byte => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
