import type { Channel, Progress } from "../protocol.gen";
import { crc32 } from "./crc32";
import { comparePositions, sameEpoch } from "./position";
import { type EndStatus, type Generation, isOpen } from "./state";
import { byteLength, byteSlice } from "./utf8";

/** The rules by which one generation's text grows. Live and replayed frames come through here alike; nothing else in
 *  the page adds a character to an answer. */

export function newGeneration(id: string, conversation: string | null, message: string | null): Generation {
  return {
    id,
    conversation,
    message,
    status: "queued",
    ahead: null,
    position: null,
    text: "",
    textBytes: 0,
    reasoning: "",
    reasoningBytes: 0,
    gap: false,
    tail: null,
    stopping: false,
  };
}

export interface Delta {
  readonly position: string;
  readonly offset: number;
  readonly text: string;
  readonly channel?: Channel;
}

export function applyDelta(generation: Generation, delta: Delta): Generation {
  if (!isOpen(generation)) return generation;
  const held = generation.position;
  // A former owner's entry: what it wrote beyond the base of the newer one is void.
  if (held !== null && !sameEpoch(delta.position, held) && comparePositions(delta.position, held) < 0)
    return generation;
  const reasoning = delta.channel === "reasoning";
  const bytes = reasoning ? generation.reasoningBytes : generation.textBytes;
  const sameOwner = held === null || sameEpoch(delta.position, held);
  const text = sameOwner ? beyond(delta, bytes) : delta.offset === bytes ? delta.text : null;
  if (text === null) return generation.gap ? generation : { ...generation, gap: true };
  if (text === "" && delta.text !== "") return generation;
  const added = byteLength(text);
  return {
    ...generation,
    status: "running",
    ahead: null,
    gap: false,
    position: held === null || comparePositions(delta.position, held) > 0 ? delta.position : held,
    ...(reasoning
      ? { reasoning: generation.reasoning + text, reasoningBytes: bytes + added }
      : { text: generation.text + text, textBytes: bytes + added }),
  };
}

/** The part of a delta that is not held yet; null if something before it is missing. One owner only appends, so what
 *  overlaps is the same: a catch-up may start before the text that a history has brought in the meantime. */
function beyond(delta: Delta, bytes: number): string | null {
  if (delta.offset > bytes) return null;
  if (delta.offset === bytes) return delta.text;
  if (delta.offset + byteLength(delta.text) <= bytes) return "";
  const overlap = byteSlice(delta.text, bytes - delta.offset);
  return overlap === null ? null : delta.text.slice(overlap.length);
}

export interface Snapshot {
  readonly position: string;
  readonly text: string;
  readonly reasoning?: string;
}

export function applySnapshot(generation: Generation, snapshot: Snapshot): Generation {
  if (!isOpen(generation)) return generation;
  // A snapshot older than what is held would take text back that is known to follow.
  if (generation.position !== null && comparePositions(snapshot.position, generation.position) < 0)
    return generation;
  const reasoning = snapshot.reasoning ?? "";
  return {
    ...generation,
    position: snapshot.position,
    text: snapshot.text,
    textBytes: byteLength(snapshot.text),
    reasoning,
    reasoningBytes: byteLength(reasoning),
    gap: false,
  };
}

export function applyRewind(
  generation: Generation,
  rewind: { readonly position: string; readonly offset: number; readonly channel?: Channel },
): Generation {
  if (!isOpen(generation)) return generation;
  const held = generation.position;
  if (held !== null && comparePositions(rewind.position, held) < 0) return generation;
  const reasoning = rewind.channel === "reasoning";
  const kept = byteSlice(reasoning ? generation.reasoning : generation.text, rewind.offset);
  // Less is held than the new owner keeps (or the cut is inside a character): only the log can tell.
  if (kept === null) return { ...generation, gap: true };
  return {
    ...generation,
    position: rewind.position,
    ...(reasoning
      ? { reasoning: kept, reasoningBytes: rewind.offset }
      : { text: kept, textBytes: rewind.offset }),
  };
}

export function applyStatus(generation: Generation, status: Progress, ahead: number | null): Generation {
  if (!isOpen(generation)) return generation;
  // Text has been seen, so a late "queued" is an old one.
  const late = status === "queued" && generation.position !== null;
  return late ? generation : { ...generation, status, ahead: status === "queued" ? ahead : null };
}

/** A heartbeat's tail may be ahead because the frames are still on their way. Only one that is still ahead at the next
 *  heartbeat, with nothing applied in between, is missing text; each tail is asked for once, since an entry without
 *  text (a new owner's) moves the tail and brings nothing. */
export function applyTail(generation: Generation, tail: string): Generation {
  if (!isOpen(generation)) return generation;
  if (generation.position !== null && comparePositions(tail, generation.position) <= 0) {
    return generation.tail === null ? generation : { ...generation, tail: null };
  }
  if (generation.tail?.position !== tail) return { ...generation, tail: { position: tail, asked: false } };
  return generation.tail.asked
    ? generation
    : { ...generation, tail: { position: tail, asked: true }, gap: true };
}

export type Verdict = "exact" | "repaired" | "unknown";

/** Is what was streamed the final text? If not, is the text that came with the end? `unknown` if neither. */
export function verify(
  generation: Generation | undefined,
  content: string,
  length: number,
  crc: number,
): Verdict {
  if (generation && isOpen(generation) && generation.textBytes === length && crc32(generation.text) === crc)
    return "exact";
  return byteLength(content) === length && crc32(content) === crc ? "repaired" : "unknown";
}

/** An ended generation keeps its name, so that late frames are known as such, and gives its text to the message. */
export function end(generation: Generation, status: EndStatus): Generation {
  return {
    ...newGeneration(generation.id, generation.conversation, generation.message),
    status,
    position: generation.position,
  };
}
