import type { Page } from "playwright-core";
import { ask, begun, ended, type Person, until } from "../e2e/browser";
import type { Chatnode } from "../e2e/server";
import { figure, type Report } from "./report";
import { afterEscape, grown, type Times, timeReload } from "./watch";

/** What a reader waits for when something broke, or when they say so. */

interface How {
  readonly cpu: number;
  readonly tries: number;
}

const ENDLESS = "/demo tokens=1000000 rate=50";

export async function measureLinks(node: Chatnode, person: Person, how: How, report: Report): Promise<void> {
  const page = await person.tab();
  const throttle = async (on: Page) => {
    const cdp = await person.context.newCDPSession(on);
    await cdp.send("Emulation.setCPUThrottlingRate", { rate: how.cpu });
  };
  await throttle(page);
  await ask(page, ENDLESS);
  await begun(page, 200);
  await back(page, node, how, report);
  await reloads(person, page.url(), throttle, how, report);
  await stops(page, how, report);
  await page.close();
}

async function back(page: Page, node: Chatnode, { cpu, tries }: How, report: Report): Promise<void> {
  const network: number[] = [];
  for (let i = 0; i < tries; i++) {
    node.cut(true);
    // Not always the same moment between two tries of the page.
    await page.waitForTimeout(3_000 + i * 170);
    const flows = page.evaluate(grown);
    const at = Date.now();
    node.mend();
    network.push((await flows) - at);
    await page.waitForTimeout(500);
  }
  report.put("network", cpu, figure(network), Math.max(...network) <= 1_000);
  const server: number[] = [];
  for (let i = 0; i < tries; i++) {
    await node.crash();
    await page.waitForTimeout(2_000 + i * 170);
    const flows = page.evaluate(grown);
    await node.restart();
    const at = Date.now();
    server.push((await flows) - at);
    await page.waitForTimeout(500);
  }
  report.put("server", cpu, figure(server), Math.max(...server) <= 1_000);
}

async function reloads(
  person: Person,
  address: string,
  throttle: (page: Page) => Promise<void>,
  { cpu, tries }: How,
  report: Report,
): Promise<void> {
  const times: number[] = [];
  let once = true;
  for (let i = 0; i < tries; i++) {
    const page = await person.context.newPage();
    await throttle(page);
    await page.goto(address);
    const before = await page.locator(".answer .markdown").last().textContent();
    await page.addInitScript(timeReload);
    await page.reload();
    const read = () => page.evaluate(() => (window as unknown as { times: Times }).times);
    const { open, text, first } = await until("the text", read, times => times.text > 0 && times.open > 0);
    times.push(Math.max(0, text - open));
    once &&= first >= (before?.length ?? 0);
    await page.close();
  }
  report.put("reload", cpu, figure(times), Math.max(...times) <= 300);
  report.put("once", cpu, once ? "yes" : "no", once);
}

async function stops(page: Page, { cpu, tries }: How, report: Report): Promise<void> {
  const times: number[] = [];
  for (let i = 0; i < tries; i++) {
    if (i > 0) {
      await ask(page, ENDLESS);
      await begun(page, 50);
    }
    await page.evaluate(afterEscape, "[Cancelled]");
    await page.keyboard.press("Escape");
    times.push((await page.evaluate("window.shownAfterKey")) as number);
    await ended(page);
  }
  report.put("stop", cpu, figure(times), Math.max(...times) <= 100);
}
