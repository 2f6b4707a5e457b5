import { describe, expect, test } from "vitest";
import { createI18n } from "../src/i18n/i18n";
import { ask, begun, ended, lastAnswer, until } from "./browser";
import { importConversation, openImported } from "./import";
import { setStage } from "./stage";

/** Whoever goes by keys or by ear is never thrown back to the beginning of the page: what had the focus hands it on when
 *  it goes away. */

const stage = setStage();
const { t } = createI18n("en");
const SHORT = "/demo tokens=40 rate=0";

/** The name of what has the focus. */
const focused = () =>
  stage.page.evaluate(() => {
    const at = document.activeElement as HTMLElement;
    return at.getAttribute("aria-label") ?? (at.innerText.trim() || at.tagName);
  });

const comesTo = (name: string) => until(`the focus on ${name}`, focused, at => at === name, 5_000);

const button = (name: string) => stage.page.getByRole("button", { name, exact: true });

async function choose(title: string, action: string): Promise<void> {
  await button(t("conversationMenu", { title })).press("Enter");
  const item = stage.page.getByRole("menuitem", { name: action, exact: true });
  await item.press("Enter");
}

describe("the focus", () => {
  test("goes back to where an edit began, and to the field when it is sent", async () => {
    const { page } = stage;
    await openImported(page, "Edit", [{ question: SHORT, answer: "b" }]);
    await button(t("edit")).press("Enter");
    await page.keyboard.press("Escape");
    await comesTo(t("edit"));
    await page.locator("#composer").focus();
    await page.keyboard.press("ArrowUp");
    await page.locator(".edit-form textarea:focus").waitFor();
    await page.keyboard.press("Escape");
    await comesTo(t("composer"));
    await button(t("edit")).press("Enter");
    await page.keyboard.press("Enter");
    await comesTo(t("composer"));
    await page.locator(".question .branches", { hasText: "2/2" }).waitFor();
    await ended(page);
    await button(t("regenerate")).press("Enter");
    await comesTo(t("composer"));
  });

  test("stays on the arrows from version to version", async () => {
    const { page } = stage;
    await ask(page, SHORT);
    await ended(page);
    for (const count of [2, 3]) {
      await button(t("regenerate")).click();
      await page.locator(".answer .branches", { hasText: `${count}/${count}` }).waitFor();
      await ended(page);
    }
    const versions = page.locator(".answer .branches");
    await button(t("previousBranch")).press("Enter");
    await versions.filter({ hasText: "2/3" }).waitFor();
    await comesTo(t("previousBranch"));
    await page.keyboard.press("Enter");
    await versions.filter({ hasText: "1/3" }).waitFor();
    // There is nothing before the first.
    await comesTo(t("nextBranch"));
  });

  test("stays in the list when a name is changed, and when a row goes away", async () => {
    const { page } = stage;
    for (const title of ["One", "Two", "Three"]) {
      await importConversation(page, title, [{ question: "a", answer: "b" }]);
      await page.locator(".row", { hasText: title }).waitFor();
    }
    await choose("Two", t("rename"));
    await page.keyboard.type("Second");
    await page.keyboard.press("Enter");
    await comesTo("Second");
    await choose("Second", t("rename"));
    await page.keyboard.press("Escape");
    await comesTo("Second");
    await choose("Second", t("delete"));
    await comesTo("One");
    await button(t("conversationMenu", { title: "One" })).press("Enter");
    await page.locator("[role=menuitem]:focus").waitFor();
    await page.keyboard.press("Tab");
    await page.getByRole("menuitem").first().waitFor({ state: "hidden" });
  });

  test("comes past the list with one key", async () => {
    const { page } = stage;
    await page.locator(".skip").focus();
    await page.keyboard.press("Enter");
    await comesTo(t("composer"));
  });
});

test("Escape empties the search before it stops an answer", async () => {
  const { page } = stage;
  await ask(page, "/demo tokens=2000 rate=50");
  await begun(page);
  const search = page.getByRole("searchbox");
  await search.fill("duong");
  await search.press("Escape");
  expect(await search.inputValue()).toBe("");
  const { text } = await lastAnswer(page);
  await begun(page, text.length + 200);
  await search.press("Escape");
  expect((await ended(page)).status).toBe("cancelled");
});

test("a dialog stays when a selection that began in it ends beside it, and goes with a click beside it", async () => {
  const { page } = stage;
  await button(t("options")).click();
  const field = page.getByLabel(t("systemPrompt"));
  await field.fill("Answer briefly.");
  const box = await field.boundingBox();
  if (box === null) throw new Error("the field is nowhere");
  await page.mouse.move(box.x + 90, box.y + 15);
  await page.mouse.down();
  await page.mouse.move(5, box.y + 15);
  await page.mouse.up();
  expect(await page.locator("dialog[open]").count()).toBe(1);
  expect(await field.inputValue()).toBe("Answer briefly.");
  await page.mouse.click(5, 5);
  await page.locator("dialog[open]").waitFor({ state: "detached" });
});

test("whoever points at the offer to undo has time to take it", { timeout: 30_000 }, async () => {
  const { page } = stage;
  await importConversation(page, "Gone", [{ question: "a", answer: "b" }]);
  await page.locator(".row", { hasText: "Gone" }).waitFor();
  await choose("Gone", t("delete"));
  await page.locator(".notice").hover();
  // Longer than it stays by itself.
  await page.waitForTimeout(9_500);
  await button(t("undo")).click();
  await page.locator(".row", { hasText: "Gone" }).waitFor();
});
