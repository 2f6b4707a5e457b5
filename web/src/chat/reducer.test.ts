import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Message, ServerFrame } from "../protocol.gen";
import { crc32 } from "./crc32";
import { comparePositions } from "./position";
import { applyFrame } from "./reducer";
import { type ChatState, EMPTY, isOpen } from "./state";
import { byteLength, byteSlice } from "./utf8";

const GEN = "gen_1";
const CNV = "cnv_1";

function message(changes: Partial<Message> = {}): Message {
  return {
    id: "msg_2",
    conversation: CNV,
    parent: "msg_1",
    role: "assistant",
    content: "",
    status: "running",
    generation: GEN,
    created_at: "2026-01-01T00:00:01Z",
    ...changes,
  };
}

const question = message({
  id: "msg_1",
  parent: null,
  role: "user",
  content: "?",
  status: "completed",
  generation: undefined,
});

const start: ServerFrame = {
  type: "accepted",
  request_id: "r",
  conversation: CNV,
  user_message: question,
  assistant_message: message({ status: "queued" }),
};

const run = (frames: ServerFrame[], from: ChatState = EMPTY) => frames.reduce(applyFrame, from);
const held = (state: ChatState) => state.generations[GEN];
const delta = (seq: number, offset: number, text: string, epoch = 1): ServerFrame => ({
  type: "delta",
  generation: GEN,
  position: `${epoch}-${seq}`,
  offset,
  text,
});
const finish = (text: string): ServerFrame => ({
  type: "finished",
  generation: GEN,
  message: message({ content: text, status: "completed" }),
  status: "completed",
  length: byteLength(text),
  crc32: crc32(text),
});

describe("the offset rule counts UTF-8 bytes", () => {
  test("a Vietnamese answer with an emoji joins without a gap", () => {
    const state = run([start, delta(1, 0, "Đường"), delta(2, 9, " 🚀"), delta(3, 14, "!")]);
    expect(held(state)).toMatchObject({ text: "Đường 🚀!", textBytes: 15, gap: false });
  });

  test("covered text is dropped, text beyond what is held asks to subscribe again", () => {
    const one = run([start, delta(1, 0, "abc"), delta(1, 0, "abc")]);
    expect(held(one)).toMatchObject({ text: "abc", gap: false });
    expect(held(run([delta(3, 5, "f")], one))).toMatchObject({ text: "abc", gap: true });
  });

  test("text that overlaps what is held adds its rest, from the same owner only", () => {
    const one = run([start, delta(1, 0, "đường")]);
    expect(held(run([delta(2, 0, "đường đi")], one))).toMatchObject({
      text: "đường đi",
      textBytes: 13,
      gap: false,
    });
    expect(held(run([delta(2, 1, "?")], one))).toMatchObject({ text: "đường", gap: false });
    expect(held(run([delta(1, 0, "đường đi", 2)], one))).toMatchObject({ text: "đường", gap: true });
  });

  test("reasoning has offsets of its own", () => {
    const state = run([
      start,
      { type: "delta", generation: GEN, position: "1-1", offset: 0, text: "nghĩ", channel: "reasoning" },
      delta(2, 0, "nói"),
      { type: "delta", generation: GEN, position: "1-3", offset: 5, text: "…", channel: "reasoning" },
    ]);
    expect(held(state)).toMatchObject({ text: "nói", reasoning: "nghĩ…", gap: false });
  });

  test("a rewind drops the text from its offset on, and the old owner's frames with it", () => {
    const state = run([
      start,
      delta(1, 0, "abc"),
      delta(2, 3, "def"),
      { type: "rewind", generation: GEN, position: "2-0", offset: 3 },
      delta(3, 3, "old"),
      delta(1, 3, "DEF", 2),
    ]);
    expect(held(state)).toMatchObject({ text: "abcDEF", position: "2-1", gap: false });
  });

  test("a newer owner's text below what is held is a lost rewind, not covered text", () => {
    const state = run([start, delta(1, 0, "abcdef"), delta(1, 3, "X", 2)]);
    expect(held(state)).toMatchObject({ text: "abcdef", gap: true });
  });
});

