// Asks one question over a WebSocket and prints the answer as it is written, whatever dies meanwhile. Needs Node.js 22.18,
// and nothing else (with 20.15: compiled by tsc, and run with --experimental-websocket).
//     node ask.ts "Why is the sky blue?" [GATEWAY…]     each as http://127.0.0.1:8080; several where no proxy stands in front
import { crc32 } from "node:zlib";

const [question = "Hello!", ...given] = process.argv.slice(2);
const gateways = given.length > 0 ? given : ["http://127.0.0.1:8080"];
const token = process.env["CHATNODE_TOKEN"]; // where users log in
const protocols = token ? ["chatnode.v1", `bearer.${token}`] : ["chatnode.v1"];
const request_id = crypto.randomUUID(); // sent twice, it is still one question
let cookie = ""; // who we are where nobody logs in
let [conversation, generation] = ["", ""];
let position = "0-0"; // before all of it
let [text, shown] = [Buffer.alloc(0), Buffer.alloc(0)]; // as bytes, because offsets count bytes of UTF-8

function take(frame: any, say: (frame: object) => void): void {
  const isText = (frame.channel ?? "text") === "text";
  const subscribe = () => say({ type: "subscribe", conversation, known: [{ generation, position, offset: text.length }] });
  const ended = frame.type === "finished" && frame.length === text.length && frame.crc32 === crc32(text);
  if (frame.type === "welcome" && generation) return subscribe();
  if (frame.type === "welcome") return say({ type: "send", request_id, content: question });
  if (frame.type === "accepted") ({ conversation, assistant_message: { generation } } = frame);
  if (frame.type === "accepted") console.error(generation); // so the logs call it
  if (frame.type === "snapshot") text = Buffer.from(frame.text);
  if ((frame.type === "delta" || frame.type === "rewind") && isText && frame.offset <= text.length)
    text = Buffer.concat([text.subarray(0, frame.offset), Buffer.from(frame.text ?? "")]); // what repeats says the same
  position = frame.position ?? position;
  if (text.length > shown.length || ended) {
    const more = shown.equals(text.subarray(0, shown.length));
    process.stdout.write(more ? text.subarray(shown.length) : `\n(once more)\n${text}`);
    shown = text;
  }
  if (ended) process.exit(frame.status === "completed" ? 0 : 1);
  if (frame.type === "finished") [position, text] = ["0-0", Buffer.alloc(0)];
  if (frame.type === "finished") subscribe(); // something is missing: all of it again
  const passes = ["unavailable", "overloaded", "rate_limited"].includes(frame.code);
  if (frame.type === "error" && !passes) console.error(frame.message), process.exit(1);
  if (frame.type === "error") setTimeout(() => take({ type: "welcome" }, say), frame.retry_after_ms ?? 1000);
}

async function connect(gateway: string): Promise<void> {
  cookie ||= (await fetch(`${gateway}/api/models`)).headers.getSetCookie()[0]?.split(";")[0] ?? "";
  const options = { protocols, headers: { cookie } } as unknown as string[]; // browsers send the cookie by themselves
  const socket = new WebSocket(`${gateway.replace("http", "ws")}/ws/chat`, options);
  await new Promise(gone => {
    let patience = setTimeout(gone, 10_000); // something is said at least once a second while an answer is open
    socket.onmessage = ({ data }) => {
      clearTimeout(patience);
      patience = setTimeout(gone, 10_000);
      take(JSON.parse(data), frame => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(frame)));
    };
    socket.onclose = socket.onerror = gone;
  });
  socket.close();
}

for (let tries = 0; ; tries++) {
  await connect(gateways[tries % gateways.length] ?? "").catch(() => {}); // it never infers that the answer ended
  await new Promise(rested => setTimeout(rested, Math.random() * Math.min(5_000, 250 * 2 ** Math.min(tries, 5))));
}
