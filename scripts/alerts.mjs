#!/usr/bin/env node
// Fires every alert by its real cause, on a cluster of its own that a real Prometheus watches, takes the cause away, and prints
// how long both took. Exits with 1 when one did not fire, or was not over.
//
//   scripts/alerts.mjs [--quick] [NAME…]     all of config/prometheus/alerts.yml, or those with one of these in their names
//
//   --quick    a tenth of each `for:` (but 5 s), and of how far rules look back (but 20 s): minutes, not hours. Metrics and
//              thresholds stay
//
// CHATNODE_BIN          the program (default: as in scripts/cluster)
// CHATNODE_OTHER_BIN    the program in another version; without it nothing provokes ChatnodeVersionsMixed
// CHATNODE_RUN          pids, logs and data (default: target/alerts)
// CHATNODE_PORT_OFFSET  added to the usual ports (default: 16000)
//
// Needs what scripts/cluster needs, and Prometheus, PostgreSQL and Python.
import { execFile, execFileSync, spawn } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { chownSync, existsSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const quick = process.argv.includes("--quick");
const names = process.argv.slice(2).filter(word => word !== "--quick");
const run = process.env.CHATNODE_RUN ?? join(root, "target/alerts");
const offset = Number(process.env.CHATNODE_PORT_OFFSET ?? 16_000);

const gateways = ["gateway-1", "gateway-2", "gateway-3"];
const workers = ["ai-1", "ai-2", "ai-3"];
const nodes = [...gateways, ...workers];
const port = name => offset + ({ prometheus: 9090, postgres: 15432, upstream: 8195 }[name] ?? (name.startsWith("ai") ? 8090 : 8080) + Number(name.at(-1)));

/** What one AI node writes at once here. */
const capacity = 16;
/** Seconds beyond what a rule itself takes: scrapes, leases, reconnecting. */
const patience = 150;
const few = "/demo tokens=20 rate=50";

/** By alert: its cause in words, the labels that it has to fire with, and the cause itself, which answers what takes it away. */
const causes = {
  ChatnodeNoGateway: ["kill -9 of all gateways", [{}], () => kill(...gateways)],
  ChatnodeNoWorker: ["kill -9 of all AI nodes", [{}], () => kill(...workers)],
  ChatnodeStoreFails: ["Redis stands still (SIGSTOP)", nodes.map(node => ({ node })), () => {
    send("redis", "SIGSTOP");
    return () => send("redis", "SIGCONT");
  }],
  ChatnodeAnswersFail: ["the server of one of two models answers 500", [{}], () => {
    upstream.does = "fail";
    const stop = crowd(2, "gateway-1", few, "sick");
    const stopOthers = crowd(2, "gateway-1", few);
    return () => ((upstream.does = "answer"), async () => (await stop(), await stopOthers()));
  }],
  ChatnodeWorkWaits: ["more questions than all AI nodes have places", [{ model: "demo" }], () => fill(capacity * workers.length + 4)],
  ChatnodeFirstTokenSlow: ["a model that begins after 15 s", [{}], () => crowd(8, "gateway-1", `${few} delay=15000`)],
  ChatnodeDeliverySlow: ["a gateway that gets a quarter of its time (SIGSTOP, SIGCONT)", [{}], () => starve("gateway-1", 4, 50, 3_000)],
  ChatnodeNodeDown: ["kill -9 of an AI node", [{ job: "ai", node: "ai-3" }], () => kill("ai-3")],
  ChatnodeNodeRestarts: ["kill -9 of an AI node, three times", [{ job: "ai", node: "ai-2" }], async () => {
    for (let time = 0; time < 3; time++) {
      const seen = await value('process_start_time_seconds{node="ai-2"}');
      await (await kill("ai-2"))();
      await until(60, async () => ![seen, undefined].includes(await value('process_start_time_seconds{node="ai-2"}')));
    }
    return () => {};
  }],
  ChatnodeBackplaneGone: ["kill -9 of NATS", nodes.map(node => ({ node })), () => kill("nats")],
  ChatnodeBackplaneDrops: ["a gateway that gets a quarter of its time, and fast answers", [{ node: "gateway-1" }], () => starve("gateway-1", 3, 2000, 6_000)],
  ChatnodeHistoryGone: ["PostgreSQL is stopped, and people go on writing", [{}], async () => {
    await postgres.stop();
    await Promise.all([ask("gateway-1", few), ask("gateway-2", few)].map(async asked => (await asked).ended));
    return () => postgres.start();
  }],
  ChatnodeWorkersFull: ["long answers on all places of the AI nodes", [{}], () => fill(capacity * workers.length)],
  ChatnodeCircuitOpen: ["the server of a model takes requests and never answers", [{ upstream: `openai@127.0.0.1:${port("upstream")}` }], () => {
    upstream.does = "hang";
    const stop = crowd(12, "gateway-1", few, "sick");
    return () => ((upstream.does = "answer"), stop);
  }],
  ChatnodeTakeovers: ["kill -9 of an AI node that writes", [{}], async () => {
    const empty = await fill(capacity);
    const start = await kill("ai-1");
    return async () => (await start(), await empty());
  }],
  ChatnodeReadersLag: ["20 clients that ask for 200 KB a second and take 80", [{ node: "gateway-1" }], () => lag("gateway-1", 20, 80_000)],
  ChatnodeMemoryHigh: ["thousands of connections that do nothing; it ends with a restart", [{ job: "gateway", node: "gateway-1" }], () => crowdIn("gateway-1")],
  ChatnodeDrainStuck: ["SIGTERM to an AI node with long answers, and `drain_ms` of an hour", [{ node: "ai-1" }], async () => {
    const empty = await fill(capacity * workers.length);
    send("ai-1", "SIGTERM");
    return empty;
  }],
  ChatnodeVersionsMixed: ["one AI node runs another version", [{}], async () => {
    if (!process.env.CHATNODE_OTHER_BIN) return null;
    await kill("ai-3");
    await cluster(["up", "ai-3"], { CHATNODE_BIN: process.env.CHATNODE_OTHER_BIN });
    return async () => (await kill("ai-3"))();
  }],
};

async function main() {
  const all = [...rules().matchAll(/alert: (\w+)/g)].map(([, name]) => name);
  const wanted = all.filter(name => names.length === 0 || names.some(word => name.includes(word)));
  const unknown = [...names.filter(word => !all.some(name => name.includes(word))), ...wanted.filter(name => !causes[name])];
  if (unknown.length > 0) throw new Error(`nothing is known of ${unknown}`);
  const results = [];
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => void end().finally(() => process.exit(1)));
  try {
    await begin();
    for (const name of wanted) {
      const [how, labels, cause] = causes[name];
      results.push({ name, how, ...(await provoke(name, labels, cause)) });
      console.log(row(results.at(-1)));
    }
  } finally {
    await end();
  }
  console.log(`\n${row({ name: "alert", fired: "fired", over: "over", how: "provoked by" })}`);
  for (const result of results) console.log(row(result));
  return results.every(({ fired, over }) => fired !== null && over !== null);
}