describe("the end", () => {
  test("is exact when length and CRC agree", () => {
    const state = run([start, delta(1, 0, "xin chào"), finish("xin chào")]);
    expect(state.messages.msg_2).toMatchObject({ content: "xin chào", status: "completed" });
    expect(state.repairs).toBe(0);
    expect(held(state)).toMatchObject({ status: "completed", text: "" });
  });

  test("replaces what was streamed when it differs, and counts it", () => {
    const state = run([start, delta(1, 0, "xin cha"), finish("xin chào")]);
    expect(state.messages.msg_2?.content).toBe("xin chào");
    expect(state.repairs).toBe(1);
  });

  test("asks for the messages again when neither text is right", () => {
    const end = finish("right");
    if (end.type !== "finished") throw new Error("not a finished frame");
    const state = run([start, delta(1, 0, "wrong"), { ...end, message: message({ content: "also wrong" }) }]);
    expect(state.threads[CNV]?.reload).toBe(true);
  });

  test("is final: no late frame opens the answer again", () => {
    const done = run([start, delta(1, 0, "a"), finish("a")]);
    const late = run(
      [start, delta(1, 0, "a"), delta(2, 1, "b"), { type: "status", generation: GEN, status: "running" }],
      done,
    );
    expect(late.messages.msg_2?.status).toBe("completed");
    expect(isOpen(late.generations[GEN] as never)).toBe(false);
  });
});

describe("heartbeats", () => {
  const beat = (position: string): ServerFrame => ({
    type: "heartbeat",
    tails: [{ generation: GEN, position }],
  });

  test("a tail that stays ahead is asked for once", () => {
    const one = run([start, delta(1, 0, "a"), beat("1-3")]);
    expect(held(one)?.gap).toBe(false);
    const two = run([beat("1-3")], one);
    expect(held(two)?.gap).toBe(true);
    const answered = run([{ type: "caught_up", conversation: CNV }, beat("1-3")], two);
    expect(held(answered)?.gap).toBe(false);
    expect(held(run([beat("1-4"), beat("1-4")], answered))?.gap).toBe(true);
  });

  test("a tail that the text has reached is nothing", () => {
    expect(held(run([start, delta(1, 0, "a"), beat("1-1"), beat("1-1")]))?.gap).toBe(false);
  });
});

describe("the tree", () => {
  test("a regenerated answer takes the place of the former one and both stay reachable", () => {
    const again = message({ id: "msg_3", generation: "gen_2", status: "queued" });
    const state = run([start, finish("a"), { type: "message", conversation: CNV, message: again }]);
    expect(state.threads[CNV]?.path).toEqual(["msg_1", "msg_3"]);
    expect(state.threads[CNV]?.children.msg_1).toEqual(["msg_2", "msg_3"]);
  });

  test("an answer that comes before its question is placed with it", () => {
    const next = message({
      id: "msg_3",
      parent: "msg_2",
      role: "user",
      generation: undefined,
      status: "completed",
    });
    const answer = message({ id: "msg_4", parent: "msg_3", generation: "gen_2" });
    const state = run([
      start,
      { type: "message", conversation: CNV, message: answer },
      { type: "message", conversation: CNV, message: next },
    ]);
    expect(state.threads[CNV]?.path).toEqual(["msg_1", "msg_2", "msg_3", "msg_4"]);
  });
});

/** A generation's log as the server keeps it: owners (epochs) that each keep a prefix of what was there and go on. */
interface Entry {
  readonly position: string;
  readonly offset: number;
  readonly text: string;
}

interface Log {
  readonly frames: ServerFrame[];
  readonly final: string;
  /** What a subscriber with this knowledge gets. */
  replay(known: { position: string; offset: number } | null): ServerFrame[];
}

