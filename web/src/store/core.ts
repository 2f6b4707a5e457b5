import type { Api } from "../api";
import { type ChatState, EMPTY } from "../chat/state";
import type { Link } from "../connection";
import type { ClientFrame, ModelInfo, ServerFrame } from "../protocol.gen";
import type { Route } from "./route";

/** Everything the page shows, as one value. */
export interface AppState {
  readonly chat: ChatState;
  readonly link: Link;
  readonly route: Route;
  readonly list: ConversationList;
  readonly models: readonly ModelInfo[] | null;
  /** Deleted here, and still to be undone: not shown. */
  readonly hidden: readonly string[];
  readonly notice: Notice | null;
  /** The server wants to know who this is. */
  readonly signedOut: boolean;
}

export interface ConversationList {
  readonly load: "loading" | "ready" | "failed";
  readonly next: string | null;
}

export type Notice =
  | { readonly id: number; readonly kind: "deleted"; readonly conversation: string }
  | { readonly id: number; readonly kind: "imported"; readonly count: number }
  | { readonly id: number; readonly kind: "error"; readonly code: string; readonly message: string };

/** What the parts of the store share. */
export interface Core {
  readonly api: Api;
  get(): AppState;
  /** `frame`: shown with the next animation frame, together with whatever else came until then. */
  set(change: Partial<AppState>, when?: "now" | "frame"): void;
  setChat(change: (chat: ChatState) => ChatState): void;
  transmit(frame: ClientFrame): boolean;
  readonly online: () => boolean;
}

/** A part of the store that acts on what came from the server, after the reducer did. */
export type Listener = (frame: ServerFrame) => void;

export function initialState(route: Route): AppState {
  return {
    chat: EMPTY,
    link: { phase: "connecting", since: Date.now(), first: true, offline: false },
    route,
    list: { load: "loading", next: null },
    models: null,
    hidden: [],
    notice: null,
    signedOut: false,
  };
}