function row({ name, how, fired, over, why = "" }) {
  const seconds = told => (typeof told === "number" ? `${told.toFixed(0)} s` : (told ?? "never"));
  return `${name.padEnd(24)} ${seconds(fired).padStart(6)} ${seconds(over).padStart(6)}  ${how}${why}`;
}

/** Seconds from the cause to the alert, and from the end of the cause to the alert's; null for never. */
async function provoke(name, labels, cause) {
  const rule = rules().split("- alert: ").find(text => text.startsWith(`${name}\n`));
  const most = [...rule.matchAll(/for: (\w+)|\[(\w+)\]/g)].reduce((sum, [, wait, back]) => sum + span(wait ?? back), patience);
  // What an earlier cause left behind.
  if ((await until(most, async () => (await active(name)).length === 0)) === null) return { fired: null, over: null, why: ": it is there before" };
  const cure = await cause();
  if (!cure) return { fired: "-", over: "-", why: ": not provoked, CHATNODE_OTHER_BIN names none" };
  const has = (alert, wanted) => alert.state === "firing" && Object.entries(wanted).every(([label, value]) => alert.labels[label] === value);
  const fired = await until(most, async () => {
    const alerts = await active(name);
    return labels.every(wanted => alerts.some(alert => has(alert, wanted)));
  });
  const why = fired === null ? `: ${JSON.stringify((await active(name).catch(() => [])).map(({ state, labels }) => [state, labels]))}` : "";
  const rest = await cure();
  const over = await until(most, async () => (await active(name)).length === 0);
  await rest?.();
  await cluster(["up"]);
  return { fired, over, why };
}

