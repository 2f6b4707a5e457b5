// Generated from src/protocol.rs by `UPDATE=1 cargo test typescript`. Not edited by hand.

export type ClientFrame = { "type": "send" } & Send | { "type": "regenerate", request_id: string, message: string, model?: string, } | { "type": "subscribe", conversation: string, known?: Array<Known>, } | { "type": "unsubscribe", conversation: string, } | { "type": "cancel", generation: string, } | { "type": "ping" };

export type ServerFrame = { "type": "welcome", connection: string, node: string, user: string, protocol: number, heartbeat_ms: number, locale?: string, } | { "type": "accepted", request_id: string, conversation: string, user_message: Message, assistant_message: Message, } | { "type": "subscribed", conversation: string, version: number, generations: Array<Generation>, } | { "type": "message", conversation: string, message: Message, } | { "type": "conversation", conversation: ConversationChange, } | { "type": "status", generation: string, status: Progress, 
/**
 * How many wait before it.
 */
ahead?: number, } | { "type": "delta", generation: string, position: string, offset: number, text: string, channel?: Channel, replay?: boolean, } | { "type": "snapshot", generation: string, position: string, text: string, reasoning?: string, } | { "type": "rewind", generation: string, position: string, offset: number, channel?: Channel, } | { "type": "caught_up", conversation: string, } | { "type": "cancel_accepted", generation: string, } | { "type": "finished" } & Finished | { "type": "heartbeat", tails: Array<Tail>, } | { "type": "reconnect", after_ms: number, reason: string, } | { "type": "error" } & ErrorFrame | { "type": "pong" };

export type Send = { 
/**
 * Idempotency key, made by the client.
 */
request_id: string, content: string, 
/**
 * Absent: a new one.
 */
conversation?: string, model?: string, 
/**
 * Absent: behind the newest message. `null`: a new first question. Else the message to branch from.
 */
parent?: string | null, options?: Options, };

export type Known = { generation: string, position: string, 
/**
 * UTF-8 bytes of text.
 */
offset: number, };

export type Finished = { generation: string, message: Message, status: Status, finish_reason?: string, 
/**
 * UTF-8 bytes of the text channel.
 */
length: number, 
/**
 * CRC-32 (IEEE 802.3) of the text channel.
 */
crc32: number, usage?: Usage, error?: Failure, };

export type Generation = { generation: string, message: string, status: Status, };

export type Tail = { generation: string, position: string, };

export type ConversationChange = { deleted?: boolean, id: string, title: string, pinned: boolean, 
/**
 * Grows with every change that its readers should notice.
 */
version: number, created_at: string, updated_at: string, 
/**
 * True while one of its answers is queued or running.
 */
generating: boolean, };

export type ErrorFrame = { code: ErrorCode, message: string, request_id?: string, 
/**
 * What was not found.
 */
conversation?: string, generation?: string, retry_after_ms?: number, 
/**
 * How an answer ended that can't be cancelled any more.
 */
status?: Status, };

export type ErrorCode = "bad_frame" | "too_large" | "not_found" | "unauthorized" | "rate_limited" | "quota_exceeded" | "model_not_found" | "overloaded" | "unavailable" | "conflict";

export type Message = { id: string, conversation: string, parent: string | null, role: Role, content: string, reasoning?: string, status: Status, generation?: string, model?: string, options?: Options, finish_reason?: string, usage?: Usage, timing?: Timing, error?: Failure, created_at: string, };

export type Role = "user" | "assistant";

export type Status = "queued" | "running" | "completed" | "cancelled" | "interrupted" | "failed";

export type Usage = { input_tokens: number, output_tokens: number, 
/**
 * True when the upstream told nothing and we counted for ourselves.
 */
estimated?: boolean, };

export type Timing = { first_token_ms: number, total_ms: number, };

export type Failure = { code: string, message: string, };

export type Options = { system?: string, temperature?: number, 
/**
 * The longest answer, in tokens of the model.
 */
max_tokens?: number, };

export type Channel = "text" | "reasoning";

export type Progress = "queued" | "running" | "recovering";

export type Conversation = { id: string, title: string, pinned: boolean, 
/**
 * Grows with every change that its readers should notice.
 */
version: number, created_at: string, updated_at: string, 
/**
 * True while one of its answers is queued or running.
 */
generating: boolean, };

export type ErrorBody = { error: ErrorFrame, };

export type List<T> = { items: Array<T>, next: string | null, };

export type CreateConversation = { title?: string, };

export type PatchConversation = { title?: string, pinned?: boolean, };

export type PostMessage = { content: string, model?: string, 
/**
 * As in the `send` frame.
 */
parent?: string | null, options?: Options, };

export type Posted = { user_message: Message, assistant_message: Message, };

export type HistoryItem = { 
/**
 * All alternatives in the order of their creation, this one included; empty when it is alone.
 */
siblings?: Array<string>, position?: string, offset?: number, id: string, conversation: string, parent: string | null, role: Role, content: string, reasoning?: string, status: Status, generation?: string, model?: string, options?: Options, finish_reason?: string, usage?: Usage, timing?: Timing, error?: Failure, created_at: string, };

export type CancelAnswer = { generation: string, status: Status, };

export type ModelInfo = { id: string, name: string, provider: string, 
/**
 * The built-in demonstration model, to be labelled as such wherever it shows.
 */
demo: boolean, default: boolean, context_tokens?: number, 
/**
 * The longest answer, in tokens, where the user sets none.
 */
max_tokens?: number, 
/**
 * The longest answer that anybody gets, whatever the user sets.
 */
max_tokens_cap?: number, 
/**
 * Others don't see it, and can't ask it.
 */
admin_only?: boolean, };

export type NodeInfo = { id: string, roles: Array<string>, version: string, draining: boolean, started_at: string, seen_at: string, connections: number, running: number, capacity: number, models: Array<ModelInfo>, };

export type ClusterView = { 
/**
 * The node that answered.
 */
node: string, 
/**
 * What its clock says: `seen_at` is by the same.
 */
now: string, nodes: Array<NodeInfo>, waiting: Array<Waiting>, };

export type Waiting = { model: string, count: number, };

export type Export = { 
/**
 * Always `chatnode.v1`.
 */
format: string, conversation: Conversation, 
/**
 * Parents before children.
 */
messages: Array<Message>, };

export type Imported = { conversation: Conversation, messages: number, };

export type LoginMethods = { methods: Array<LoginMethod>, 
/**
 * What people call the provider of `oidc`.
 */
provider?: string, };

export type LoginMethod = "local" | "oidc";

export type Login = { name: string, password: string, };

export type Me = { user: string, 
/**
 * Absent where nobody logs in.
 */
name?: string, admin: boolean, };

export type ApiKey = { id: string, label: string, created_at: string, };

export type CreateApiKey = { 
/**
 * What its owner calls it.
 */
label: string, };

export type NewApiKey = { key: string, id: string, label: string, created_at: string, };
