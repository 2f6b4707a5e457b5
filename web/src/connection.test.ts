import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  BACKOFF_AWAITED_MS,
  BACKOFF_FIRST_MS,
  BACKOFF_MAX_MS,
  BACKOFF_TOO_MANY_MS,
  type Connection,
  connect,
  type Link,
  STALL_MS,
} from "./connection";
import type { ServerFrame } from "./protocol.gen";

/** The browser's side of a socket: what the network does to it is said by the test. */
class Wire {
  static readonly OPEN = 1;
  readyState = 1;
  sent: { type: string }[] = [];
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  send(text: string): void {
    this.sent.push(JSON.parse(text));
  }
  close(): void {
    this.readyState = 3;
  }
  frame(frame: object): void {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
  welcome(): void {
    this.frame({ type: "welcome", connection: "c", node: "n1", user: "u", protocol: 1, heartbeat_ms: 1000 });
  }
  die(code = 1006): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }
}

let wires: Wire[];
let links: Link[];
let frames: ServerFrame[];
let tooBig: number;
let busy: boolean;
let watched: boolean;
let reachable: (() => Promise<boolean>) | undefined;
let connection: Connection;

function start(random = 0.999): void {
  connection = connect({
    open: () => {
      const wire = new Wire();
      wires.push(wire);
      return wire as unknown as WebSocket;
    },
    onFrame: frame => frames.push(frame),
    onLink: link => links.push(link),
    onTooBig: () => {
      tooBig += 1;
    },
    busy: () => busy,
    random: () => random,
    networkUp: () => true,
    ...(reachable ? { reachable } : {}),
    watched: () => watched,
  });
}

const last = () => wires[wires.length - 1] as Wire;
const phase = () => links[links.length - 1]?.phase;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", Wire);
  wires = [];
  links = [];
  frames = [];
  tooBig = 0;
  busy = false;
  watched = true;
  reachable = undefined;
});

