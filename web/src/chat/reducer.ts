import type { ConversationChange, HistoryItem, Message, ServerFrame, Status } from "../protocol.gen";
import { type ChatState, type EndStatus, type Generation, isEnded, isOpen } from "./state";
import {
  applyDelta,
  applyRewind,
  applySnapshot,
  applyStatus,
  applyTail,
  end,
  newGeneration,
  verify,
} from "./stream";
import { place, threadOf, withThread } from "./thread";

type Frame<T extends ServerFrame["type"]> = Extract<ServerFrame, { type: T }>;

/** What a frame from the server does to what the page knows: the only copy of these rules, for live and for replayed
 *  frames. Applying a frame twice, or late, changes nothing that is already right. */
export function applyFrame(state: ChatState, frame: ServerFrame): ChatState {
  switch (frame.type) {
    case "accepted":
      return accepted(state, frame);
    case "subscribed":
      return subscribed(state, frame);
    case "message":
      return withMessage(state, frame.message, false);
    case "conversation":
      return withConversation(state, frame.conversation);
    case "status":
      return withGeneration(state, frame.generation, g => applyStatus(g, frame.status, frame.ahead ?? null));
    case "delta":
      return withGeneration(state, frame.generation, g => applyDelta(g, frame));
    case "snapshot":
      return withGeneration(state, frame.generation, g => applySnapshot(g, frame));
    case "rewind":
      return withGeneration(state, frame.generation, g => applyRewind(g, frame));
    case "caught_up":
      return caughtUp(state, frame.conversation);
    case "cancel_accepted":
      return withGeneration(state, frame.generation, g =>
        g.stopping || !isOpen(g) ? g : { ...g, stopping: true },
      );
    case "finished":
      return finished(state, frame);
    case "heartbeat":
      return frame.tails.reduce(
        (next, tail) =>
          next.generations[tail.generation]
            ? withGeneration(next, tail.generation, g => applyTail(g, tail.position))
            : next,
        state,
      );
    case "error":
      return failed(state, frame);
    case "welcome":
    case "reconnect":
    case "pong":
      // The connection's own business.
      return state;
    default:
      return frame satisfies never;
  }
}

function withGeneration(state: ChatState, id: string, change: (g: Generation) => Generation): ChatState {
  const held = state.generations[id] ?? newGeneration(id, null, null);
  const next = change(held);
  if (next === state.generations[id]) return state;
  return { ...state, generations: { ...state.generations, [id]: next } };
}

function accepted(state: ChatState, frame: Frame<"accepted">): ChatState {
  const mine = state.pending.some(p => p.request_id === frame.request_id);
  let next: ChatState = mine
    ? { ...state, pending: state.pending.filter(p => p.request_id !== frame.request_id) }
    : state;
  const thread = threadOf(next, frame.conversation);
  if (thread.load === "none" && frame.user_message.parent === null) {
    // A new conversation: its first two messages are all there is to load.
    next = withThread(next, frame.conversation, { ...thread, load: "ready" });
  }
  next = withMessage(next, frame.user_message, mine);
  next = withMessage(next, frame.assistant_message, mine);
  const known = next.conversations[frame.conversation];
  if (known && known.updated_at < frame.assistant_message.created_at) {
    next = withConversation(next, { ...known, updated_at: frame.assistant_message.created_at });
  }
  return next;
}

/** Messages only go forward: an ended one never becomes a running one again, whatever comes late. */
export function withMessage(state: ChatState, message: HistoryItem, mine: boolean): ChatState {
  const held = state.messages[message.id];
  const stale = held !== undefined && isEnded(held.status) && !isEnded(message.status);
  let next = stale ? state : { ...state, messages: { ...state.messages, [message.id]: message } };
  const thread = next.threads[message.conversation];
  if (thread) {
    next = withThread(next, message.conversation, place(thread, message, mine || !thread.chosen));
  }
  return stale ? next : bindGeneration(next, message);
}

