import type { ServerFrame } from "./protocol.gen";

/** Every frame type that this page knows. A record, so that the compiler asks for the new one when the contract grows. */
const KNOWN: Record<ServerFrame["type"], true> = {
  welcome: true,
  accepted: true,
  subscribed: true,
  message: true,
  conversation: true,
  status: true,
  delta: true,
  snapshot: true,
  rewind: true,
  caught_up: true,
  cancel_accepted: true,
  finished: true,
  heartbeat: true,
  reconnect: true,
  error: true,
  pong: true,
};

/** One frame from the wire; null for what this page does not know, which the contract tells clients to ignore. */
export function parseFrame(data: unknown): ServerFrame | null {
  if (typeof data !== "string") return null;
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null || !("type" in value)) return null;
  return typeof value.type === "string" && Object.hasOwn(KNOWN, value.type) ? (value as ServerFrame) : null;
}
