import { beforeEach, expect, test, vi } from "vitest";
import type { Api } from "../api";
import { EMPTY } from "../chat/state";
import type { ClientFrame } from "../protocol.gen";
import { type AppState, type Core, initialState } from "./core";
import { createOutbox } from "./outbox";

let state: AppState;
let sent: ClientFrame[];
let outbox: ReturnType<typeof createOutbox>;

const send = (content: string) => outbox.add({ kind: "send", conversation: null, content });
const errors = () => state.chat.pending.map(({ error }) => error?.code ?? null);

beforeEach(() => {
  vi.stubGlobal("localStorage", undefined);
  state = { ...initialState({ page: "chat", conversation: null }), chat: EMPTY };
  sent = [];
  const core: Core = {
    api: {} as Api,
    get: () => state,
    set: change => {
      state = { ...state, ...change };
    },
    setChat: change => {
      state = { ...state, chat: change(state.chat) };
    },
    transmit: frame => sent.push(frame) > 0,
    online: () => true,
  };
  outbox = createOutbox(core);
});

test("what a link ended of is not said again on the next one, and the rest is", () => {
  send("short");
  const long = send("long ".repeat(400_000));
  send("shorter still");
  outbox.refuseLongest();
  expect(errors()).toEqual([null, "too_large", null]);
  sent = [];
  outbox.resendAll();
  expect(sent.map(frame => "content" in frame && frame.content)).toEqual(["short", "shorter still"]);
  outbox.discard(long);
  expect(errors()).toEqual([null, null]);
});

test("a link that ended of something else refuses nothing", () => {
  outbox.refuseLongest();
  expect(errors()).toEqual([]);
  send("a");
  outbox.refuseLongest();
  outbox.refuseLongest();
  expect(errors()).toEqual(["too_large"]);
});
