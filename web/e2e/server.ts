import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket, connect as tcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A chatnode of its own for a test, behind a wire that the test can cut. */
export interface Chatnode {
  /** The address that the browser uses: through the wire. */
  readonly address: string;
  /** Its data directory. */
  readonly data: string;
  /** Cuts every connection. New ones are let through, unless `hold` says to refuse them until `mend`. */
  cut(hold?: boolean): void;
  /** Nothing passes any more, and nobody is told. Connections that are silent stay so after `mend`. */
  silence(): void;
  mend(): void;
  /** `kill -9`, and the same data directory again. */
  crash(): Promise<void>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

export interface Settings {
  /** A configuration file's text. */
  readonly config?: string;
  readonly env?: Readonly<Record<string, string>>;
}

const READY_MS = 15_000;

export async function startChatnode(settings: Settings = {}): Promise<Chatnode> {
  const data = mkdtempSync(join(tmpdir(), "chatnode-e2e-"));
  const port = await freePort();
  const wire = await openWire(port);
  let running = await launch(port, data, settings);
  return {
    address: `http://127.0.0.1:${wire.port}`,
    data,
    cut: wire.cut,
    silence: wire.silence,
    mend: wire.mend,
    async crash() {
      await end(running, "SIGKILL");
    },
    async restart() {
      running = await launch(port, data, settings);
    },
    async stop() {
      wire.close();
      await end(running, "SIGKILL");
      rmSync(data, { recursive: true, force: true });
    },
  };
}

export function binary(): string {
  const candidates = [process.env.CHATNODE_BIN, "../target/debug/chatnode", "../target/release/chatnode"];
  const found = candidates.find(path => path !== undefined && existsSync(path));
  if (found === undefined) throw new Error("no chatnode to test: build it, or name it in CHATNODE_BIN");
  return found;
}

async function launch(port: number, data: string, settings: Settings): Promise<ChildProcess> {
  // Without a provider in its environment it offers the demonstration model, whose answers are known.
  const { OPENAI_BASE_URL: _a, OPENAI_API_KEY: _b, ANTHROPIC_API_KEY: _c, ...env } = process.env;
  const args = ["--listen", `127.0.0.1:${port}`, "--data-dir", data];
  if (settings.config !== undefined) {
    const file = join(data, "test.toml");
    writeFileSync(file, settings.config);
    args.push("--config", file);
  }
  const child = spawn(binary(), args, {
    env: { ...env, OLLAMA_HOST: "", ...settings.env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr?.on("data", chunk => {
    said = (said + chunk).slice(-4_000);
  });
  const until = Date.now() + READY_MS;
  while (Date.now() < until) {
    if (child.exitCode !== null) throw new Error(`chatnode ended with ${child.exitCode}: ${said}`);
    const up = await fetch(`http://127.0.0.1:${port}/health`).then(
      response => response.ok,
      () => false,
    );
    if (up) return child;
    await new Promise(resolve => setTimeout(resolve, 25));
  }
  child.kill("SIGKILL");
  throw new Error(`chatnode was not ready within ${READY_MS} ms: ${said}`);
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise(resolve => child.once("exit", resolve));
  child.kill(signal);
  await gone;
}

function freePort(): Promise<number> {
  return new Promise(resolve => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}

async function openWire(to: number) {
  const sockets = new Set<Socket>();
  let state: "open" | "held" | "silent" = "open";
  const server: Server = createServer(client => {
    if (state === "held") {
      client.destroy();
      return;
    }
    if (state === "silent") {
      sockets.add(client.on("error", () => {}));
      return;
    }
    const upstream = tcp(to, "127.0.0.1");
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise<void>(resolve => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const cut = (hold = false) => {
    state = hold ? "held" : "open";
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: typeof address === "object" && address ? address.port : 0,
    cut,
    silence: () => {
      state = "silent";
      for (const socket of sockets) socket.unpipe().pause();
    },
    mend: () => {
      state = "open";
    },
    close: () => {
      cut(true);
      server.close();
    },
  };
}
