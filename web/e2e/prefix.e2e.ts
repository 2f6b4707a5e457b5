import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { ask, begun, ended, lastAnswer, type Person } from "./browser";
import { setStage } from "./stage";

/** What a reader has seen of an answer is never taken back: two tabs sample the text while connections, tabs and the
 *  server are killed. Each seed is a run of its own. CHATNODE_PREFIX_RUNS=200 makes it long, CHATNODE_PREFIX_SEED
 *  starts elsewhere. */

const RUNS = Number(process.env.CHATNODE_PREFIX_RUNS ?? 3);
const FIRST_SEED = Number(process.env.CHATNODE_PREFIX_SEED ?? 1);
const SAMPLE_MS = 100;
const PATIENCE_MS = 60_000;

const stage = setStage();

const seeds = Array.from({ length: RUNS }, (_, i) => FIRST_SEED + i);

test.each(seeds)("every sample is a prefix of the final text (seed %i)", { timeout: 120_000 }, async seed => {
  const random = numbers(seed);
  const { person, page: asking } = stage;
  await ask(asking, `/demo tokens=${120 + pick(random, 100)} rate=${40 + pick(random, 40)}\nseed ${seed}`);
  await begun(asking, 1);
  const readers: Reader[] = [sampled(asking)];
  const path = `/${new URL(asking.url()).hash}`;
  readers.push(sampled(await person.tab(path)));
  const faults: string[] = [];
  for (let i = 0; i < 4; i++) {
    await pause(100 + pick(random, 700));
    faults.push(await harm(random, person, readers, path));
  }
  const ends = [];
  for (const reader of readers) ends.push(await ended(reader.page, PATIENCE_MS));
  const samples = await Promise.all(readers.map(reader => reader.stop()));
  const final = ends[0] as (typeof ends)[number];
  for (const end of ends)
    expect(end, faults.join(", ")).toMatchObject({ text: final.text, status: "completed" });
  const wrong = samples.flat().filter(sample => !final.text.startsWith(sample));
  expect(wrong, faults.join(", ")).toEqual([]);
  expect(await kept((readers[0] as Reader).page, path), faults.join(", ")).toBe(final.text);
});

interface Reader {
  page: Page;
  stop(): Promise<string[]>;
}

/** Notes what a tab holds, ten times a second, whatever becomes of the tab. */
function sampled(page: Page): Reader {
  const samples: string[] = [];
  let stopped = false;
  const reader = {
    page,
    async stop() {
      stopped = true;
      await done;
      return samples;
    },
  };
  const done = (async () => {
    while (!stopped) {
      // A tab that is just going away, or that has nothing yet, is seen again with the next sample.
      const seen = await lastAnswer(reader.page).catch(() => null);
      if (seen !== null) samples.push(seen.text);
      await pause(SAMPLE_MS);
    }
  })();
  return reader;
}

async function harm(random: () => number, person: Person, readers: Reader[], path: string): Promise<string> {
  const reader = readers[pick(random, readers.length)] as Reader;
  switch (pick(random, 5)) {
    case 0:
      stage.node.cut();
      return "cut";
    case 1:
      stage.node.cut(true);
      await pause(200 + pick(random, 800));
      stage.node.mend();
      return "away";
    case 2:
      await reader.page.reload();
      return "reload";
    case 3: {
      const former = reader.page;
      reader.page = await person.tab(path);
      await former.close();
      return "new tab";
    }
    default:
      await stage.node.crash();
      await pause(pick(random, 400));
      await stage.node.restart();
      return "kill -9";
  }
}

async function kept(page: Page, path: string): Promise<string | undefined> {
  const address = `/api/conversations/${path.replace("/#/c/", "")}/messages`;
  const { items } = await page.evaluate(async from => (await fetch(from)).json(), address);
  return items.at(-1)?.content;
}

const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));
const pick = (random: () => number, below: number) => Math.floor(random() * below);

/** The same numbers for the same seed (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
