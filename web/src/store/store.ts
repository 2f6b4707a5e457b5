import { api, SIGNED_OUT } from "../api";
import { applyFrame } from "../chat/reducer";
import { type ChatState, isOpen } from "../chat/state";
import { openGeneration, waitingIn } from "../chat/view";
import { connect, type Link } from "../connection";
import type { Conversation, Options, ServerFrame } from "../protocol.gen";
import { createConversations } from "./conversations";
import { type AppState, type Core, initialState } from "./core";
import { createOutbox } from "./outbox";
import { adoptSetup } from "./preferences";
import { openConversation, parseRoute, type Route, routeAddress } from "./route";
import { createSubscriptions } from "./subscriptions";
import { createThreads } from "./threads";

export interface SendRequest {
  readonly content: string;
  readonly conversation: string | null;
  readonly model?: string;
  readonly parent?: string | null;
  readonly options?: Options;
}

export type Store = ReturnType<typeof createStore>;

const HOUSEKEEPING_MS = 2_000;
/** A frame that takes no longer than this may be followed by the next one. */
const SWIFT_MS = 12;
const REST_MAX_MS = 160;

/** The page without React: holds the state, runs every frame through the reducer, and lets its parts act on it. */
export function createStore() {
  let state: AppState = initialState(parseRoute(location.hash));
  /** What React sees. Behind `state` for at most one animation frame while an answer streams. */
  let shown = state;
  let drawing = false;
  let restUntil = 0;
  const readers = new Set<() => void>();

  function publish(): void {
    drawing = false;
    if (shown === state) return;
    shown = state;
    for (const reader of readers) reader();
  }

  function set(change: Partial<AppState>, when: "now" | "frame" = "now"): void {
    state = { ...state, ...change };
    if (when === "now") publish();
    else if (!drawing) {
      drawing = true;
      // A hidden page draws no frames, but its title and its other tabs' state still count.
      if (document.visibilityState === "visible") requestAnimationFrame(draw);
      else setTimeout(publish, 200);
    }
  }

  /** With the frame, and on a slow machine not with every one: three quarters of the time are for the reader's hands. */
  function draw(): void {
    const began = performance.now();
    if (began < restUntil) {
      requestAnimationFrame(draw);
      return;
    }
    publish();
    // This comes when the frame has been laid out and painted.
    setTimeout(() => {
      const cost = performance.now() - began;
      restUntil = cost > SWIFT_MS ? performance.now() + Math.min(3 * cost, REST_MAX_MS) : 0;
    });
  }

  const core: Core = {
    api,
    get: () => state,
    set,
    setChat(change: (chat: ChatState) => ChatState) {
      const chat = change(state.chat);
      if (chat !== state.chat) set({ chat });
    },
    transmit: frame => connection.send(frame),
    online: () => state.link.phase === "online",
  };

  const outbox = createOutbox(core);
  const subscriptions = createSubscriptions(core);
  const threads = createThreads(core);
  const conversations = createConversations(core, conversation => {
    if (openConversation(state.route) === conversation) go({ page: "chat", conversation: null });
  });
  const parts = [outbox, conversations, threads, subscriptions];
  /** Sends of this tab that open the conversation which they create. */
  const opening = new Set<string>();
  /** Sends that were stopped before the server gave their answer a name. */
  const stopping = new Set<string>();
  let linkedBefore = false;

  function onFrame(frame: ServerFrame): void {
    const chat = applyFrame(state.chat, frame);
    const immediate = frame.type !== "delta" && frame.type !== "heartbeat";
    if (chat !== state.chat) set({ chat }, immediate ? "now" : "frame");
    if (frame.type === "welcome") relinked();
    for (const part of parts) part.onFrame(frame);
    if (frame.type === "accepted") {
      accepted(frame.request_id, frame.conversation, frame.assistant_message.generation);
    }
  }

  function accepted(requestId: string, conversation: string, generation: string | undefined): void {
    if (stopping.delete(requestId) && generation !== undefined) stop(generation);
    if (!opening.delete(requestId)) return;
    adoptSetup(conversation);
    if (state.route.page === "chat" && state.route.conversation === null) {
      go({ page: "chat", conversation }, "replace");
    }
  }

  function relinked(): void {
    outbox.resendAll();
    if (linkedBefore || state.list.load === "failed") {
      void conversations.load();
      threads.refresh();
    }
    if (state.models === null || linkedBefore) void loadModels();
    linkedBefore = true;
  }

  async function loadModels(): Promise<void> {
    try {
      set({ models: (await api.models()).items });
    } catch {
      // Asked again with the next link.
    }
  }

  const connection = connect({
    open: () => {
      const scheme = location.protocol === "https:" ? "wss" : "ws";
      return new WebSocket(`${scheme}://${location.host}/ws/chat`, "chatnode.v1");
    },
    reachable: api.alive,
    onFrame,
    onLink: (link: Link) => set({ link }),
    onSignedOut: signOut,
    onTooBig: outbox.refuseLongest,
    busy: () => state.chat.pending.length > 0 || Object.values(state.chat.generations).some(isOpen),
  });

  function signOut(): void {
    connection.stop();
    set({ signedOut: true });
  }

  function go(route: Route, how: "push" | "replace" = "push"): void {
    const address = routeAddress(route);
    if (how === "replace") history.replaceState(null, "", address);
    else if (location.hash !== address) history.pushState(null, "", address);
    arrive(route);
  }

  function arrive(route: Route): void {
    set({ route });
    const conversation = openConversation(route);
    if (conversation !== null) threads.open(conversation);
    subscriptions.sync();
  }

  function send(request: SendRequest): void {
    const requestId = outbox.add({ kind: "send", ...request });
    if (request.conversation === null) opening.add(requestId);
  }

  function regenerate(conversation: string, message: string, model?: string): void {
    outbox.add({ kind: "regenerate", conversation, message, ...(model ? { model } : {}) });
  }

  function stop(generation: string): void {
    core.setChat(chat => {
      const held = chat.generations[generation];
      if (!held || !isOpen(held)) return chat;
      return { ...chat, generations: { ...chat.generations, [generation]: { ...held, stopping: true } } };
    });
    core.transmit({ type: "cancel", generation });
  }

  /** Whatever is on its way in this conversation. False: nothing is. */
  function stopIn(conversation: string | null): boolean {
    const { chat } = state;
    const generation = conversation === null ? null : openGeneration(chat, chat.threads[conversation]);
    const pending = waitingIn(chat, conversation);
    if (generation) stop(generation.id);
    else if (pending) stopPending(pending.request_id);
    return generation !== null || pending !== undefined;
  }

  /** Before the link took it along, a send can be taken back; after that its answer is stopped as soon as it has a name. */
  function stopPending(requestId: string): void {
    if (core.online()) stopping.add(requestId);
    else outbox.discard(requestId);
  }

  /** Stops asked for while the link was away, or swallowed by a dying one. */
  function repeatStops(): void {
    for (const g of Object.values(state.chat.generations)) {
      if (g.stopping && isOpen(g)) core.transmit({ type: "cancel", generation: g.id });
    }
  }

  outbox.restore();
  for (const pending of state.chat.pending) {
    if (pending.kind === "send" && pending.conversation === null) opening.add(pending.request_id);
  }
  addEventListener(SIGNED_OUT, signOut);
  addEventListener("popstate", () => arrive(parseRoute(location.hash)));
  addEventListener("pageshow", connection.wake);
  addEventListener("online", connection.wake);
  // The socket is the last to learn that the network is gone.
  addEventListener("offline", connection.wake);
  addEventListener("pagehide", conversations.dismissNotice);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") connection.wake();
  });
  setInterval(() => {
    if (!core.online()) return;
    outbox.resendUnanswered();
    repeatStops();
    subscriptions.sync();
  }, HOUSEKEEPING_MS);
  void conversations.load();
  arrive(state.route);

  return {
    get: () => shown,
    subscribe(reader: () => void) {
      readers.add(reader);
      return () => readers.delete(reader);
    },
    go,
    send,
    regenerate,
    stopIn,
    retryPending: outbox.retry,
    discardPending: outbox.discard,
    older: threads.older,
    choose: threads.choose,
    reload: threads.retry,
    listMore: conversations.more,
    listRetry: () => void conversations.load(),
    change: conversations.change,
    remove: conversations.remove,
    undoRemove: conversations.undoRemove,
    importFile: conversations.importFile,
    dismissNotice: conversations.dismissNotice,
    reconnectNow: connection.wake,
    search: (q: string, signal: AbortSignal): Promise<readonly Conversation[]> =>
      api.conversations({ q, limit: 50 }, signal).then(page => page.items),
    cluster: api.cluster,
    exportAddress: api.exportAddress,
  };
}
