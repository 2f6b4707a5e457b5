import type { CDPSession, Page } from "playwright-core";
import type { Chatnode } from "./server";

/** A phone in a pocket: the page is hidden and frozen, the network gone, and the clock goes on. */

const AWAY_MS = 5 * 60_000;

interface Sleeper {
  asleep(hidden: boolean, passed: number): void;
}

/** Runs in the page before anything else: lets a test say whether it is seen, and what its clock shows. */
function pretend(): void {
  let hidden = false;
  let ahead = 0;
  const now = Date.now.bind(Date);
  Date.now = () => now() + ahead;
  Object.defineProperty(document, "visibilityState", { get: () => (hidden ? "hidden" : "visible") });
  const sleeper: Sleeper = {
    asleep(state, passed) {
      hidden = state;
      ahead += passed;
      document.dispatchEvent(new Event("visibilitychange"));
    },
  };
  Object.assign(window, sleeper);
}

/** Once, before `fallAsleep`. */
export async function giveSleep(page: Page): Promise<CDPSession> {
  await page.addInitScript(pretend);
  await page.reload();
  await page.locator("#composer").waitFor();
  return page.context().newCDPSession(page);
}

/** `silent`: the sockets are not even closed, as when a phone leaves the reach of its network. */
export async function fallAsleep(
  page: Page,
  cdp: CDPSession,
  node: Chatnode,
  silent: boolean,
): Promise<void> {
  await page.evaluate(() => (window as unknown as Sleeper).asleep(true, 0));
  await cdp.send("Page.setWebLifecycleState", { state: "frozen" });
  if (silent) node.silence();
  else node.cut(true);
}

/** Five minutes later. */
export async function wakeUp(page: Page, cdp: CDPSession, node: Chatnode): Promise<void> {
  node.mend();
  await cdp.send("Page.setWebLifecycleState", { state: "active" });
  await page.evaluate(passed => (window as unknown as Sleeper).asleep(false, passed), AWAY_MS);
}
