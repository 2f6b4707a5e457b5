import type { Browser } from "playwright-core";
import { ask, lastAnswer, newPerson, type Person, until } from "../e2e/browser";
import { watchFrames } from "../e2e/frames";
import { openImported } from "../e2e/import";
import { SHAPES } from "../e2e/payloads";
import type { Chatnode } from "../e2e/server";
import { fallAsleep, giveSleep, wakeUp } from "../e2e/sleep";
import { STATES } from "../e2e/states";
import { violations } from "../e2e/violations";
import { createI18n } from "../src/i18n/i18n";
import { figure, ms, type Report } from "./report";

/** What is tested as well, with its figures. */

/** The time from waking up until the whole answer, which ended meanwhile, is there. */
export async function measureSleep(
  node: Chatnode,
  person: Person,
  cpu: number,
  report: Report,
): Promise<void> {
  const page = await person.tab();
  const cdp = await giveSleep(page);
  await cdp.send("Emulation.setCPUThrottlingRate", { rate: cpu });
  const times: number[] = [];
  for (const silent of [false, true]) {
    await ask(page, "/demo tokens=150 rate=60");
    // Of this answer, not of the one before, which is the last one until the server has said more.
    const flows = ({ status, text }: { status: string; text: string }) =>
      status !== "completed" && text.length >= 40;
    await until("the answer begins", () => lastAnswer(page), flows);
    await fallAsleep(page, cdp, node, silent);
    await new Promise(resolve => setTimeout(resolve, 6_500));
    const at = performance.now();
    await wakeUp(page, cdp, node);
    const look = () => lastAnswer(page);
    await until("the whole answer", look, ({ status }) => status === "completed");
    times.push(performance.now() - at);
  }
  report.put("asleep", cpu, figure(times), Math.max(...times) <= 1_000);
}

export async function measureHostile(person: Person, cpu: number, report: Report): Promise<void> {
  const page = await person.tab();
  const cdp = await person.context.newCDPSession(page);
  await cdp.send("Emulation.setCPUThrottlingRate", { rate: cpu });
  const longest = await watchFrames(page);
  let worst = { frame: 0, shape: "" };
  for (const [i, shape] of SHAPES.entries()) {
    const end = `End ${i}`;
    const turns = [
      { question: "?", answer: shape },
      { question: "?", answer: end },
    ];
    await openImported(page, end, turns);
    await page.locator(".answer", { hasText: end }).waitFor();
    const { frame } = await longest();
    if (frame > worst.frame)
      worst = { frame, shape: `${shape.length} × ${JSON.stringify(shape.slice(0, 6))}` };
  }
  const words = `${ms(worst.frame)} (${worst.shape.replaceAll("|", "\\|")})`;
  report.put("hostile", cpu, words, cpu === 1 ? worst.frame <= 200 : null);
}

export async function countViolations(
  node: Chatnode,
  browser: Browser,
  most: number | undefined,
  report: Report,
): Promise<void> {
  const { t } = createI18n("en");
  const found: string[] = [];
  const states = Object.entries(STATES).slice(0, most);
  for (const [name, reach] of states) {
    const person = await newPerson(browser, node.address);
    const page = await person.tab();
    await reach({ page, node, t });
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      for (const one of await violations(page)) found.push(`${name}, ${colorScheme}: ${one}`);
    }
    await person.context.close();
    node.mend();
  }
  for (const one of found) process.stderr.write(`${one}\n`);
  report.put("axe", 0, `${found.length} (${states.length} states)`, found.length === 0);
}
