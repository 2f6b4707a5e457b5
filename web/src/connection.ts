import type { ClientFrame, ServerFrame } from "./protocol.gen";
import { parseFrame } from "./wire";

/** One WebSocket that is always on its way back. Knows nothing of chats: it delivers frames, says what state the link is
 *  in, and never gives up. A lost socket says nothing about an answer; only frames do. */

export type Link =
  | {
      readonly phase: "connecting";
      readonly since: number;
      readonly first: boolean;
      readonly offline: boolean;
    }
  | { readonly phase: "online"; readonly node: string; readonly since: number }
  | {
      readonly phase: "waiting";
      readonly retryAt: number;
      readonly offline: boolean;
      /** The server has enough connections of this person, or of this place. */
      readonly tooMany: boolean;
    };

export interface ConnectionOptions {
  /** Opens a new socket. */
  readonly open: () => WebSocket;
  readonly onFrame: (frame: ServerFrame) => void;
  readonly onLink: (link: Link) => void;
  /** The server does not know us, or not any more: the socket stays away. */
  readonly onSignedOut?: () => void;
  /** Something that was sent is longer than the server reads, and would end the next link as well. */
  readonly onTooBig?: () => void;
  /** Is an answer open here? Then the server owes a heartbeat. */
  readonly busy: () => boolean;
  readonly now?: () => number;
  readonly random?: () => number;
  readonly networkUp?: () => boolean;
  /** Does the server answer at all? Asked before a socket is tried again while somebody waits: browsers make a page that
   *  opened many sockets in vain wait for the next one, for seconds. */
  readonly reachable?: () => Promise<boolean>;
  /** Does somebody look at this page? */
  readonly watched?: () => boolean;
}

export interface Connection {
  /** False when there is no open link; the caller keeps what must not be lost. */
  send(frame: ClientFrame): boolean;
  /** The page came back to life, or the network did: find out at once whether the link still lives. */
  wake(): void;
  stop(): void;
}

export const BACKOFF_FIRST_MS = 250;
export const BACKOFF_MAX_MS = 5_000;
/** Another tab has to be closed first, which takes longer than a server takes to come back. */
export const BACKOFF_TOO_MANY_MS = 30_000;
/** Somebody is waiting for the rest of an answer: it has to flow within a second of the server being back. */
export const BACKOFF_AWAITED_MS = 750;
export const STALL_MS = 10_000;
const PING_WHEN_BUSY_MS = 4_000;
const PING_WHEN_IDLE_MS = 25_000;
const WELCOME_MS = 8_000;
const WAKE_PING_MS = 600;
const TICK_MS = 1_000;
/** A tick this late means that the machine slept. */
const SLEPT_MS = 6_000;
/** After these closes the server asked for air: start from a longer delay. */
const TOO_MANY_CLOSE = 4429;
const BUSY_CLOSES = new Set([1013, TOO_MANY_CLOSE]);
const UNAUTHORIZED_CLOSE = 4401;
const TOO_BIG_CLOSE = 1009;

