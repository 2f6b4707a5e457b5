import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import type { I18n } from "../src/i18n/i18n";
import type { AppState } from "../src/store/core";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-default-apps",
  "--disable-extensions",
  "--disable-dev-shm-usage",
];

/** A folder as `npm run build` made it, in place of the page that the binary holds: whoever works on the page needs no
 *  compiler. */
const BUILT_PAGE = process.env.CHATNODE_PAGE ?? "";

export function startBrowser(): Promise<Browser> {
  // What a test gives the browser comes from nowhere, and may therefore call no local server.
  const args = BUILT_PAGE === "" ? FLAGS : [...FLAGS, "--disable-features=LocalNetworkAccessChecks"];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
}

/** A browser profile, and everything that went wrong in it. */
export interface Person {
  readonly context: BrowserContext;
  readonly faults: string[];
  tab(path?: string): Promise<Page>;
}

interface Device {
  readonly locale?: string;
  readonly colorScheme?: "light" | "dark";
  readonly width?: number;
  readonly height?: number;
  /** A finger points, and hovers nowhere. */
  readonly touch?: boolean;
}

export async function newPerson(browser: Browser, address: string, options: Device = {}): Promise<Person> {
  const context = await browser.newContext({
    baseURL: address,
    locale: options.locale ?? "en-US",
    colorScheme: options.colorScheme ?? "light",
    viewport: { width: options.width ?? 1280, height: options.height ?? 800 },
    hasTouch: options.touch ?? false,
    isMobile: options.touch ?? false,
  });
  await serveBuiltPage(context);
  const faults: string[] = [];
  context.on("weberror", fault => faults.push(`error in the page: ${fault.error().message}`));
  context.on("console", message => {
    // Lost links are what many of these tests are about.
    const network = /Failed to load resource|WebSocket connection/.test(message.text());
    if (message.type() === "error" && !network) faults.push(`console: ${message.text()}`);
  });
  context.on("request", request => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.origin !== address)
      faults.push(`foreign request: ${url}`);
  });
  return {
    context,
    faults,
    async tab(path = "/") {
      const page = await context.newPage();
      await page.goto(path);
      await page.locator("#composer, .cluster").first().waitFor();
      return page;
    },
  };
}

async function serveBuiltPage(context: BrowserContext): Promise<void> {
  if (BUILT_PAGE === "") return;
  await context.route(/.*/, async route => {
    const { pathname } = new URL(route.request().url());
    const file = join(BUILT_PAGE, pathname === "/" ? "index.html" : pathname);
    if (/^\/(api|ws|health)/.test(pathname) || !existsSync(file)) return route.fallback();
    // The cookie and the policy are the server's.
    if (pathname !== "/") return route.fulfill({ path: file });
    const response = await route.fetch().catch(() => null);
    return response === null ? route.abort() : route.fulfill({ response, path: file });
  });
}

export async function ask(page: Page, text: string): Promise<void> {
  await page.locator("#composer").fill(text);
  // Under a finger Enter is a new line.
  const touch = await page.evaluate(() => matchMedia("(pointer: coarse)").matches);
  if (touch) await page.locator(".send").click();
  else await page.locator("#composer").press("Enter");
}

/** The last answer's text as the page holds it, byte for byte, and its status. */
export function lastAnswer(page: Page): Promise<{ text: string; status: string; repairs: number }> {
  return page.evaluate(() => {
    const { chat, route } = (window as unknown as { chatnode: { state(): AppState } }).chatnode.state();
    const conversation = route.page === "chat" ? route.conversation : null;
    const leaf = conversation === null ? undefined : chat.threads[conversation]?.path.at(-1);
    const message = leaf === undefined ? undefined : chat.messages[leaf];
    if (message?.role !== "assistant") return { text: "", status: "none", repairs: chat.repairs };
    const open = message.status === "queued" || message.status === "running";
    const generation = message.generation === undefined ? undefined : chat.generations[message.generation];
    return {
      text: open ? (generation?.text ?? "") : message.content,
      status: message.status,
      repairs: chat.repairs,
    };
  });
}

export async function until<T>(
  what: string,
  look: () => Promise<T>,
  good: (value: T) => boolean,
  patience = 30_000,
): Promise<T> {
  const end = Date.now() + patience;
  let last: T;
  do {
    last = await look();
    if (good(last)) return last;
    await new Promise(resolve => setTimeout(resolve, 25));
  } while (Date.now() < end);
  throw new Error(`${what}: not within ${patience} ms; last seen: ${JSON.stringify(last).slice(0, 400)}`);
}

export const ended = (page: Page, patience?: number) =>
  until(
    "the end of the answer",
    () => lastAnswer(page),
    answer => !["none", "queued", "running"].includes(answer.status),
    patience,
  );

export const begun = (page: Page, characters = 20) =>
  until(
    "the beginning of the answer",
    () => lastAnswer(page),
    answer => answer.text.length >= characters,
  );

/** Clicks on a button that copies, and sees that the page says so: for a moment only, which a busy machine looks past. */
export async function copyBy(page: Page, label: string, said: string): Promise<void> {
  const seen = page.waitForFunction(words => document.querySelector(`[aria-label="${words}"]`), said);
  await page.getByRole("button", { name: label, exact: true }).click();
  await seen;
}

/** A narrow page shows the list when it is asked to. */
export async function openDrawer(page: Page, t: I18n["t"]): Promise<void> {
  const opener = page.getByRole("button", { name: t("openSidebar") });
  if (await opener.isVisible()) await opener.click();
}
