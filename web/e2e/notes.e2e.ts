import { describe, expect, test } from "vitest";
import { NOTES } from "./answers";
import { ask } from "./browser";
import { openImported } from "./import";
import { setStage, TONGUES } from "./stage";
import { giveWire } from "./wire";

/** Callouts and footnotes of answers. */

const turn = { question: "?", answer: NOTES };

describe.each(TONGUES)("in $locale", ({ locale, t }) => {
  const stage = setStage({ locale });

  test("a callout says in words and by a colour of its own what it is", async () => {
    const { page } = stage;
    await openImported(page, "Notes", [turn]);
    const names = page.locator(".alert .alert-name");
    const kinds = ["note", "tip", "important", "warning", "caution"] as const;
    expect(await names.allInnerTexts()).toEqual(kinds.map(kind => t(`alert.${kind}`)));
    const colours = await names.evaluateAll(all => all.map(name => getComputedStyle(name).color));
    expect(new Set(colours).size).toBe(kinds.length);
    expect(await page.locator(".markdown").innerText()).not.toContain("[!");
    expect(await page.locator("blockquote").innerText()).toBe("A plain quote beside them.");
  });

  test("one that is written from the right stands there, with its name", async () => {
    const { page } = stage;
    await openImported(page, "Notes", [turn]);
    const caution = page.locator('.alert[data-kind="caution"]');
    expect(await caution.evaluate(alert => getComputedStyle(alert).direction)).toBe("rtl");
    const [box, name] = await Promise.all([caution.boundingBox(), caution.locator("bdi").boundingBox()]);
    if (!box || !name) throw new Error("nothing is drawn");
    expect(box.x + box.width - (name.x + name.width)).toBeLessThan(30);
  });

  test("a footnote is a way there and back in its own answer, by pointer and by keys", async () => {
    const { page } = stage;
    await openImported(page, "Notes", [turn, turn, turn]);
    const where = page.url();
    const focused = () =>
      page.evaluate(() => {
        const at = document.activeElement;
        const answers = [...document.querySelectorAll(".answer")];
        return [at?.getAttribute("data-mark"), answers.findIndex(answer => answer.contains(at))];
      });
    await page.locator('.answer:nth-of-type(4) [data-mark="text2"]').click();
    expect(await focused()).toEqual(["note2", 1]);
    await page.keyboard.press("Enter");
    expect(await focused()).toEqual(["text2", 1]);
    await page.keyboard.press("Enter");
    expect(await focused()).toEqual(["note2", 1]);
    const { y = -1, height = 0 } = (await page.locator(":focus").boundingBox()) ?? {};
    expect(y > 0 && y + height < 800).toBe(true);
    expect(page.url()).toBe(where);
    expect(await page.locator(".markdown [id]").count()).toBe(0);
  });
});

describe("while it is written", () => {
  const stage = setStage();

  test("nobody sees half of the signs of a callout or a footnote", async () => {
    const { page } = stage;
    const wire = await giveWire(page);
    await ask(page, "/demo delay=60000");
    const generation = await wire.generation();
    wire.mute();
    await page.evaluate(() => {
      const seen: string[] = [];
      Object.assign(window, { seen });
      new MutationObserver(() => {
        const text = document.querySelector(".answer .markdown")?.textContent ?? "";
        // The text has these letters in signs only, and one link.
        seen.push(...(text.match(/.{0,20}(?:[!^]|\[(?!tài))/g) ?? []));
      }).observe(document.body, { subtree: true, childList: true, characterData: true });
    });
    let offset = 0;
    for (const [i, text] of [...NOTES].entries()) {
      wire.say({ type: "delta", generation, position: `9-${i + 1}`, offset, text });
      offset += Buffer.byteLength(text);
      // So that each of them is drawn for itself.
      if (/[[\]!^\w]/.test(text)) await page.evaluate(() => new Promise(requestAnimationFrame));
    }
    await page.locator('[data-mark="note2"]').waitFor();
    expect(await page.evaluate(() => (window as unknown as { seen: string[] }).seen)).toEqual([]);
    expect(await page.locator(".alert").count()).toBe(5);
  });
});