function makeLog(owners: { keep: number; pieces: string[] }[]): Log {
  const frames: ServerFrame[] = [start];
  let text = "";
  let entries: Entry[] = [];
  const bases: { position: string; base: number }[] = [];
  owners.forEach((owner, index) => {
    const epoch = index + 1;
    if (index > 0) {
      const kept = entries.slice(0, Math.floor(entries.length * owner.keep));
      const base = kept.reduce((bytes, entry) => bytes + byteLength(entry.text), 0);
      text = byteSlice(text, base) ?? "";
      if (kept.length < entries.length) {
        frames.push({ type: "rewind", generation: GEN, position: `${epoch}-0`, offset: base });
      }
      entries = kept;
      bases.push({ position: `${epoch}-0`, base });
    }
    owner.pieces.forEach((piece, seq) => {
      const entry = { position: `${epoch}-${seq + 1}`, offset: byteLength(text), text: piece };
      entries = [...entries, entry];
      text += piece;
      frames.push({ type: "delta", generation: GEN, ...entry });
    });
  });
  const end = finish(text);
  frames.push(end);
  return {
    frames,
    final: text,
    replay(known) {
      const open: ServerFrame = {
        type: "subscribed",
        conversation: CNV,
        version: 1,
        generations: [{ generation: GEN, message: "msg_2", status: "completed" }],
      };
      const last = entries.at(-1)?.position ?? "1-0";
      if (known === null) {
        return [open, { type: "snapshot", generation: GEN, position: last, text }, end, caught];
      }
      const lost = bases.filter(
        b => comparePositions(b.position, known.position) > 0 && b.base < known.offset,
      );
      const from = Math.min(known.offset, ...lost.map(b => b.base));
      const back: ServerFrame[] =
        lost.length > 0
          ? [
              {
                type: "rewind",
                generation: GEN,
                position: (lost.at(-1) as { position: string }).position,
                offset: from,
              },
            ]
          : [];
      const rest = entries
        .filter(e => e.offset >= from)
        .map((e): ServerFrame => ({ type: "delta", generation: GEN, ...e, replay: true }));
      return [open, ...back, ...rest, end, caught];
    },
  };
}

const caught: ServerFrame = { type: "caught_up", conversation: CNV };

const piece = fc.oneof(
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 6 }),
  fc.constantFrom("đường ", "🚀", "\n", "é"),
);
const owners = fc.array(
  fc.record({ keep: fc.double({ min: 0, max: 1, noNaN: true }), pieces: fc.array(piece, { maxLength: 12 }) }),
  { minLength: 1, maxLength: 4 },
);
/** What the network does to each frame: lose it, repeat it, or hold it back by some places. */
const fate = fc.record({ lost: fc.boolean(), twice: fc.boolean(), late: fc.nat(6) });

describe("converges", () => {
  test("under any loss, repeat and reorder, once it has subscribed again", () => {
    fc.assert(
      fc.property(owners, fc.array(fate, { minLength: 60, maxLength: 60 }), (script, fates) => {
        const log = makeLog(script);
        const arriving = log.frames
          .flatMap((frame, i) => {
            const f = fates[i % fates.length] as { lost: boolean; twice: boolean; late: number };
            const copies = f.lost && i > 0 ? 0 : f.twice ? 2 : 1;
            return Array.from({ length: copies }, (_, copy) => ({
              frame,
              at: i + (copy + 1) * (i > 0 ? f.late : 0),
            }));
          })
          .sort((a, b) => a.at - b.at)
          .map(({ frame }) => frame);
        let state = run(arriving);
        const generation = state.generations[GEN];
        if (generation && isOpen(generation)) {
          const known =
            generation.position === null
              ? null
              : { position: generation.position, offset: generation.textBytes };
          state = run(log.replay(known), state);
        }
        expect(state.messages.msg_2).toMatchObject({ content: log.final, status: "completed" });
        expect(Object.values(state.generations).some(g => isOpen(g) || g.gap)).toBe(false);
      }),
      { numRuns: 2_000 },
    );
  });

  test("without loss or reorder, every step is a prefix of an owner's text and nothing is repaired", () => {
    fc.assert(
      fc.property(owners, script => {
        const log = makeLog(script);
        const state = run(log.frames);
        expect(state.messages.msg_2?.content).toBe(log.final);
        expect(state.repairs).toBe(0);
      }),
      { numRuns: 500 },
    );
  });

  test("repeating every frame changes nothing", () => {
    fc.assert(
      fc.property(owners, script => {
        const log = makeLog(script);
        const once = run(log.frames);
        const twice = run(log.frames.flatMap(frame => [frame, frame]));
        expect(twice.messages.msg_2).toEqual(once.messages.msg_2);
        expect(twice.threads).toEqual(once.threads);
        expect(twice.repairs).toBe(0);
      }),
      { numRuns: 500 },
    );
  });
});