afterEach(() => {
  connection.stop();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("signed out", () => {
  test("a socket that the server does not know stays away, and says so once", () => {
    let said = 0;
    start();
    connection.stop();
    connection = connect({
      open: () => {
        const wire = new Wire();
        wires.push(wire);
        return wire as unknown as WebSocket;
      },
      onFrame: frame => frames.push(frame),
      onLink: link => links.push(link),
      onSignedOut: () => {
        said += 1;
      },
      busy: () => false,
      networkUp: () => true,
    });
    last().welcome();
    const before = wires.length;
    last().die(4401);
    vi.advanceTimersByTime(10 * BACKOFF_MAX_MS);
    connection.wake();
    expect([wires.length, said]).toEqual([before, 1]);
  });
});

describe("coming back", () => {
  test("a link that ended because something was too big says so before the next one opens", () => {
    start();
    last().welcome();
    last().die(1006);
    expect(tooBig).toBe(0);
    vi.advanceTimersByTime(BACKOFF_MAX_MS);
    last().welcome();
    last().die(1009);
    expect([tooBig, phase(), wires.length]).toEqual([1, "waiting", 2]);
    vi.advanceTimersByTime(BACKOFF_MAX_MS);
    expect(wires.length).toBe(3);
  });

  test("never gives up, and waits from 0.25 s up to 5 s", () => {
    start();
    const waits: number[] = [];
    for (let i = 0; i < 40; i++) {
      last().die();
      const link = links[links.length - 1] as Extract<Link, { phase: "waiting" }>;
      waits.push(link.retryAt - Date.now());
      vi.advanceTimersByTime(BACKOFF_MAX_MS);
    }
    expect(wires.length).toBe(41);
    expect(waits[0]).toBeLessThanOrEqual(250);
    expect(waits[0]).toBeGreaterThan(240);
    expect(Math.max(...waits)).toBeLessThanOrEqual(BACKOFF_MAX_MS);
    expect(waits.at(-1)).toBeGreaterThan(4_900);
  });

  test("somebody who waits for an answer is not kept waiting, unless the server asked for air", () => {
    const longest = () => {
      for (let i = 0; i < 8; i++) {
        last().die();
        vi.advanceTimersByTime(BACKOFF_MAX_MS);
      }
      last().die();
      const { retryAt } = links[links.length - 1] as Extract<Link, { phase: "waiting" }>;
      const wait = retryAt - Date.now();
      vi.advanceTimersByTime(BACKOFF_MAX_MS);
      return wait;
    };
    busy = true;
    start();
    expect(longest()).toBeLessThanOrEqual(BACKOFF_AWAITED_MS);
    watched = false;
    expect(longest()).toBeGreaterThan(4_900);
    watched = true;
    last().die(1013);
    vi.advanceTimersByTime(BACKOFF_MAX_MS);
    expect(longest()).toBeGreaterThan(4_900);
    last().welcome();
    expect(longest()).toBeLessThanOrEqual(BACKOFF_AWAITED_MS);
  });

  test("no socket is wasted on a server that does not answer, and none is waited for when it does", async () => {
    let up = false;
    let asked = 0;
    reachable = async () => {
      asked += 1;
      return up;
    };
    busy = true;
    start();
    last().die();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(wires.length).toBe(1);
    expect(asked).toBeGreaterThan(60);
    up = true;
    await vi.advanceTimersByTimeAsync(BACKOFF_AWAITED_MS);
    expect(wires.length).toBe(2);
    // It answers, but opens no socket: from here on at leisure.
    last().die();
    await vi.advanceTimersByTimeAsync(BACKOFF_MAX_MS - 500);
    expect(wires.length).toBe(2);
    await vi.advanceTimersByTimeAsync(1_000);
    expect(wires.length).toBe(3);
  });

  test("jitter is full: the delay may be anything down to nothing", () => {
    start(0);
    last().die();
    vi.advanceTimersByTime(0);
    expect(wires.length).toBe(2);
  });

  test("a welcome starts the delays anew", () => {
    start();
    for (let i = 0; i < 8; i++) {
      last().die();
      vi.advanceTimersByTime(BACKOFF_MAX_MS);
    }
    last().welcome();
    last().die();
    vi.advanceTimersByTime(250);
    expect(phase()).toBe("connecting");
  });

  test("reconnect{after_ms} moves at that time, not before", () => {
    start();
    last().welcome();
    last().frame({ type: "reconnect", after_ms: 700, reason: "draining" });
    vi.advanceTimersByTime(699);
    expect(wires.length).toBe(1);
    vi.advanceTimersByTime(1);
    expect(wires.length).toBe(2);
    expect(wires[0]?.readyState).toBe(3);
  });

  test("a server that asked for air gets it", () => {
    start();
    last().die(4429);
    vi.advanceTimersByTime(1_900);
    expect(wires.length).toBe(1);
    vi.advanceTimersByTime(200);
    expect(wires.length).toBe(2);
  });

  test("where there are too many connections it comes back, later and later, and says why it waits", () => {
    start();
    for (let n = 0; n < 8; n += 1) {
      const opened = wires.length;
      last().die(4429);
      const link = links.at(-1);
      expect(link).toMatchObject({ phase: "waiting", tooMany: true });
      const ceiling = Math.min(BACKOFF_TOO_MANY_MS, 2_000 * 2 ** n);
      vi.advanceTimersByTime(ceiling * 0.998);
      expect(wires.length).toBe(opened);
      vi.advanceTimersByTime(ceiling * 0.002);
      expect(wires.length).toBe(opened + 1);
    }
    last().welcome();
    last().die(1006);
    expect(links.at(-1)).toMatchObject({ phase: "waiting", tooMany: false });
    vi.advanceTimersByTime(BACKOFF_FIRST_MS);
    last().welcome();
    expect(phase()).toBe("online");
  });

  test("a socket that opens and says nothing is given up", () => {
    start();
    vi.advanceTimersByTime(9_000);
    expect(phase()).not.toBe("online");
    vi.advanceTimersByTime(1_000);
    expect(wires.length).toBeGreaterThan(1);
  });
});

describe("a link that only looks alive", () => {
  test("with an answer open, 10 s of silence end it, after a ping was tried", () => {
    start();
    last().welcome();
    busy = true;
    vi.advanceTimersByTime(STALL_MS - 1_500);
    expect(wires.length).toBe(1);
    expect(last().sent).toEqual([{ type: "ping" }]);
    vi.advanceTimersByTime(3_000);
    expect(wires.length).toBe(2);
  });

  test("a pong keeps it", () => {
    start();
    last().welcome();
    busy = true;
    for (let i = 0; i < 30; i++) {
      vi.advanceTimersByTime(1_000);
      if (last().sent.length > 0) last().frame({ type: "pong" });
    }
    expect(wires.length).toBe(1);
  });

  test("idle, it is asked now and then and dropped without an answer", () => {
    start();
    last().welcome();
    vi.advanceTimersByTime(24_000);
    expect(last().sent).toEqual([]);
    vi.advanceTimersByTime(2_000);
    expect(last().sent).toEqual([{ type: "ping" }]);
    vi.advanceTimersByTime(12_000);
    expect(wires.length).toBe(2);
  });

  test("waking up asks at once, and replaces a dead socket within a second", () => {
    start();
    last().welcome();
    vi.advanceTimersByTime(5_000);
    connection.wake();
    expect(last().sent.at(-1)).toEqual({ type: "ping" });
    vi.advanceTimersByTime(900);
    expect(wires.length).toBe(2);
  });

  test("waking up keeps a socket that answers", () => {
    start();
    last().welcome();
    vi.advanceTimersByTime(5_000);
    connection.wake();
    last().frame({ type: "pong" });
    vi.advanceTimersByTime(5_000);
    expect(wires.length).toBe(1);
  });

  test("waking up while waiting does not wait any longer", () => {
    start();
    for (let i = 0; i < 8; i++) {
      last().die();
      vi.advanceTimersByTime(BACKOFF_MAX_MS);
    }
    last().die();
    const before = wires.length;
    connection.wake();
    expect(wires.length).toBe(before + 1);
  });
});

describe("frames", () => {
  test("what a former socket still delivers is ignored", () => {
    start(0);
    const old = last();
    old.welcome();
    old.die();
    vi.advanceTimersByTime(1);
    old.frame({ type: "pong" });
    expect(frames.map(f => f.type)).toEqual(["welcome"]);
  });

  test("unknown types and broken JSON are ignored", () => {
    start();
    last().welcome();
    last().frame({ type: "from_the_future" });
    last().onmessage?.({ data: "{" });
    last().onmessage?.({ data: "[]" });
    expect(frames.map(f => f.type)).toEqual(["welcome"]);
  });

  test("nothing is sent before the welcome, and the caller is told", () => {
    start();
    expect(connection.send({ type: "ping" })).toBe(false);
    last().welcome();
    expect(connection.send({ type: "ping" })).toBe(true);
  });

  test("the network being down shows, but does not stop the tries", () => {
    start();
    vi.stubGlobal("navigator", { onLine: false });
    connection.stop();
    wires = [];
    connection = connect({
      open: () => {
        const wire = new Wire();
        wires.push(wire);
        return wire as unknown as WebSocket;
      },
      onFrame: () => {},
      onLink: link => links.push(link),
      busy: () => false,
      random: () => 0.5,
    });
    last().die();
    expect(links.at(-1)).toMatchObject({ phase: "waiting", offline: true });
    vi.advanceTimersByTime(200);
    expect(wires.length).toBe(2);
  });
});
