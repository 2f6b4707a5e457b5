import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { applyFrame } from "./chat/reducer";
import { EMPTY, type Pending } from "./chat/state";
import type { ClientFrame, ServerFrame } from "./protocol.gen";
import { frameOf } from "./store/outbox";
import { parseFrame } from "./wire";

/** The frames that the server's tests read too: both sides agree on every one, or a test fails. */
function golden<T extends { type: string }>(name: "client" | "server"): T[] {
  const text = readFileSync(new URL(`../../tests/golden/${name}.json`, import.meta.url), "utf8");
  const frames = JSON.parse(text) as T[];
  if (!Array.isArray(frames) || frames.length === 0) throw new Error(`no golden frames in ${name}.json`);
  return frames;
}

const server = golden<ServerFrame>("server");
const client = golden<ClientFrame>("client");

const SERVER_TYPES = [
  "accepted",
  "cancel_accepted",
  "caught_up",
  "conversation",
  "delta",
  "error",
  "finished",
  "heartbeat",
  "message",
  "pong",
  "reconnect",
  "rewind",
  "snapshot",
  "status",
  "subscribed",
  "welcome",
];
const CLIENT_TYPES = ["cancel", "ping", "regenerate", "send", "subscribe", "unsubscribe"];

const typesOf = (frames: readonly { type: string }[]) => [...new Set(frames.map(frame => frame.type))].sort();

describe("golden frames of the server", () => {
  test("are of every type", () => {
    expect(typesOf(server)).toEqual(SERVER_TYPES);
  });

  test.each(server.map((frame, i) => [i, frame.type, frame] as const))("%i: %s", (_i, _type, frame) => {
    const read = parseFrame(JSON.stringify(frame));
    expect(read).toEqual(frame);
    const once = applyFrame(EMPTY, frame);
    expect(applyFrame(once, frame)).toEqual(once);
  });

  test("come through one after the other, and what ended has its text", () => {
    const state = server.reduce(applyFrame, EMPTY);
    for (const frame of server) {
      if (frame.type === "finished") expect(state.messages[frame.message.id]?.status).not.toBe("running");
    }
  });
});

describe("golden frames of the client", () => {
  test("are of every type", () => {
    expect(typesOf(client)).toEqual(CLIENT_TYPES);
  });

  test.each(client.map((frame, i) => [i, frame.type, frame] as const))(
    "%i: %s is what this page would send",
    (_i, _type, frame) => {
      expect(ours(frame)).toEqual(frame);
    },
  );
});

/** The same frame, made by the code that makes it here. */
function ours(frame: ClientFrame): ClientFrame {
  const pending = { created_at: "2026-01-01T00:00:00Z", error: null };
  switch (frame.type) {
    case "send": {
      const { type: _type, conversation, ...rest } = frame;
      return frameOf({ kind: "send", ...pending, ...rest, conversation: conversation ?? null } as Pending);
    }
    case "regenerate": {
      const { type: _type, ...rest } = frame;
      return frameOf({ kind: "regenerate", ...pending, ...rest, conversation: "cnv_any" } as Pending);
    }
    case "subscribe":
      return {
        type: "subscribe",
        conversation: frame.conversation,
        ...(frame.known
          ? {
              known: frame.known.map(({ generation, position, offset }) => ({
                generation,
                position,
                offset,
              })),
            }
          : {}),
      };
    case "unsubscribe":
      return { type: "unsubscribe", conversation: frame.conversation };
    case "cancel":
      return { type: "cancel", generation: frame.generation };
    case "ping":
      return { type: "ping" };
  }
}
