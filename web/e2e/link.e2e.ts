import { describe, expect, test } from "vitest";
import { ask, begun, ended, lastAnswer, until } from "./browser";
import { fallAsleep, giveSleep, wakeUp } from "./sleep";
import { setStage, TONGUES } from "./stage";
import { giveWire } from "./wire";

/** What the page says about its link, and how it comes back. */

describe.each(TONGUES)("in $locale", ({ locale, t }) => {
  const stage = setStage({ locale });
  const pill = (state: string, words: string | RegExp) =>
    stage.page.locator(`.pill[data-state="${state}"]`, { hasText: words }).waitFor();

  test("the pill has five states", async () => {
    const { page, node } = stage;
    await pill("online", t("linkOnline"));
    node.cut(true);
    // Later tries are further apart, and then it counts the seconds.
    const counting = t("linkReconnectingIn", { seconds: 0 }).replace("0", "\\d+");
    await pill("reconnecting", new RegExp(`${t("linkReconnecting")}|${counting}`));
    await page.getByRole("button", { name: t("linkNow") }).waitFor();
    await stage.person.context.setOffline(true);
    await pill("offline", t("linkOffline"));
    await stage.person.context.setOffline(false);
    node.mend();
    await pill("online", t("linkOnline"));

    const wire = await giveWire(page);
    await ask(page, "/demo tokens=500 rate=50");
    await begun(page);
    wire.say({ type: "status", generation: await wire.generation(), status: "recovering" });
    await pill("recovering", t("linkRecovering"));
    await pill("online", t("linkOnline"));

    await page.routeWebSocket(/\/ws\/chat$/, () => {
      // It opens, and no welcome ever comes.
    });
    await page.reload();
    await pill("connecting", t("linkConnecting"));
  });

  test("a network that is switched off is noticed though the socket says nothing", async () => {
    await pill("online", t("linkOnline"));
    stage.node.silence();
    await stage.person.context.setOffline(true);
    await pill("offline", t("linkOffline"));
    stage.node.mend();
    await stage.person.context.setOffline(false);
    await pill("online", t("linkOnline"));
  });
});

describe("a page that slept for five minutes without network", () => {
  const stage = setStage();

  test.each([
    ["whose sockets were closed", false],
    ["whose sockets fell silent", true],
  ])("%s has the whole answer when it wakes up", async (_how, silent) => {
    const { page, node } = stage;
    const cdp = await giveSleep(page);
    await ask(page, "/demo tokens=150 rate=60");
    const before = await begun(page, 40);
    await fallAsleep(page, cdp, node, silent);
    // The answer ends meanwhile.
    await new Promise(resolve => setTimeout(resolve, 6_500));
    const at = performance.now();
    await wakeUp(page, cdp, node);
    const answer = await until(
      "the whole answer",
      () => lastAnswer(page),
      ({ status }) => status === "completed",
      5_000,
    );
    process.stdout.write(`awake and right after ${(performance.now() - at).toFixed(0)} ms\n`);
    expect(answer.text.startsWith(before.text)).toBe(true);
    expect(answer.repairs).toBe(0);
    await page.locator('.pill[data-state="online"]').waitFor();
  });

  test("follows an answer that is still being written", async () => {
    const { page, node } = stage;
    const cdp = await giveSleep(page);
    await ask(page, "/demo tokens=500 rate=50");
    const before = await begun(page, 40);
    await fallAsleep(page, cdp, node, true);
    await new Promise(resolve => setTimeout(resolve, 4_000));
    await wakeUp(page, cdp, node);
    // What was written meanwhile comes at once, not at the pace of its writing.
    await until(
      "the text of four seconds",
      () => lastAnswer(page),
      ({ text }) => text.length > before.text.length + 600,
      3_000,
    );
    const end = await ended(page);
    expect(end).toMatchObject({ status: "completed", repairs: 0 });
    expect(end.text.startsWith(before.text)).toBe(true);
  });
});
