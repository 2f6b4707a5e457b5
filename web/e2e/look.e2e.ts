import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { createI18n } from "../src/i18n/i18n";
import { begun, ended, newPerson } from "./browser";
import { setStage } from "./stage";
import { STATES } from "./states";
import { violations } from "./violations";

const stage = setStage();

describe.each(["light", "dark"] as const)("axe finds nothing, %s", colorScheme => {
  test.each(Object.entries(STATES))("%s", async (_name, reach) => {
    const { node, browser } = stage;
    const person = await newPerson(browser, node.address, { colorScheme });
    const page = await person.tab();
    await reach({ page, node, t: createI18n("en").t });
    expect(await violations(page)).toEqual([]);
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
    const { page } = stage;
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
  });
});
