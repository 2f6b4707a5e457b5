import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { createI18n } from "../src/i18n/i18n";
import { begun, ended, newPerson } from "./browser";
import { setStage } from "./stage";
import { STATES } from "./states";
import { violations } from "./violations";

const stage = setStage();

describe("axe finds nothing, in the light and in the dark", () => {
  test.each(Object.entries(STATES))("%s", async (_name, reach) => {
    // Not the stage's: some states are those of a browser in which something went wrong.
    const { context, tab } = await newPerson(stage.browser, stage.node.address);
    const page = await tab();
    await reach({ page, node: stage.node, t: createI18n("en").t });
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      expect(await violations(page), colorScheme).toEqual([]);
    }
    await context.close();
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

describe("whoever goes by keys sees the whole ring around where they are", () => {
  const states = [
    "list",
    "renaming",
    "finished",
    "branches",
    "failed",
    "editing",
    "settings",
    "account",
    "options",
  ];
  test.each(states)("%s", async name => {
    const { page, node } = stage;
    await STATES[name]?.({ page, node, t: createI18n("en").t });
    const hidden: string[] = [];
    for (let i = 0; i < 45; i++) {
      await page.keyboard.press("Tab");
      hidden.push(...(await page.evaluate(cutOff)));
    }
    expect([...new Set(hidden)]).toEqual([]);
  });
});

/** The focus, where its ring is missing, or a box around it cuts a part of the ring away. */
function cutOff(): string[] {
  const at = document.activeElement;
  if (at === null || at === document.body) return [];
  // A field without a ring of its own has it around the box that it stands in.
  const field = at.matches("textarea, select, input[type=radio]");
  const ringed = (field && at.closest(".composer-box, .edit-form, .model-picker, .segments label")) || at;
  const { outlineStyle, outlineWidth, outlineOffset, boxShadow } = getComputedStyle(ringed);
  const said = `${at.tagName} ${at.getAttribute("aria-label") ?? at.textContent?.slice(0, 40)}`;
  if (outlineStyle === "none" && boxShadow === "none") return [`${said}: no ring`];
  const ring =
    outlineStyle === "none" ? 0 : Number.parseFloat(outlineWidth) + Number.parseFloat(outlineOffset);
  const box = ringed.getBoundingClientRect();
  for (let outer = ringed.parentElement; outer; outer = outer.parentElement) {
    const { overflowX, overflowY, contentVisibility } = getComputedStyle(outer);
    const frame = outer.getBoundingClientRect();
    const cuts = contentVisibility === "auto";
    const x = cuts || overflowX !== "visible";
    // What scrolls up and down shows the rest when it is scrolled.
    const y = cuts || overflowY === "hidden" || overflowY === "clip";
    const outX = box.left - ring < frame.left - 0.5 || box.right + ring > frame.right + 0.5;
    const outY = box.top - ring < frame.top - 0.5 || box.bottom + ring > frame.bottom + 0.5;
    if ((x && outX) || (y && outY)) return [`${said}: cut off by ${outer.className}`];
  }
  return [];
}

describe("a field for one line is as high as a line", () => {
  test.each(["signIn", "account", "options", "list"])("%s", async name => {
    const { page, node } = stage;
    await STATES[name]?.({ page, node, t: createI18n("en").t });
    const heights = await page
      .locator("input:not([type=radio], [type=file], .visually-hidden)")
      .evaluateAll(fields => fields.map(field => field.getBoundingClientRect().height));
    expect(heights.length).toBeGreaterThan(0);
    for (const height of heights) expect(height).toBeLessThan(60);
  });
});

describe("who asked the system for something gets it", () => {
  test("no motion: nothing moves, whatever the page is doing", async () => {
    const { page, node } = stage;
    await page.emulateMedia({ reducedMotion: "reduce" });
    for (const name of ["thinking", "streaming", "waiting", "clusterMany"]) {
      await STATES[name]?.({ page, node, t: createI18n("en").t });
      expect(await page.evaluate(() => document.getAnimations().length), name).toBe(0);
      await page.goto("/");
    }
  });

  test("colours of its own: what is chosen is still to be seen", async () => {
    const { page, node } = stage;
    await page.emulateMedia({ forcedColors: "active" });
    await STATES.settings?.({ page, node, t: createI18n("en").t });
    const chosen = page.locator('.segments label[data-on="true"]').first();
    expect(await chosen.evaluate(label => getComputedStyle(label).outlineStyle)).toBe("solid");
  });

  test("paper: the whole conversation, and nothing to click", async () => {
    const { page, node } = stage;
    await STATES.scrolledUp?.({ page, node, t: createI18n("en").t });
    await page.emulateMedia({ media: "print", colorScheme: "dark" });
    const high = () =>
      page.evaluate(() => [document.documentElement.scrollHeight, innerHeight] as [number, number]);
    const [whole, seen] = await high();
    expect(whole).toBeGreaterThan(5 * seen);
    expect(await page.locator("button:not(.picture):visible").count()).toBe(0);
    expect(await page.locator("body").evaluate(body => getComputedStyle(body).color)).toBe("rgb(29, 28, 26)");
  });
});
