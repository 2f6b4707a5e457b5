import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import { ask, ended, until } from "./browser";
import { setStage, TONGUES } from "./stage";
import { STATES } from "./states";

/** What is offered to whom the server said no: to try again where that may help, to say it otherwise where it can't. */

/** More than a question may have (256 KiB), and more than a server reads at once (six times as much). */
const TOO_LARGE = 300_000;
const TOO_LARGE_TO_READ = 1_900_000;

/** As from a clipboard: typing it would take minutes. */
async function askMuch(page: Page, characters: number): Promise<void> {
  await page.locator("#composer").evaluate((field: HTMLTextAreaElement, count) => {
    field.value = "dài ".repeat(count / 4);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }, characters);
  await page.locator("#composer").press("Enter");
}

describe.each(TONGUES)("in $locale", ({ locale, t }) => {
  const stage = setStage({ locale });
  const offered = () => stage.page.getByRole("alert").getByRole("button").allInnerTexts();

  test("a question that is too long can be changed, and is not sent again as it is", async () => {
    const { page } = stage;
    await askMuch(page, TOO_LARGE);
    await page.getByRole("alert").getByText(t("error.too_large")).waitFor();
    expect(await offered()).toEqual([t("editAgain")]);
    await page.getByRole("alert").getByRole("button").click();
    expect((await page.locator("#composer").inputValue()).length).toBe(TOO_LARGE);
    await ask(page, "/demo tokens=5 rate=0");
    expect((await ended(page)).status).toBe("completed");
  });

  test("one that is too long for the link itself is refused as well, and holds up no other", async () => {
    const { page } = stage;
    await askMuch(page, TOO_LARGE_TO_READ);
    await page.getByRole("alert").getByText(t("error.too_large")).waitFor();
    expect(await offered()).toEqual([t("editAgain")]);
    await page.getByRole("button", { name: t("newChat") }).click();
    await ask(page, "/demo tokens=5 rate=0");
    expect((await ended(page)).status).toBe("completed");
  });

  test("a used-up quota comes back: the question can be sent again", async () => {
    await STATES.notSent?.({ ...stage, t });
    expect(await offered()).toEqual([t("retry"), t("editAgain")]);
  });

  test("a conversation that is too long for its model gets no answer by asking again: its question can be changed", async () => {
    const { page } = stage;
    await STATES.tooLong?.({ ...stage, t });
    expect((await offered()).map(words => words.trim())).toEqual([t("edit")]);
    await page.getByRole("alert").getByRole("button").click();
    await page.locator(".edit-form textarea:focus").fill("/demo tokens=5 rate=0");
    await page.keyboard.press("Enter");
    await until(
      "the second version",
      () => page.locator(".question .branches").allInnerTexts(),
      texts => texts.some(text => text.includes("2/2")),
    );
    expect((await ended(page)).status).toBe("completed");
  });
});
