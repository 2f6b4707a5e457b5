import type {
  ApiKey,
  ClusterView,
  Conversation,
  ErrorBody,
  HistoryItem,
  Imported,
  List,
  LoginMethods,
  Me,
  ModelInfo,
  NewApiKey,
} from "./protocol.gen";

/** The REST side of the contract. Every failure is an ApiError: the network's has the code `unavailable`. */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status: number) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export interface PageOf {
  /** The branch that ends with this message, or goes through it to its newest leaf. */
  readonly through?: string;
  /** The cursor of an older page. */
  readonly before?: string;
  readonly limit?: number;
}

const ALIVE_MS = 2_000;

export const api = {
  conversations: (query: { cursor?: string; q?: string; limit?: number }, signal?: AbortSignal) =>
    call<List<Conversation>>(`/api/conversations${search(query)}`, { signal }),
  conversation: (id: string) => call<Conversation>(`/api/conversations/${encodeURIComponent(id)}`),
  change: (id: string, change: { title?: string; pinned?: boolean }) =>
    call<Conversation>(`/api/conversations/${encodeURIComponent(id)}`, json("PATCH", change)),
  /** `keepalive`: also when the page is going away. */
  remove: (id: string) =>
    call<void>(`/api/conversations/${encodeURIComponent(id)}`, { method: "DELETE", keepalive: true }),
  messages: (id: string, page: PageOf, signal?: AbortSignal) =>
    call<List<HistoryItem>>(`/api/conversations/${encodeURIComponent(id)}/messages${search({ ...page })}`, {
      signal,
    }),
  models: () => call<List<ModelInfo>>("/api/models"),
  cluster: (signal?: AbortSignal) => call<ClusterView>("/api/cluster", { signal }),
  ways: (signal?: AbortSignal) => call<LoginMethods>("/api/login", { signal }),
  login: (name: string, password: string) => call<Me>("/api/login", json("POST", { name, password })),
  logout: () => call<void>("/api/logout", { method: "POST" }),
  me: (signal?: AbortSignal) => call<Me>("/api/me", { signal }),
  keys: (signal?: AbortSignal) => call<List<ApiKey>>("/api/keys", { signal }),
  createKey: (label: string) => call<NewApiKey>("/api/keys", json("POST", { label })),
  revokeKey: (id: string) => call<void>(`/api/keys/${encodeURIComponent(id)}`, { method: "DELETE" }),
  importing: (file: Blob) =>
    call<Imported>("/api/import", {
      method: "POST",
      body: file,
      headers: { "content-type": "application/json" },
    }),
  /** Does the server answer? Never throws. */
  alive: () =>
    fetch("/livez", { cache: "no-store", signal: AbortSignal.timeout(ALIVE_MS) }).then(
      response => response.ok,
      () => false,
    ),
  exportAddress: (id: string, format: "json" | "markdown") =>
    `/api/conversations/${encodeURIComponent(id)}/export?format=${format}`,
};

export type Api = typeof api;

/** Said of the window when the server does not know us, or not any more. */
export const SIGNED_OUT = "chatnode:signed-out";

function search(values: Record<string, string | number | undefined>): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined) query.set(name, String(value));
  const text = query.toString();
  return text === "" ? "" : `?${text}`;
}

function json(method: string, body: object): RequestInit {
  return { method, body: JSON.stringify(body), headers: { "content-type": "application/json" } };
}

async function call<T>(address: string, init: RequestInit = {}): Promise<T> {
  let response: Response;
  try {
    response = await fetch(address, { credentials: "same-origin", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError("unavailable", "the server can't be reached", 0);
  }
  if (response.status === 401 && address !== "/api/login") dispatchEvent(new Event(SIGNED_OUT));
  if (!response.ok) throw await failure(response);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

async function failure(response: Response): Promise<ApiError> {
  try {
    const { error } = (await response.json()) as ErrorBody;
    return new ApiError(error.code, error.message, response.status);
  } catch {
    return new ApiError("unavailable", response.statusText, response.status);
  }
}
