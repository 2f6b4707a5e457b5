import { describe, expect, test } from "vitest";
import { ask, begun, copyBy, ended, until } from "./browser";
import { openImported } from "./import";
import { setStage, TONGUES } from "./stage";

/** What people see of an answer, and of the way it comes about. */

describe.each(TONGUES)("in $locale", ({ locale, t }) => {
  const stage = setStage({ locale });
  const button = (name: string) => stage.page.getByRole("button", { name, exact: true });

  test("an answer says how much it was, and how fast", async () => {
    const { page } = stage;
    await ask(page, "/demo tokens=60 rate=60 delay=300");
    await ended(page);
    const measures = page.locator(".answer .measures");
    await measures.getByText(t("tokensEstimated", { count: 60 })).waitFor();
    const number = (words: string) => new RegExp(words.replace("0", "[\\d.,]+"));
    await measures.getByText(number(t("tokensPerSecond", { rate: 0 }))).waitFor();
    await measures.getByText(number(t("firstToken", { time: "0" }))).waitFor();
  });

  test("a conversation that is being written to has a dot in the list, wherever one is", async () => {
    const { page } = stage;
    await ask(page, "/demo tokens=2000 rate=50");
    await begun(page);
    const dot = page.getByRole("img", { name: t("generatingDot") });
    await dot.waitFor();
    await button(t("newChat")).click();
    await dot.waitFor();
    await page.goBack();
    await page.keyboard.press("Escape");
    await dot.waitFor({ state: "detached" });
  });

  test("reasoning is folded, with the time it took, also after a reload", async () => {
    const { page } = stage;
    await ask(page, "/demo tokens=40 rate=40 reason=60");
    const head = page.locator(".reasoning-toggle");
    await page.locator('.reasoning[data-thinking="true"]').waitFor();
    expect(await head.textContent()).toContain(t("thinking", { time: "" }).trim());
    expect(await page.locator(".reasoning-text").count()).toBe(0);
    await head.click();
    await page.locator(".reasoning-text p").waitFor();
    expect(await head.getAttribute("aria-expanded")).toBe("true");
    await ended(page);
    const took = await head.textContent();
    expect(took).toContain(t("thoughtFor", { time: "" }).trim());
    await page.reload();
    await until(
      "the same time",
      () => head.textContent(),
      words => words === took,
    );
    expect(await page.locator(".reasoning-text").count()).toBe(0);
  });

  test("formulas are set, listings coloured, and a picture from elsewhere waits for a click", async () => {
    const { page } = stage;
    const asked: string[] = [];
    await page.context().route("https://example.org/**", route => {
      asked.push(route.request().url());
      return route.abort();
    });
    const answer =
      "$e^{i\\pi}=-1$\n\n```python\ndef f(): pass\n```\n\n![Một bức ảnh](https://example.org/a.png)";
    await openImported(page, "All of it", [{ question: "?", answer }]);
    await page.locator(".katex").first().waitFor({ state: "attached" });
    await page.locator(".hl-keyword", { hasText: "def" }).waitFor();
    const picture = page.locator(".picture", { hasText: t("loadImage", { host: "example.org" }) });
    await picture.getByText("Một bức ảnh").waitFor();
    expect(asked).toEqual([]);
  });

  test("the newest text stays in view until one scrolls up, and again after a click", async () => {
    const { page } = stage;
    await ask(page, "/demo tokens=4000 rate=200");
    await begun(page, 3_000);
    const fromEnd = () =>
      page
        .locator(".transcript")
        .evaluate(box => Math.round(box.scrollHeight - box.scrollTop - box.clientHeight));
    await until("the end in view", fromEnd, distance => distance < 32);
    await page.locator(".transcript").hover();
    await page.mouse.wheel(0, -400);
    await page.locator(".to-bottom").waitFor();
    const top = () => page.locator(".transcript").evaluate(box => box.scrollTop);
    await page.waitForTimeout(300);
    const before = await top();
    await begun(page, 6_000);
    expect(await top()).toBe(before);
    await button(t("newBelow")).click();
    await until("the end in view", fromEnd, distance => distance < 32);
    await page.locator(".to-bottom").waitFor({ state: "detached" });
    await page.keyboard.press("Escape");
    await ended(page);
  });

  test("an answer is copied as it was written", async () => {
    const { page } = stage;
    await stage.person.context.grantPermissions(["clipboard-read", "clipboard-write"]);
    const answer = "**Đường** về\n\n- một\n- hai";
    await openImported(page, "Copy", [{ question: "?", answer }]);
    await copyBy(page, t("copyAnswer"), t("copied"));
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(answer);
  });
});