export function connect(options: ConnectionOptions): Connection {
  const now = options.now ?? Date.now;
  const random = options.random ?? Math.random;
  const networkUp = options.networkUp ?? (() => navigator.onLine);
  const watched = options.watched ?? (() => document.visibilityState === "visible");

  let socket: WebSocket | null = null;
  let online = false;
  let stopped = false;
  let attempt = 0;
  let crowded = false;
  let tooMany = false;
  let probed = false;
  /** Which of the tries counts; what an earlier one finds out is of no interest. */
  let round = 0;
  let lastFrameAt = 0;
  let pongBy: number | null = null;
  let lastTickAt = now();
  let openedAt = 0;
  let first = true;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let moveTimer: ReturnType<typeof setTimeout> | undefined;
  const ticker = setInterval(tick, TICK_MS);

  function open(): void {
    clearTimeout(timer);
    clearTimeout(moveTimer);
    round += 1;
    openedAt = now();
    options.onLink({ phase: "connecting", since: openedAt, first, offline: !networkUp() });
    let fresh: WebSocket;
    try {
      fresh = options.open();
    } catch {
      retry();
      return;
    }
    socket = fresh;
    online = false;
    pongBy = null;
    fresh.onmessage = event => {
      if (socket === fresh) receive(event.data);
    };
    fresh.onclose = event => {
      if (socket !== fresh) return;
      if (BUSY_CLOSES.has(event.code)) {
        crowded = true;
        attempt = Math.max(attempt, 3);
      }
      tooMany = event.code === TOO_MANY_CLOSE;
      // It answers, but not to this: no reason to hurry.
      if (probed && !online) crowded = true;
      lose();
      if (event.code === TOO_BIG_CLOSE) options.onTooBig?.();
      if (event.code === UNAUTHORIZED_CLOSE) {
        stop();
        options.onSignedOut?.();
      } else retry();
    };
  }

  function receive(data: unknown): void {
    lastFrameAt = now();
    pongBy = null;
    const frame = parseFrame(data);
    if (frame === null) return;
    if (frame.type === "welcome") {
      online = true;
      first = false;
      attempt = 0;
      crowded = false;
      probed = false;
      options.onLink({ phase: "online", node: frame.node, since: now() });
    }
    if (frame.type === "reconnect") {
      clearTimeout(moveTimer);
      moveTimer = setTimeout(() => replace(), frame.after_ms);
    }
    options.onFrame(frame);
  }

  /** Lets go of the socket; whatever it still delivers is ignored. */
  function lose(): void {
    const gone = socket;
    socket = null;
    online = false;
    pongBy = null;
    clearTimeout(moveTimer);
    gone?.close();
  }

  function replace(): void {
    if (stopped) return;
    lose();
    attempt = 0;
    open();
  }

  function retry(): void {
    if (stopped) return;
    round += 1;
    const patient = tooMany ? BACKOFF_TOO_MANY_MS : BACKOFF_MAX_MS;
    const most = awaited() ? BACKOFF_AWAITED_MS : patient;
    const ceiling = Math.min(most, BACKOFF_FIRST_MS * 2 ** attempt);
    attempt = Math.min(attempt + 1, 16);
    const delay = random() * ceiling;
    options.onLink({ phase: "waiting", retryAt: now() + delay, offline: !networkUp(), tooMany });
    clearTimeout(timer);
    timer = setTimeout(again, delay);
  }

  const awaited = () => options.busy() && watched() && !crowded;

  function again(): void {
    if (options.reachable === undefined || !awaited()) {
      open();
      return;
    }
    const mine = round;
    void options.reachable().then(up => {
      if (stopped || mine !== round) return;
      probed = up;
      if (up) open();
      else retry();
    });
  }

  function tick(): void {
    const at = now();
    const slept = at - lastTickAt > SLEPT_MS;
    lastTickAt = at;
    if (socket === null) return;
    if (!online) {
      if (at - openedAt > WELCOME_MS) {
        lose();
        retry();
      }
      return;
    }
    const silence = at - lastFrameAt;
    const busy = options.busy();
    if ((pongBy !== null && at > pongBy) || (busy && silence >= STALL_MS && !slept)) {
      replace();
    } else if (slept) {
      wake();
    } else if (pongBy === null && silence >= (busy ? PING_WHEN_BUSY_MS : PING_WHEN_IDLE_MS)) {
      ping(STALL_MS - (busy ? PING_WHEN_BUSY_MS : 0));
    }
  }

  function ping(patience: number): void {
    pongBy = now() + patience;
    transmit({ type: "ping" });
  }

  function transmit(frame: ClientFrame): boolean {
    if (socket === null || !online || socket.readyState !== WebSocket.OPEN) return false;
    socket.send(JSON.stringify(frame));
    return true;
  }

  function wake(): void {
    if (stopped) return;
    lastTickAt = now();
    if (socket === null) {
      attempt = 0;
      open();
    } else if (!online) {
      if (now() - openedAt > 2_000 || !networkUp()) replace();
    } else if (now() - lastFrameAt > TICK_MS || !networkUp()) {
      ping(WAKE_PING_MS);
      setTimeout(() => {
        if (pongBy !== null && now() >= pongBy) replace();
      }, WAKE_PING_MS);
    }
  }

  function stop(): void {
    stopped = true;
    clearInterval(ticker);
    clearTimeout(timer);
    lose();
  }

  open();

  return { send: transmit, wake, stop };
}
