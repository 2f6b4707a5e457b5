import type { Page } from "playwright-core";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ask, ended, lastAnswer, newPerson, type Person, until } from "./browser";
import { setStage, TONGUES } from "./stage";
import { STATES } from "./states";

/** The page on the narrowest phone, in the longer language: everything is within reach of a finger, and nothing is cut off. */

const stage = setStage();
const { locale, t } = TONGUES[1] as (typeof TONGUES)[number];
let phone: Person;
let page: Page;

beforeEach(async () => {
  phone = await newPerson(stage.browser, stage.node.address, {
    locale,
    width: 320,
    height: 640,
    touch: true,
  });
  page = await phone.tab();
});

afterEach(() => phone.context.close());

describe("every state", () => {
  test.each(Object.entries(STATES))("%s", async (_name, reach) => {
    await reach({ page, node: stage.node, t });
    expect(await tooSmall(page)).toEqual([]);
    const [wide, seen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    expect(wide).toBeLessThanOrEqual(seen as number);
  });
});

/** What can be touched, and misses a finger 21 px beside its middle. Links within a text are as high as their line. */
function tooSmall(page: Page): Promise<string[]> {
  return page.evaluate(async () => {
    const moving = document.getAnimations().filter(animation => animation instanceof CSSTransition);
    await Promise.allSettled(moving.map(animation => animation.finished));
    const targets = [...document.querySelectorAll<HTMLElement>("button, a, input, select, textarea, label")];
    const alone = targets.filter(
      element =>
        !element.matches(".markdown a, :disabled, .visually-hidden, label.field") &&
        element.checkVisibility(),
    );
    return alone.flatMap(element => {
      const { left, top, width, height } = element.getBoundingClientRect();
      const [x, y] = [left + width / 2, top + height / 2];
      const box = element
        .closest(".conversations, .transcript, .dialog, .empty, .cluster")
        ?.getBoundingClientRect();
      const hit = (dx: number, dy: number) => {
        const [atX, atY] = [x + dx, y + dy];
        if (atX < 0 || atY < 0 || atX >= innerWidth || atY >= innerHeight) return true;
        if (box && (atY < box.top || atY >= box.bottom)) return true;
        const found = document.elementFromPoint(atX, atY);
        return element.contains(found) || (found?.closest("label")?.contains(element) ?? false);
      };
      // What is under something else, or scrolled away, is touched when it is not.
      const reachable = document.elementFromPoint(x, y);
      if (!element.contains(reachable)) return [];
      const misses = [hit(-21, 0), hit(21, 0), hit(0, -21), hit(0, 21)].includes(false);
      return misses ? [`${element.outerHTML.slice(0, 120)}: ${width} × ${height}`] : [];
    });
  });
}

test("Enter is a new line, in a question and when it is changed; buttons send", async () => {
  const field = page.locator("#composer");
  await field.fill("one");
  await field.press("Enter");
  await field.pressSequentially("/demo tokens=5 rate=0");
  expect(await field.inputValue()).toBe("one\n/demo tokens=5 rate=0");
  await page.getByRole("button", { name: t("send") }).click();
  await until(
    "the answer",
    () => lastAnswer(page),
    ({ status }) => status === "completed",
  );
  await page.getByRole("button", { name: t("edit") }).click();
  const editor = page.locator(".edit-form textarea");
  await editor.press("Enter");
  await editor.pressSequentially("two");
  await page
    .locator(".edit-form")
    .getByRole("button", { name: t("editSend") })
    .click();
  await page.locator(".bubble", { hasText: "two" }).waitFor();
  expect(await page.locator(".bubble").textContent()).toBe("one\n/demo tokens=5 rate=0\ntwo");
});

test("what a finger touched looks afterwards as it did before", async () => {
  await STATES.finished?.({ page, node: stage.node, t });
  for (const selector of [".question .icon-button", ".answer .icon-button", ".copy"]) {
    const touched = page.locator(selector).first();
    const look = () =>
      touched.evaluate(element => {
        const { backgroundColor, borderColor, color } = getComputedStyle(element);
        return { backgroundColor, borderColor, color };
      });
    await touched.scrollIntoViewIfNeeded();
    const before = await look();
    await touched.tap();
    // The browser takes the finger to be there still.
    expect(await touched.evaluate(element => element.matches(":hover")), selector).toBe(true);
    expect(await look(), selector).toEqual(before);
  }
});

test("a finger that moves down where nothing is above gives up no following: there is nothing to go back to", async () => {
  await ask(page, "/demo tokens=10 rate=0");
  await ended(page);
  const cdp = await phone.context.newCDPSession(page);
  const finger = (type: "touchStart" | "touchMove" | "touchEnd", y?: number) =>
    cdp.send("Input.dispatchTouchEvent", { type, touchPoints: y === undefined ? [] : [{ x: 100, y }] });
  await finger("touchStart", 200);
  for (let y = 210; y <= 320; y += 10) await finger("touchMove", y);
  await finger("touchEnd");
  expect(await page.locator(".to-bottom").count()).toBe(0);
});

/** As on a slow machine: a dialog is closed, and the page hears of it when the drawer is closed too. */
function tellLate(): void {
  const open = () => document.querySelector(".backdrop") !== null;
  const later = (event: Event) => {
    // A slow machine is as late by itself, and nothing would change any more that could be watched.
    if (!open()) return;
    event.stopImmediatePropagation();
    const drawer = new MutationObserver(() => {
      if (open()) return;
      drawer.disconnect();
      event.target?.dispatchEvent(new Event("close"));
    });
    drawer.observe(document.body, { childList: true, subtree: true });
  };
  addEventListener("close", later, { capture: true, once: true });
}

test("the drawer keeps the focus while it is open, and gives it back", async () => {
  const opener = page.getByRole("button", { name: t("openSidebar") });
  const within = () => page.evaluate(() => document.activeElement?.closest(".sidebar, .backdrop") !== null);
  await opener.click();
  expect(await within()).toBe(true);
  for (let i = 0; i < 12; i++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => document.activeElement?.tagName);
    // Past the last one comes the browser's own.
    expect((await within()) || at === "BODY").toBe(true);
  }
  await page.getByRole("button", { name: t("settings"), exact: true }).click();
  await page.locator("dialog[open]").waitFor();
  await page.evaluate(tellLate);
  await page.keyboard.press("Escape");
  await page.locator("dialog[open]").waitFor({ state: "detached" });
  expect(await page.evaluate(() => (document.activeElement as HTMLElement).innerText.trim())).toBe(
    t("settings"),
  );
  await page.keyboard.press("Escape");
  await page.locator(".backdrop").waitFor({ state: "detached" });
  await page.locator("dialog").waitFor({ state: "detached" });
  expect(await opener.evaluate(element => element === document.activeElement)).toBe(true);
});
