import { describe, expect, test } from "vitest";
import type { Conversation } from "../protocol.gen";
import { NO_THREAD, type Pending, type Thread } from "./state";
import { groupByDate, visibleItems } from "./view";

const thread: Thread = { ...NO_THREAD, load: "ready", path: ["q1", "a1", "q2", "a2"] };
const base = { request_id: "r", created_at: "", error: null, conversation: "c" };
const shown = (pending: Pending[]) =>
  visibleItems(thread, pending, "c").map(item => (item.kind === "message" ? item.id : item.pending.kind));

describe("what is being sent shows at its place", () => {
  test("a question comes last", () => {
    expect(shown([{ ...base, kind: "send", content: "x" }])).toEqual(["q1", "a1", "q2", "a2", "send"]);
  });
  test("an edited question hides what it replaces", () => {
    expect(shown([{ ...base, kind: "send", content: "x", parent: "a1" }])).toEqual(["q1", "a1", "send"]);
    expect(shown([{ ...base, kind: "send", content: "x", parent: null }])).toEqual(["send"]);
  });
  test("a regeneration hides the answer", () => {
    expect(shown([{ ...base, kind: "regenerate", message: "a1" }])).toEqual(["q1", "regenerate"]);
  });
  test("another conversation's is not shown", () => {
    expect(shown([{ ...base, conversation: "d", kind: "send", content: "x" }])).toHaveLength(4);
  });
});

test("conversations are grouped by the reader's calendar days, pinned ones first", () => {
  const now = new Date(2026, 2, 15, 10);
  const at = (daysAgo: number, id: string, pinned = false): Conversation => ({
    id,
    title: id,
    pinned,
    version: 1,
    created_at: "",
    updated_at: new Date(2026, 2, 15 - daysAgo, 9).toISOString(),
    generating: false,
  });
  const groups = groupByDate(
    [at(40, "old"), at(0, "a"), at(1, "b"), at(3, "c"), at(20, "d"), at(9, "p", true)],
    now,
  );
  expect(groups.map(g => [g.key, g.items.map(i => i.id)])).toEqual([
    ["pinned", ["p"]],
    ["today", ["a"]],
    ["yesterday", ["b"]],
    ["last7", ["c"]],
    ["last30", ["d"]],
    ["2026-1", ["old"]],
  ]);
});
