import type { CDPSession, Page } from "playwright-core";
import { ask, begun, lastAnswer, type Person } from "../e2e/browser";
import { importConversation } from "../e2e/import";
import { figure, ms, type Report } from "./report";
import { drift, type Observed, observe, opened, select } from "./watch";

/** A long conversation: opened, streamed into, typed over, scrolled and selected in. */

export interface How {
  readonly cpu: number;
  readonly seconds: number;
  readonly rate: number;
  readonly tries: number;
}

const TURNS = 250;
const ANSWER = `Some **words** with \`code\`, a [link](https://example.org) and a list:

- one
- two

\`\`\`js
const answer = 42;
\`\`\`
`;

export async function measureStream(person: Person, how: How, report: Report): Promise<void> {
  const page = await person.tab();
  const cdp = await person.context.newCDPSession(page);
  await cdp.send("Performance.enable");
  const turns = Array.from({ length: TURNS }, (_, i) => ({
    question: `Question ${i}`,
    answer: `${ANSWER}\nEnd ${i}.`,
  }));
  const conversations: string[] = [];
  for (let i = 0; i < how.tries; i++) conversations.push(await importConversation(page, `Long ${i}`, turns));
  await page.reload();
  await page
    .locator(".row")
    .nth(how.tries - 1)
    .waitFor();
  await cdp.send("Emulation.setCPUThrottlingRate", { rate: how.cpu });
  const last = { selector: ".answer", text: `End ${TURNS - 1}.` };
  const goal = how.cpu === 1 ? 150 : 600;
  const times: number[] = [];
  for (const id of conversations) times.push(await page.evaluate(opened, { hash: `#/c/${id}`, ...last }));
  report.put("open", how.cpu, figure(times), Math.max(...times) <= goal);
  await page.reload();
  await page.locator(".answer", { hasText: last.text }).waitFor();
  const cold = await page.evaluate(
    () => new Promise<number>(done => requestAnimationFrame(() => done(performance.now()))),
  );
  report.put("openCold", how.cpu, ms(cold), null);
  await streaming(page, cdp, how, report);
  await page.close();
}

async function streaming(page: Page, cdp: CDPSession, how: How, report: Report): Promise<void> {
  const { cpu, seconds, rate } = how;
  const idle = await busyFor(page, cdp, 1_000);
  await ask(page, "Write without end.");
  await begun(page, 1);
  await page.evaluate(observe);
  const began = Date.now();
  const left = () => seconds * 1_000 - (Date.now() - began);
  // Around 1,000 and 12,000 tokens in the long form. Nobody types meanwhile, so that only the tokens cost.
  const part = Math.min(4_000, seconds * 70);
  await page.waitForTimeout(Math.min(3_000, seconds * 50));
  const early = await costOfTokens(page, cdp, part, idle, rate);
  while (left() > part) {
    await page.locator("#composer").pressSequentially("typing while it streams ", { delay: 60 });
    await page.locator("#composer").fill("");
  }
  const late = await costOfTokens(page, cdp, part, idle, rate);
  const seen = (await page.evaluate("window.observed()")) as Observed;
  const first = cpu === 1;
  report.put("fps", cpu, `${seen.fps.toFixed(1)} fps`, seen.fps >= (first ? 58 : 45));
  report.put("longest", cpu, `${ms(seen.longest)}; ${seen.long}`, first ? seen.long === 0 : null);
  report.put("inp", cpu, `${ms(seen.inp)} (${seen.keys} keys)`, seen.inp <= 150);
  const ratio = late.each / early.each;
  const at = `${late.each.toFixed(2)} ms at ${late.at}, ${early.each.toFixed(2)} ms at ${early.at}`;
  report.put("token", cpu, `${ratio.toFixed(2)}× (${at})`, ratio <= 1.2);
  await cdp.send("HeapProfiler.collectGarbage");
  const heap = (await cdp.send("Runtime.getHeapUsage")).usedSize / 1_000_000;
  report.put("heap", cpu, `${heap.toFixed(1)} MB`, heap <= 40);
  report.put("shift", cpu, seen.shift.toFixed(4), seen.shift <= 0.02);
  await selections(page, cpu, report);
  await drifting(page, cpu, report);
  await page.keyboard.press("Escape");
  await page.getByText("[Cancelled]").waitFor();
}

/** Main thread's time for one token, beside what it does anyway, and how many tokens were there. */
async function costOfTokens(page: Page, cdp: CDPSession, span: number, idle: number, rate: number) {
  const before = (await lastAnswer(page)).text.length;
  const busy = (await busyFor(page, cdp, span)) - idle;
  const after = (await lastAnswer(page)).text.length;
  // Counted by their text: a machine that lags must not pass for a fast one.
  const tokens = (after - before) / CHARACTERS;
  if (tokens <= 0) throw new Error("the answer stands still, so nothing can be measured");
  return { each: (busy * span) / tokens, at: Math.round((before + after) / 2 / CHARACTERS), rate };
}

/** Characters of one of the upstream's tokens, on average. */
const CHARACTERS = 4.84;

/** The share of time that the main thread is at work. */
async function busyFor(page: Page, cdp: CDPSession, span: number): Promise<number> {
  const spent = async () => {
    const { metrics } = await cdp.send("Performance.getMetrics");
    return metrics.find(metric => metric.name === "TaskDuration")?.value ?? 0;
  };
  const [from, at] = [await spent(), performance.now()];
  await page.waitForTimeout(span);
  return ((await spent()) - from) / ((performance.now() - at) / 1_000);
}

/** In the block that is just being written, and that others follow before we look again. */
async function selections(page: Page, cpu: number, report: Report): Promise<void> {
  const lost: string[] = [];
  const kinds = { prose: "p", list: "ul", code: ".code-block" };
  for (const [kind, selector] of Object.entries(kinds)) {
    const before = await page.evaluate(select, selector);
    await page.waitForTimeout(2_000);
    const after = await page.evaluate(() => getSelection()?.toString() ?? "");
    if (before === "" || after !== before) lost.push(kind);
  }
  await page.evaluate(() => getSelection()?.removeAllRanges());
  const words = lost.length === 0 ? "survives (prose, list, code)" : `lost in ${lost}`;
  report.put("selection", cpu, words, lost.length === 0);
}

async function drifting(page: Page, cpu: number, report: Report): Promise<void> {
  await page.locator(".transcript").hover();
  await page.mouse.wheel(0, -1_500);
  await page.locator(".to-bottom").waitFor();
  // The wheel glides; from where it comes to rest nothing may move.
  await page.waitForTimeout(800);
  const most = await page.evaluate(drift, 3_000);
  report.put("drift", cpu, `${most} px`, most === 0);
}
