import { describe, expect, test } from "vitest";
import { ask, begun, ended, until } from "./browser";
import { setStage, TONGUES } from "./stage";

/** What a screen reader is told: the sequence of the polite status region, and that nothing else speaks by itself. */

describe.each(TONGUES)("in $locale", ({ locale, t }) => {
  const stage = setStage({ locale });

  /** From here on notes what is said. */
  async function listen(): Promise<() => Promise<string[]>> {
    await stage.page.evaluate(() => {
      const said: string[] = [];
      const voice = document.querySelector('[data-testid="announcer"]') as HTMLElement;
      new MutationObserver(() => {
        if (voice.textContent) said.push(voice.textContent);
      }).observe(voice, { childList: true, characterData: true, subtree: true });
      Object.assign(window, { said });
    });
    return () => stage.page.evaluate(() => (window as unknown as { said: string[] }).said);
  }

  const heard = (log: () => Promise<string[]>, sentences: string[]) =>
    until("what should be said", log, said => said.length >= sentences.length).then(said =>
      expect(said).toEqual(sentences),
    );

  test("an answer begins, and is complete", async () => {
    const log = await listen();
    await ask(stage.page, "/demo tokens=60 rate=50");
    await begun(stage.page);
    await ended(stage.page);
    await heard(log, [t("saidStarted"), t("saidCompleted")]);
  });

  test("an answer is stopped; another fails, and fails again", async () => {
    const log = await listen();
    await ask(stage.page, "/demo tokens=2000 rate=50");
    await begun(stage.page);
    await stage.page.keyboard.press("Escape");
    await ended(stage.page);
    const failure = t("saidFailed", { reason: t("error.upstream_error") });
    const sentences = [t("saidStarted"), t("saidCancelled")];
    await heard(log, sentences);
    for (const again of ["one", "two"]) {
      await ask(stage.page, `/demo tokens=9 fail=after:0 ${again}`);
      sentences.push(failure);
      await heard(log, sentences);
    }
  });

  test("the link is lost, and comes back", async () => {
    const log = await listen();
    stage.node.cut(true);
    await heard(log, [t("saidReconnecting")]);
    stage.node.mend();
    await heard(log, [t("saidReconnecting"), t("saidOnline")]);
  });

  test("the tokens themselves are not read out, and the focus stays in the field", async () => {
    const { page } = stage;
    await ask(page, "/demo tokens=100 rate=50");
    await begun(page);
    const log = page.getByRole("log", { name: t("transcript") });
    expect(await log.getAttribute("aria-live")).toBe("off");
    expect(await page.locator(".answer").getAttribute("aria-busy")).toBe("true");
    expect(await page.locator("#composer").evaluate(field => field === document.activeElement)).toBe(true);
    await ended(page);
    expect(await page.locator(".answer").getAttribute("aria-busy")).toBe("false");
    expect(await log.getByRole("heading", { level: 2, name: t("assistant") }).count()).toBe(1);
  });
});