/** Seconds until it holds; null when that takes more than `most`. */
async function until(most, holds) {
  const begun = Date.now();
  while (Date.now() - begun < most * 1000) {
    // A machine that has too much to do may not answer in time.
    if (await holds().catch(() => false)) return (Date.now() - begun) / 1000;
    await sleep(250);
  }
  return null;
}

/** The rules as Prometheus gets them. */
function rules() {
  const shipped = readFileSync(join(root, "config/prometheus/alerts.yml"), "utf8");
  const tenth = least => text => `${Math.max(least, Math.round(span(text) / 10))}s`;
  return quick ? shipped.replace(/(?<=for: )\w+/g, tenth(5)).replace(/(?<=\[)\w+(?=\])|(?<=offset )\w+/g, tenth(20)) : shipped;
}

function span(text) {
  return Number.parseInt(text) * { s: 1, m: 60, h: 3600 }[text.at(-1)];
}

async function prometheus(path) {
  const answer = await fetch(`http://127.0.0.1:${port("prometheus")}/api/v1/${path}`, { signal: AbortSignal.timeout(10_000) });
  return (await answer.json()).data;
}

async function active(name) {
  return (await prometheus("alerts")).alerts.filter(alert => alert.labels.alertname === name);
}

async function value(query) {
  return (await prometheus(`query?query=${encodeURIComponent(query)}`)).result[0]?.value[1];
}

// The cluster, and what else it needs.

async function begin() {
  rmSync(run, { recursive: true, force: true });
  mkdirSync(run, { recursive: true });
  writeFileSync(join(run, "cluster.toml"), `${readFileSync(join(root, "config/cluster.toml"), "utf8")}${settings()}`);
  await postgres.make();
  await upstream.start();
  await cluster(["up"]);
  await cluster(["up", "prometheus"]);
  writeFileSync(join(run, "prometheus/alerts.yml"), rules());
  send("prometheus", "SIGHUP");
  const down = async () => (await prometheus('query?query=sum(up{job=~"gateway|ai"})')).result[0]?.value[1] !== "6";
  if ((await until(60, async () => !(await down()))) === null) throw new Error("Prometheus does not see all nodes");
}

/** All people come from one address here; `sick` asks the server below. */
function settings() {
  const limits = of => `\n[limits.${of}]\nrequests_per_minute_max = 1_000_000\nconnections_max = 1_000_000\nrunning_max = 1_000_000\n`;
  const base = `http://127.0.0.1:${port("upstream")}/v1`;
  return `
[node]
drain_ms = 3_600_000

[ai]
capacity = ${capacity}
${limits("user")}${limits("address")}
[[models]]
id = "demo"
provider = "demo"

[[models]]
id = "sick"
provider = "openai"
base_url = "${base}"
deadlines = { first_token_ms = 3_000 }
`;
}

async function end() {
  await hush();
  await cluster(["down"]).catch(error => console.error(error.message));
  await postgres.end();
  upstream.server.close();
  upstream.server.closeAllConnections();
}

async function cluster(words, more = {}) {
  const env = { CHATNODE_CONFIG: join(run, "cluster.toml"), CHATNODE_HISTORY_URL: postgres.url, CHATNODE_STOP_SECONDS: "5" };
  const all = { ...process.env, CHATNODE_RUN: run, CHATNODE_PORT_OFFSET: `${offset}`, ...env, ...more };
  await promisify(execFile)(join(root, "scripts/cluster"), words, { env: all });
}

function send(name, signal) {
  const file = join(run, "pids", name);
  if (existsSync(file)) process.kill(Number(readFileSync(file, "utf8").split(" ")[0]), signal);
}

async function kill(...all) {
  for (const name of all) await cluster(["kill", name]);
  return () => cluster(["up", ...all]);
}