function bindGeneration(state: ChatState, message: HistoryItem): ChatState {
  if (message.role !== "assistant" || message.generation === undefined) return state;
  const held = state.generations[message.generation];
  if (isEnded(message.status)) {
    if (!held || !isOpen(held)) return state;
    const status = message.status;
    return withGeneration(state, held.id, g => end(g, status));
  }
  return withGeneration(state, message.generation, g => {
    const bound =
      g.conversation === null || g.message === null
        ? { ...g, conversation: message.conversation, message: message.id }
        : g;
    if (message.position === undefined) return bound;
    return applySnapshot(bound, {
      position: message.position,
      text: message.content,
      reasoning: message.reasoning,
    });
  });
}

function subscribed(state: ChatState, frame: Frame<"subscribed">): ChatState {
  return frame.generations.reduce((next, named) => {
    // An end is told by its own `finished`; here it is only a name.
    const held = next.generations[named.generation];
    if (held?.conversation && held.message) return next;
    return withGeneration(next, named.generation, g => ({
      ...g,
      conversation: frame.conversation,
      message: named.message,
    }));
  }, state);
}

function caughtUp(state: ChatState, conversation: string): ChatState {
  let next = state;
  for (const generation of Object.values(state.generations)) {
    if (generation.gap && (generation.conversation === conversation || generation.conversation === null)) {
      next = withGeneration(next, generation.id, g => ({ ...g, gap: false }));
    }
  }
  return next;
}

function finished(state: ChatState, frame: Frame<"finished">): ChatState {
  const held = state.generations[frame.generation];
  if (held && !isOpen(held)) return state;
  const verdict = verify(held, frame.message.content, frame.length, frame.crc32);
  const message: Message = {
    ...frame.message,
    content: verdict === "exact" && held ? held.text : frame.message.content,
    status: endOf(frame.status),
    generation: frame.generation,
    ...(frame.usage ? { usage: frame.usage } : {}),
    ...(frame.error ? { error: frame.error } : {}),
  };
  let next = withMessage(state, message, false);
  next = withGeneration(next, frame.generation, g =>
    end({ ...g, conversation: message.conversation, message: message.id }, endOf(frame.status)),
  );
  const conversation = next.conversations[message.conversation];
  if (conversation?.generating) next = withConversation(next, { ...conversation, generating: false });
  if (verdict === "exact") return next;
  // An answer that was never read here is no repair: its text comes with its end.
  const streamed = held !== undefined && held.position !== null;
  next = streamed ? { ...next, repairs: next.repairs + 1 } : next;
  if (verdict === "repaired") return next;
  const thread = next.threads[message.conversation];
  return thread ? withThread(next, message.conversation, { ...thread, reload: true }) : next;
}

/** The type of the wire allows an end that is none; what ended without a word why has been interrupted. */
function endOf(status: Status): EndStatus {
  return isEnded(status) ? status : "interrupted";
}

export function withConversation(state: ChatState, change: ConversationChange): ChatState {
  const { deleted, ...conversation } = change;
  if (deleted) return withoutConversation(state, conversation.id);
  const held = state.conversations[conversation.id];
  if (held && held.version > conversation.version) return state;
  return { ...state, conversations: { ...state.conversations, [conversation.id]: conversation } };
}

export function withoutConversation(state: ChatState, id: string): ChatState {
  const { [id]: _gone, ...conversations } = state.conversations;
  const thread = state.threads[id];
  return {
    ...state,
    conversations,
    threads: thread
      ? { ...state.threads, [id]: { ...thread, load: "not_found", path: [], older: null } }
      : state.threads,
  };
}

function failed(state: ChatState, frame: Frame<"error">): ChatState {
  if (frame.request_id !== undefined) {
    const { code, message, retry_after_ms } = frame;
    return {
      ...state,
      pending: state.pending.map(p =>
        p.request_id === frame.request_id ? { ...p, error: { code, message, retry_after_ms } } : p,
      ),
    };
  }
  const thread = frame.conversation === undefined ? undefined : state.threads[frame.conversation];
  if (frame.conversation !== undefined && thread && frame.code === "not_found") {
    return withThread(state, frame.conversation, { ...thread, load: "not_found", path: [], older: null });
  }
  return state;
}
