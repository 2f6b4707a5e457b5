import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newPerson, startBrowser } from "./browser";
import { importConversation } from "./import";
import { PAYLOADS } from "./payloads";
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

/** No more than a page of history shows at once. */
const AT_ONCE = 18;

test(`none of ${PAYLOADS.length} hostile texts runs, or calls anywhere`, { timeout: 120_000 }, async () => {
  expect(PAYLOADS.length).toBeGreaterThanOrEqual(100);
  const person = await newPerson(browser, node.address);
  const page = await person.tab();
  const dialogs: string[] = [];
  page.on("dialog", dialog => {
    dialogs.push(dialog.message());
    void dialog.dismiss();
  });
  for (let at = 0; at < PAYLOADS.length; at += AT_ONCE) {
    const some = PAYLOADS.slice(at, at + AT_ONCE);
    const turns = some.map(payload => ({ question: payload, answer: payload }));
    const id = await importConversation(page, some[0] as string, [
      ...turns,
      { question: "end", answer: `End ${at}` },
    ]);
    await page.evaluate(hash => {
      location.hash = hash;
    }, `#/c/${id}`);
    await page.locator(".answer", { hasText: `End ${at}` }).waitFor();
    // Everything is drawn, also what stands above the view.
    await page.evaluate(() => {
      for (const message of document.querySelectorAll(".message")) message.scrollIntoView();
    });
    expect(await forbidden(page)).toEqual([]);
  }
  expect(await page.evaluate(() => "pwned" in window)).toBe(false);
  expect(dialogs).toEqual([]);
  expect(person.faults).toEqual([]);
  await person.context.close();
});

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