/** PostgreSQL refuses to run as root, so root's runs as the user `postgres`. */
const postgres = {
  url: `postgres://chatnode@127.0.0.1:${port("postgres")}/postgres`,
  async make() {
    const versions = existsSync("/usr/lib/postgresql") ? readdirSync("/usr/lib/postgresql").map(version => `/usr/lib/postgresql/${version}/bin`) : [];
    this.programs = [...process.env.PATH.split(":"), ...versions].find(folder => existsSync(join(folder, "initdb")));
    if (!this.programs) throw new Error("PostgreSQL is missing: scripts/test installs it, or your package manager");
    this.folder = mkdtempSync(join(tmpdir(), "chatnode-alerts-"));
    const id = flag => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
    this.user = process.getuid() === 0 ? { uid: id("-u"), gid: id("-g"), cwd: "/" } : {};
    if (this.user.uid) chownSync(this.folder, this.user.uid, this.user.gid);
    const words = ["-D", join(this.folder, "data"), "-U", "chatnode", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync"];
    execFileSync(join(this.programs, "initdb"), words, { ...this.user, stdio: "ignore" });
    this.start();
  },
  start() {
    const words = ["-D", join(this.folder, "data"), "-p", port("postgres"), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="];
    const log = openSync(join(run, "postgres.log"), "a");
    this.process = spawn(join(this.programs, "postgres"), words, { ...this.user, stdio: ["ignore", log, log] });
  },
  async stop() {
    const gone = new Promise(resolve => this.process.once("exit", resolve));
    if (this.process.exitCode === null) this.process.kill("SIGINT");
    else return;
    await gone;
  },
  async end() {
    if (this.process) await this.stop();
    if (this.folder) rmSync(this.folder, { recursive: true, force: true });
  },
};

/** A model's server that answers, fails, or does not answer at all. */
const upstream = {
  does: "answer",
  server: http.createServer((request, response) => {
    request.resume();
    if (upstream.does === "hang") return;
    if (upstream.does === "fail") return void response.writeHead(500).end();
    const chunk = (delta, end) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason: end }] })}\n\n`;
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(`${chunk({ content: "well" }, null)}${chunk({}, "stop")}data: [DONE]\n\n`);
  }),
  start() {
    return new Promise((resolve, reject) => this.server.once("error", reject).listen(port("upstream"), "127.0.0.1", resolve));
  },
};

// People.

const sockets = new Set();

/** A WebSocket to a node, which lives until somebody closes it. */
async function connect(node) {
  const headers = { connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13", "sec-websocket-key": randomBytes(16).toString("base64") };
  const socket = await new Promise((resolve, reject) => {
    const request = http.get({ host: "127.0.0.1", port: port(node), path: "/ws/chat", headers, agent: false, timeout: 20_000 });
    request.on("upgrade", (_, opened) => resolve(opened)).on("error", reject).on("timeout", () => request.destroy(new Error("no answer")));
    request.on("response", answer => (answer.resume(), reject(new Error(`${answer.statusCode}`))));
  });
  sockets.add(socket);
  // A pong that nobody asked for is a sign of life.
  const alive = setInterval(() => socket.write(Buffer.from([0x8a, 0x80, 0, 0, 0, 0])), 10_000);
  socket.setTimeout(0).on("error", () => {}).on("close", () => (clearInterval(alive), sockets.delete(socket)));
  return socket;
}

/** A text frame; masked, as clients must, by zeros. */
function say(socket, frame) {
  const text = Buffer.from(JSON.stringify(frame));
  const length = text.length < 126 ? [0x80 | text.length] : [0xfe, text.length >> 8, text.length & 255];
  socket.write(Buffer.concat([Buffer.from([0x81, ...length, 0, 0, 0, 0]), text]));
}

/** Asks on a socket of its own; `ended` is when the answer did, or the socket. */
async function ask(node, content, model = "demo") {
  const socket = await connect(node);
  let heard = "";
  const ended = new Promise(resolve => {
    socket.on("close", resolve).on("data", chunk => {
      heard = heard.slice(-4_096) + chunk.toString("latin1");
      socket.generation ??= heard.match(/gen_[0-9a-z]+/)?.[0];
      if (heard.includes('"type":"finished"') || heard.includes('"type":"error"')) resolve(socket.destroy());
    });
  });
  say(socket, { type: "send", request_id: randomUUID(), content, model });
  return { socket, ended };
}

/** So many people who ask again and again. Answers what makes them stop. */
function crowd(size, node, content, model) {
  let goes = true;
  const person = async () => {
    while (goes) {
      await ask(node, content, model).then(asked => asked.ended, () => {});
      await sleep(200);
    }
  };
  const people = Array.from({ length: size }, person);
  return async () => {
    goes = false;
    await hush();
    await Promise.all(people);
  };
}

/** Ends all answers that somebody waits for, and all connections. */
async function hush() {
  for (const socket of sockets) if (socket.generation) say(socket, { type: "cancel", generation: socket.generation });
  await sleep(1_000);
  for (const socket of sockets) socket.destroy();
}

/** Answers that go on for hours, one place each. */
async function fill(places) {
  for (let place = 0; place < places; place++) await ask(gateways[place % gateways.length], "/demo tokens=100000 rate=4");
  return hush;
}

/** A node that stands still for three quarters of each turn, as one does whose processor is taken away; people read there. */
function starve(node, people, rate, turn) {
  const stop = crowd(people, node, `/demo tokens=${rate * 20} rate=${rate}`);
  const turns = setInterval(() => {
    send(node, "SIGSTOP");
    setTimeout(() => send(node, "SIGCONT"), (turn * 3) / 4);
  }, turn);
  return async () => {
    clearInterval(turns);
    await sleep(turn);
    await stop();
  };
}

/**
 * Readers who ask for their answer three times a second and take so many bytes a second. In Python, which reads no more than it is told to,
 * and can ask for the segments of an Ethernet: with those of loopback, megabytes wait in the kernel.
 */
const slowly = `
import json, re, socket, sys, threading, time, uuid
port, people, rate = map(int, sys.argv[1:4])
def say(reader, **frame):
    text = json.dumps(frame).encode()
    reader.sendall(b"\\x81\\xfe" + len(text).to_bytes(2, "big") + bytes(4) + text)
