import { describe, expect, test } from "vitest";
import { ask, begun, copyBy, ended, lastAnswer, until } from "./browser";
import { openImported } from "./import";
import { setStage, TONGUES } from "./stage";

/** What people do with questions and answers. */

const SHORT = "/demo tokens=40 rate=0";

describe.each(TONGUES)("in $locale", ({ locale, t }) => {
  const stage = setStage({ locale });
  const button = (name: string) => stage.page.getByRole("button", { name, exact: true });
  const composer = () => stage.page.locator("#composer");

  test("an edited question is a branch of its own: ‹ 2/3 ›", async () => {
    const { page } = stage;
    await ask(page, `${SHORT} one`);
    await ended(page);
    for (const [i, text] of ["two", "three"].entries()) {
      await page.locator(".question").hover();
      await button(t("edit")).click();
      await page.locator(".edit-form textarea").fill(`${SHORT} ${text}`);
      await page.keyboard.press("Enter");
      await page.locator(".question .branches", { hasText: `${i + 2}/${i + 2}` }).waitFor();
      await ended(page);
    }
    await page
      .locator(".question")
      .getByRole("button", { name: t("previousBranch") })
      .click();
    await page.locator(".question .branches", { hasText: "2/3" }).waitFor();
    await page.locator(".bubble", { hasText: "two" }).waitFor();
    await page.getByRole("group", { name: t("branch", { n: 2, count: 3 }) }).waitFor();
    expect(await page.locator(".question").count()).toBe(1);
    expect((await lastAnswer(page)).status).toBe("completed");
  });

  test("an edit that is given up changes nothing", async () => {
    const { page } = stage;
    await ask(page, SHORT);
    await ended(page);
    await page.locator(".question").hover();
    await button(t("edit")).click();
    await page.locator(".edit-form textarea").fill("something else");
    await button(t("cancel")).click();
    expect(await page.locator(".bubble").textContent()).toBe(SHORT);
  });

  test("a second answer stands beside the first", async () => {
    const { page } = stage;
    await ask(page, SHORT);
    const first = await ended(page);
    await button(t("regenerate")).click();
    await page.locator(".answer .branches", { hasText: "2/2" }).waitFor();
    const second = await ended(page);
    expect(second.text).not.toBe(first.text);
    await page
      .locator(".answer")
      .getByRole("button", { name: t("previousBranch") })
      .click();
    await until(
      "the first answer",
      () => lastAnswer(page),
      answer => answer.text === first.text,
    );
    await page
      .locator(".answer")
      .getByRole("button", { name: t("nextBranch") })
      .click();
    await until(
      "the second one",
      () => lastAnswer(page),
      answer => answer.text === second.text,
    );
  });

  test("an interrupted answer is continued, or tried again", async () => {
    const { page } = stage;
    await openImported(page, "Cut", [
      { question: SHORT, answer: "It was a dark and", status: "interrupted" },
    ]);
    await page.getByText(t("interrupted")).waitFor();
    await button(t("continueAnswer")).click();
    // The question and a place for its answer are shown before they are stored; until then the interrupted one is the last.
    await until(
      "the rest",
      () => lastAnswer(page),
      answer => answer.status === "completed",
    );
    expect(await page.locator(".answer").count()).toBe(2);
    await page
      .locator(".answer")
      .first()
      .getByRole("button", { name: t("retry") })
      .click();
    await page.locator(".answer .branches", { hasText: "2/2" }).waitFor();
    expect((await ended(page)).status).toBe("completed");
    expect(await page.locator(".answer").count()).toBe(1);
  });

  test("an answer that failed says why, and is tried again", async () => {
    const { page } = stage;
    await ask(page, "/demo tokens=40 fail=after:5");
    await page.getByRole("alert").getByText(t("failedTitle")).waitFor();
    await page.getByRole("alert").getByText(t("error.upstream_error")).waitFor();
    await button(t("retry")).click();
    await page.locator(".answer .branches", { hasText: "2/2" }).waitFor();
  });

  test("code is copied as it was written", async () => {
    const { page } = stage;
    await stage.person.context.grantPermissions(["clipboard-read", "clipboard-write"]);
    const code = 'fn main() {\n    println!("đường & <b>");\n}';
    await openImported(page, "Code", [{ question: "code", answer: `Here:\n\n\`\`\`rust\n${code}\n\`\`\`` }]);
    await copyBy(page, t("copyCode"), t("copied"));
    expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(code);
  });

  test("earlier messages are put above, and what is read stays where it is", async () => {
    const { page } = stage;
    const turns = Array.from({ length: 60 }, (_, i) => ({
      question: `Question ${i}`,
      answer: `Answer ${i}.`,
    }));
    await openImported(page, "Long", turns);
    await page.getByText("Answer 59.", { exact: true }).waitFor();
    expect(await page.locator(".message").count()).toBe(40);
    await page.locator(".transcript").hover();
    await page.mouse.wheel(0, -20_000);
    const first = page.getByText("Question 40", { exact: true });
    await until(
      "the top",
      () => first.isVisible(),
      visible => visible,
    );
    await page.waitForTimeout(400);
    const top = async () => (await first.boundingBox())?.y ?? 0;
    const before = await top();
    await button(t("loadOlder")).click();
    await until(
      "80 messages",
      () => page.locator(".message").count(),
      count => count === 80,
    );
    expect(Math.abs((await top()) - before)).toBeLessThan(2);
    await button(t("loadOlder")).click();
    await until(
      "all of them",
      () => page.locator(".message").count(),
      count => count === 120,
    );
    expect(await button(t("loadOlder")).count()).toBe(0);
  });

  test("a double Enter makes one turn", async () => {
    const { page } = stage;
    await composer().fill(SHORT);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Enter");
    await ended(page);
    expect(await page.locator(".question").count()).toBe(1);
  });

  test("Enter while an input method composes sends nothing half-finished", async () => {
    const { page } = stage;
    const cdp = await stage.person.context.newCDPSession(page);
    const compose = (text: string) =>
      cdp.send("Input.imeSetComposition", { text, selectionStart: text.length, selectionEnd: text.length });
    const enter = (windowsVirtualKeyCode: number) =>
      cdp.send("Input.dispatchKeyEvent", {
        type: "rawKeyDown",
        key: "Enter",
        code: "Enter",
        windowsVirtualKeyCode,
      });
    await composer().focus();
    for (const half of ["d", "đ", "đu", "đươ"]) await compose(half);
    // Some input methods give the key its own code and say that they compose, others give it 229.
    await enter(13);
    await enter(229);
    expect(await page.locator(".question").count()).toBe(0);
    await cdp.send("Input.insertText", { text: "đường" });
    expect(await composer().inputValue()).toBe("đường");
    await page.keyboard.press("Enter");
    await page.locator(".bubble", { hasText: /^đường$/ }).waitFor();
    await begun(page, 1);
    expect(await page.locator(".question").count()).toBe(1);
  });

  test("drafts outlive a reload, each in its conversation, until they are sent", async () => {
    const { page } = stage;
    await composer().fill("chưa gửi");
    await page.reload();
    expect(await composer().inputValue()).toBe("chưa gửi");
    await openImported(page, "Other", [{ question: "a", answer: "b" }]);
    await until(
      "another draft",
      () => composer().inputValue(),
      text => text === "",
    );
    await composer().fill("ở đây nữa");
    await page.reload();
    expect(await composer().inputValue()).toBe("ở đây nữa");
    await page.keyboard.press("Enter");
    await page.locator(".bubble", { hasText: "ở đây nữa" }).waitFor();
    await begun(page, 1);
    await page.reload();
    expect(await composer().inputValue()).toBe("");
    await button(t("newChat")).click();
    await until(
      "the first draft",
      () => composer().inputValue(),
      text => text === "chưa gửi",
    );
  });
});

describe("a selection", () => {
  const stage = setStage();

  test.each([
    ["prose", "/demo tokens=4000 rate=100", "p"],
    ["code", "How do I start? /demo", "code"],
  ])("in %s that is being written stays, however it goes on", async (_kind, question, block) => {
    const { page } = stage;
    await ask(page, question);
    const selected = await page.evaluate(
      selector =>
        new Promise<string>(resolve => {
          const look = () => {
            const last = [...document.querySelectorAll(`.answer .stretch ${selector}`)].at(-1);
            const text = last && document.createTreeWalker(last, NodeFilter.SHOW_TEXT).nextNode();
            if (!text || (last.textContent ?? "").length < 20) return requestAnimationFrame(look);
            getSelection()?.setBaseAndExtent(text, 0, text, Math.min(9, text.textContent?.length ?? 0));
            return resolve(String(getSelection()));
          };
          look();
        }),
      block,
    );
    expect(selected).not.toBe("");
    const before = await lastAnswer(page);
    await until(
      "more of it",
      () => lastAnswer(page),
      ({ text }) => text.length > before.text.length + 400,
    );
    expect(await page.evaluate(() => String(getSelection()))).toBe(selected);
  });
});
