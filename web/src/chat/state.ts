import type { Conversation, Failure, Message, Options, Progress, Status } from "../protocol.gen";

/** What the page knows. Plain data, replaced and never changed in place: a reference that stayed the same means that
 *  nothing below it changed, and that is how a token re-renders one message only. */
export interface ChatState {
  readonly conversations: Readonly<Record<string, Conversation>>;
  readonly messages: Readonly<Record<string, Message>>;
  readonly generations: Readonly<Record<string, Generation>>;
  readonly threads: Readonly<Record<string, Thread>>;
  /** Sends and regenerations that no `accepted` has answered yet, oldest first. */
  readonly pending: readonly Pending[];
  /** Answers whose received text was not the final one and was replaced by it. Stays 0 unless something is wrong. */
  readonly repairs: number;
}

/** The statuses that are no end; while it is open, a generation may also be recovering. */
export type EndStatus = Exclude<Status, "queued" | "running">;

/** One run of a model, as far as this page has read its log. */
export interface Generation {
  readonly id: string;
  readonly conversation: string | null;
  readonly message: string | null;
  readonly status: Progress | EndStatus;
  readonly ahead: number | null;
  /** The last position applied; null before the first. */
  readonly position: string | null;
  readonly text: string;
  readonly textBytes: number;
  readonly reasoning: string;
  readonly reasoningBytes: number;
  /** Something is missing between what is held and what came: subscribe again with what is known. */
  readonly gap: boolean;
  /** The tail of the last heartbeat that was ahead of `position`, and whether it has been asked for. */
  readonly tail: { readonly position: string; readonly asked: boolean } | null;
  /** A cancel was asked for here or acknowledged. */
  readonly stopping: boolean;
}

export type ThreadLoad = "none" | "loading" | "ready" | "failed" | "not_found";

/** The branch of a conversation that is on the screen, root side first. */
export interface Thread {
  readonly load: ThreadLoad;
  readonly path: readonly string[];
  /** Children of a message (or of the root, under ROOT) in order of creation, where known. */
  readonly children: Readonly<Record<string, readonly string[]>>;
  /** Cursor of the page before the first of `path`; null when the first message is loaded. */
  readonly older: string | null;
  /** The reader switched to a branch: changes elsewhere do not take them away from it. */
  readonly chosen: boolean;
  /** What is held cannot be right: the messages must be read again. */
  readonly reload: boolean;
}

export const ROOT = "";

interface PendingBase {
  readonly request_id: string;
  readonly created_at: string;
  readonly error: (Failure & { readonly retry_after_ms?: number }) | null;
}

export interface PendingSend extends PendingBase {
  readonly kind: "send";
  /** null: a conversation that the server will create. */
  readonly conversation: string | null;
  readonly content: string;
  readonly model?: string;
  /** Absent: after the newest message. */
  readonly parent?: string | null;
  readonly options?: Options;
}

export interface PendingRegenerate extends PendingBase {
  readonly kind: "regenerate";
  readonly conversation: string;
  readonly message: string;
  readonly model?: string;
}

export type Pending = PendingSend | PendingRegenerate;

export const EMPTY: ChatState = {
  conversations: {},
  messages: {},
  generations: {},
  threads: {},
  pending: [],
  repairs: 0,
};

export const NO_THREAD: Thread = {
  load: "none",
  path: [],
  children: {},
  older: null,
  chosen: false,
  reload: false,
};

export function isOpen(generation: Generation): boolean {
  return (
    generation.status === "queued" || generation.status === "running" || generation.status === "recovering"
  );
}

export function isEnded(status: Status): status is EndStatus {
  return status !== "queued" && status !== "running";
}