def read(conversation=None):
    reader = socket.socket()
    reader.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    reader.connect(("127.0.0.1", port))
    head = "GET /ws/chat HTTP/1.1\\r\\nhost: localhost\\r\\nconnection: Upgrade\\r\\nupgrade: websocket\\r\\n"
    reader.sendall((head + "sec-websocket-version: 13\\r\\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n").encode())
    while b"welcome" not in reader.recv(4096):
        pass
    say(reader, type="send", request_id=str(uuid.uuid4()), model="demo", content="/demo tokens=10000 rate=2000")
    heard, generation = b"", None
    while b'"type":"finished"' not in heard:
        heard = heard[-4096:] + reader.recv(65536)
        reader.sendall(b"\\x8a\\x80" + bytes(4))
        generation = generation or (re.search(rb"gen_[0-9a-z]+", heard) or [None])[0]
        conversation = re.search(rb"cnv_[0-9a-z]+", heard) or conversation
    known = [{"generation": generation.decode(), "position": "0-0", "offset": 0}]
    while True:
        say(reader, type="subscribe", conversation=conversation[0].decode(), known=known)
        for _ in range(3):
            reader.recv(rate // 10)
            time.sleep(0.1)
for _ in range(people):
    threading.Thread(target=read, daemon=True).start()
sys.stdin.read()
`;

function lag(node, people, rate) {
  const words = ["-c", slowly, port(node), people, rate];
  const readers = spawn("python3", words, { stdio: ["pipe", "inherit", "inherit"] });
  const gone = new Promise(resolve => readers.once("exit", resolve));
  return async () => {
    readers.stdin.end();
    await gone;
  };
}

/** Connections, until the node's memory is beyond the rule's threshold. */
async function crowdIn(node) {
  const memory = async () => Number((await (await fetch(`http://127.0.0.1:${port(node)}/metrics`)).text()).match(/^process_resident_memory_bytes (\S+)/m)[1]);
  while ((await memory()) < 0.9 * 128 * 1024 * 1024) {
    await Promise.all(Array.from({ length: 50 }, () => connect(node).then(socket => socket.resume())));
  }
  // A process keeps what it once had for the next crowd.
  return async () => {
    await hush();
    await (await kill(node))();
  };
}

process.exitCode = (await main().catch(error => (console.error(`scripts/alerts.mjs: ${error.message}`), false))) ? 0 : 1;
