import axe from "axe-core";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ask, begun, ended, newPerson, startBrowser } from "./browser";
import { type Chatnode, startChatnode } from "./server";

let node: Chatnode;
let browser: Browser;

beforeAll(async () => {
  [node, browser] = await Promise.all([startChatnode(), startBrowser()]);
});

afterAll(async () => {
  await browser?.close();
  await node?.stop();
});

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    const { axe } = window as unknown as { axe: typeof import("axe-core") };
    const found = await axe.run(document, { resultTypes: ["violations"] });
    return found.violations.map(
      ({ id, nodes }) => `${id}: ${nodes.map(one => one.html.slice(0, 120)).join(" | ")}`,
    );
  });
}

describe.each(["light", "dark"] as const)("axe finds nothing, %s", colorScheme => {
  test("on every page and state", { timeout: 120_000 }, async () => {
    const person = await newPerson(browser, node.address, { colorScheme });
    const page = await person.tab();
    const found: Record<string, string[]> = {};
    found.empty = await violations(page);
    await ask(page, "/demo tokens=2000 rate=30 reason=20");
    await begun(page);
    found.streaming = await violations(page);
    await page.keyboard.press("Escape");
    await page.getByText("[Cancelled]").waitFor();
    found.stopped = await violations(page);
    await ask(page, "/demo rate=0");
    await page.locator(".answer table").waitFor();
    await ended(page);
    found.finished = await violations(page);
    await ask(page, "/demo fail=after:5");
    await page.getByRole("alert").waitFor();
    found.error = await violations(page);
    await page.getByRole("button", { name: "Settings" }).click();
    await page.locator("dialog[open]").waitFor();
    found.settings = await violations(page);
    await page.keyboard.press("Escape");
    await page.goto("/#/cluster");
    await page.locator(".cluster").waitFor();
    found.cluster = await violations(page);
    expect(found).toEqual(Object.fromEntries(Object.keys(found).map(state => [state, []])));
    expect(person.faults).toEqual([]);
    await person.context.close();
  });
});

describe("the keyboard alone", () => {
  const focused = (page: Page) =>
    page.evaluate(() => {
      const at = document.activeElement as HTMLElement | null;
      return at?.getAttribute("aria-label") ?? at?.innerText.trim() ?? at?.tagName ?? "";
    });

  /** Presses Tab until the focus is there; fails if it never comes. */
  async function tabTo(page: Page, name: string): Promise<void> {
    const passed: string[] = [];
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press("Tab");
      passed.push(await focused(page));
      if (passed.at(-1) === name) return;
    }
    throw new Error(`Tab never came to ${name}, only to ${passed.join(", ")}`);
  }

  test("asks, stops, edits, answers again, changes settings, and starts anew", async () => {
    const person = await newPerson(browser, node.address);
    const page = await person.tab();
    expect(await focused(page)).toBe("Your message");
    await page.keyboard.type("/demo tokens=2000 rate=50");
    await page.keyboard.press("Enter");
    await begun(page);
    expect(await focused(page)).toBe("Your message");
    await page.keyboard.press("Escape");
    await page.getByText("[Cancelled]").waitFor();
    await page.keyboard.press("ArrowUp");
    await page.locator(".edit-form textarea:focus").waitFor();
    await page.keyboard.press("ControlOrMeta+a");
    await page.keyboard.type("/demo tokens=30 rate=0");
    await page.keyboard.press("Enter");
    await page.locator(".question .branches", { hasText: "2/2" }).waitFor();
    expect((await ended(page)).status).toBe("completed");
    await tabTo(page, "Answer again");
    await page.keyboard.press("Enter");
    await page.locator(".answer .branches", { hasText: "2/2" }).waitFor();
    await ended(page);
    await tabTo(page, "Settings");
    await page.keyboard.press("Enter");
    await page.locator("dialog[open]").waitFor();
    await page.keyboard.press("Escape");
    await page.locator("dialog[open]").waitFor({ state: "detached" });
    expect(await focused(page)).toBe("Settings");
    await tabTo(page, "New chat");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "What would you like to know?" }).waitFor();
    expect(await focused(page)).toBe("Your message");
    expect(person.faults).toEqual([]);
    await person.context.close();
  });
});
