import type { Page } from "playwright-core";
import { expect, test } from "vitest";
import { watchFrames } from "./frames";
import { openImported } from "./import";
import { PAYLOADS, SHAPES } from "./payloads";
import { setStage } from "./stage";

const stage = setStage();

/** No more than a page of history shows at once. */
const AT_ONCE = 18;

test(`none of ${PAYLOADS.length} hostile texts runs, or calls anywhere`, { timeout: 120_000 }, async () => {
  const { page } = stage;
  expect(PAYLOADS.length).toBeGreaterThanOrEqual(100);
  const dialogs: string[] = [];
  page.on("dialog", dialog => {
    dialogs.push(dialog.message());
    void dialog.dismiss();
  });
  for (let at = 0; at < PAYLOADS.length; at += AT_ONCE) {
    const some = PAYLOADS.slice(at, at + AT_ONCE);
    await show(page, some, `End ${at}`);
    expect(await forbidden(page)).toEqual([]);
  }
  expect(await page.evaluate(() => "pwned" in window)).toBe(false);
  expect(dialogs).toEqual([]);
});

test("what is hostile by its size or shape holds no frame up for long", { timeout: 120_000 }, async () => {
  const { page } = stage;
  const longest = await watchFrames(page);
  for (const [i, shape] of SHAPES.entries()) {
    await show(page, [shape], `End ${i}`);
    const { frame, at } = await longest();
    // A figure, not a verdict: how fast this machine is today is no property of the page.
    const words = `${shape.length} characters like ${JSON.stringify(shape.slice(0, 12))}`;
    process.stdout.write(`${words}: longest frame ${frame.toFixed(0)} ms${at === "" ? "" : `, ${at}`}\n`);
    expect(await forbidden(page)).toEqual([]);
  }
});

/** Opens a conversation with these texts as questions and answers, and has all of it drawn. */
async function show(page: Page, texts: readonly string[], end: string): Promise<void> {
  const turns = texts.map(text => ({ question: text, answer: text }));
  await openImported(page, texts[0] as string, [...turns, { question: "end", answer: end }]);
  await page.locator(".answer", { hasText: end }).waitFor();
  // Also what stands above the view.
  await page.evaluate(() => {
    for (const message of document.querySelectorAll(".message")) message.scrollIntoView();
  });
}

/** What must never stand in an answer, whether it runs here and today or not. */
function forbidden(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const tags =
      "script, iframe, object, embed, style, link, base, meta, form[action], template, video, audio";
    const found: string[] = [];
    for (const element of document.querySelectorAll(".transcript *")) {
      const loads = element.matches("img") && /^(?!data:|blob:)/.test(element.getAttribute("src") ?? "data:");
      const leads =
        element.matches("a[href]") && !/^(https?|mailto):$/.test((element as HTMLAnchorElement).protocol);
      const acts = [...element.attributes].some(({ name }) => name.startsWith("on"));
      if (element.matches(tags) || loads || leads || acts) found.push(element.outerHTML.slice(0, 200));
    }
    return found;
  });
}
