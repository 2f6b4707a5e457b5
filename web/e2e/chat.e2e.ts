import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ask, begun, ended, lastAnswer, newPerson, type Person, startBrowser, until } from "./browser";
import { type Chatnode, startChatnode } from "./server";

/** An answer that is there at once. */
const SHORT = "/demo tokens=40 rate=0";

let node: Chatnode;
let browser: Browser;
let person: Person;
let page: Page;

beforeAll(async () => {
  [node, browser] = await Promise.all([startChatnode(), startBrowser()]);
});

afterAll(async () => {
  await browser?.close();
  await node?.stop();
});

beforeEach(async () => {
  person = await newPerson(browser, node.address);
  page = await person.tab();
});

afterEach(async () => {
  const { faults } = person;
  await person.context.close();
  expect(faults).toEqual([]);
});

const stored = (address: string, on: Page) =>
  on.evaluate(async path => (await fetch(path)).json(), address) as Promise<{
    items: { content: string; status: string }[];
  }>;

const conversationOf = (on: Page) => new URL(on.url()).hash.replace("#/c/", "");

describe("an answer", () => {
  test("streams, ends, and is what the server keeps", async () => {
    await ask(page, "Hello");
    await begun(page, 1);
    const answer = await ended(page);
    expect(answer).toMatchObject({ status: "completed", repairs: 0 });
    const { items } = await stored(`/api/conversations/${conversationOf(page)}/messages`, page);
    expect(items.at(-1)?.content).toBe(answer.text);
  });

  test("is stopped by the button, and says so", async () => {
    await ask(page, "/demo tokens=2000 rate=50");
    await begun(page);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText("[Cancelled]").waitFor();
    expect((await ended(page)).status).toBe("cancelled");
  });

  test("is stopped by Esc before its first word", async () => {
    await ask(page, "/demo tokens=50 delay=20000");
    await page.locator(".progress").first().waitFor();
    await page.keyboard.press("Escape");
    await page.getByText("[Cancelled]").waitFor({ timeout: 5_000 });
  });

  test("that fails offers to try again", async () => {
    await ask(page, "fail");
    await page.getByRole("alert").getByRole("button", { name: "Retry" }).waitFor();
  });

  test("Vietnamese is spoken to those whose browser speaks it", async () => {
    const nguoi = await newPerson(browser, node.address, { locale: "vi-VN" });
    const trang = await nguoi.tab();
    await ask(trang, "/demo tokens=2000 rate=50");
    await begun(trang);
    await trang.getByRole("button", { name: "Dừng" }).click();
    await trang.getByText("[Đã hủy]").waitFor();
    expect(await trang.locator("html").getAttribute("lang")).toBe("vi");
    expect(nguoi.faults).toEqual([]);
    await nguoi.context.close();
  });
});

describe("nothing is lost", () => {
  test("by a reload in the middle: the text so far is there at once, and goes on", async () => {
    await ask(page, "/demo tokens=200 rate=50");
    const before = await begun(page, 80);
    await page.reload();
    const after = await begun(page, 1);
    expect(after.text.startsWith(before.text)).toBe(true);
    const end = await ended(page);
    expect(end.text.startsWith(after.text)).toBe(true);
    expect(end).toMatchObject({ status: "completed", repairs: 0 });
  });

  test("by cut connections, again and again", async () => {
    await ask(page, "/demo tokens=300 rate=60");
    const samples: string[] = [];
    for (let i = 0; i < 4; i++) {
      samples.push((await begun(page, 20 + i * 60)).text);
      node.cut();
    }
    const end = await ended(page);
    for (const sample of samples) expect(end.text.startsWith(sample)).toBe(true);
    expect(end).toMatchObject({ status: "completed", repairs: 0 });
  });

  test("by a network that is away for a while, which the pill shows", async () => {
    await ask(page, "/demo tokens=200 rate=50");
    await begun(page);
    node.cut(true);
    await page.locator('.pill[data-state="reconnecting"]').waitFor();
    await new Promise(resolve => setTimeout(resolve, 3_000));
    node.mend();
    await page.locator('.pill[data-state="online"]').waitFor();
    expect(await ended(page)).toMatchObject({ status: "completed", repairs: 0 });
  });

  test("by a kill of the server in the middle", async () => {
    await ask(page, "/demo tokens=200 rate=40");
    const before = await begun(page, 80);
    await node.crash();
    await page.locator('.pill[data-state="reconnecting"]').waitFor();
    await node.restart();
    const end = await ended(page);
    expect(end.text.startsWith(before.text)).toBe(true);
    expect(end.status).toBe("completed");
  });

  test("when a question is asked while the link is down: it goes once the link is back, as one turn", async () => {
    node.cut(true);
    await page.locator('.pill[data-state="reconnecting"]').waitFor();
    await ask(page, SHORT);
    await page.locator('[data-pending="true"]').first().waitFor();
    await page.goto("about:blank");
    node.mend();
    await page.goto("/");
    await until(
      "the question being sent",
      () => lastAnswer(page),
      answer => answer.status !== "none",
    );
    await ended(page);
    expect(await page.locator(".question").count()).toBe(1);
    const list = await stored("/api/conversations", page);
    expect(list.items).toHaveLength(1);
  });

  test("of a draft by a reload", async () => {
    await page.locator("#composer").fill("chưa gửi");
    await page.reload();
    expect(await page.locator("#composer").inputValue()).toBe("chưa gửi");
  });
});

describe("two tabs", () => {
  test("follow the same answer, and either stops it", async () => {
    await ask(page, "/demo tokens=2000 rate=50");
    await begun(page);
    const other = await person.tab(`/#/c/${conversationOf(page)}`);
    await begun(other);
    await other.getByRole("button", { name: "Stop" }).click();
    const [one, two] = await Promise.all([ended(page), ended(other)]);
    expect(two).toEqual(one);
    expect(one.status).toBe("cancelled");
  });

  test("see what the other one asks", async () => {
    await ask(page, SHORT);
    await ended(page);
    const other = await person.tab(`/#/c/${conversationOf(page)}`);
    await other.locator(".question").first().waitFor();
    await ask(page, SHORT);
    await other.locator(".question").nth(1).waitFor();
    await ended(page);
    expect((await ended(other)).text).toBe((await lastAnswer(page)).text);
  });
});

describe("keys", () => {
  test("a double Enter makes one turn", async () => {
    await page.locator("#composer").fill(SHORT);
    await page.keyboard.press("Enter");
    await page.keyboard.press("Enter");
    await ended(page);
    expect(await page.locator(".question").count()).toBe(1);
  });

  test("Enter while an input method composes sends nothing", async () => {
    const cdp = await person.context.newCDPSession(page);
    await page.locator("#composer").focus();
    await cdp.send("Input.imeSetComposition", { text: "đươ", selectionStart: 3, selectionEnd: 3 });
    await cdp.send("Input.dispatchKeyEvent", {
      type: "rawKeyDown",
      key: "Enter",
      code: "Enter",
      windowsVirtualKeyCode: 229,
    });
    expect(await page.locator(".question").count()).toBe(0);
    await cdp.send("Input.insertText", { text: "đường" });
    expect(await page.locator("#composer").inputValue()).toBe("đường");
    await page.keyboard.press("Enter");
    await page.locator(".bubble", { hasText: "đường" }).waitFor();
  });
});

describe("branches", () => {
  test("an edited question and a second answer can be switched between", async () => {
    await ask(page, SHORT);
    const first = await ended(page);
    await page.getByRole("button", { name: "Answer again" }).click();
    await page.locator(".answer .branches", { hasText: "2/2" }).waitFor();
    await ended(page);
    await page.locator(".answer").getByRole("button", { name: "Previous version" }).click();
    await until(
      "the first answer",
      () => lastAnswer(page),
      answer => answer.text === first.text,
    );
    await page.locator(".question").hover();
    await page.getByRole("button", { name: "Edit the question" }).click();
    await page.locator(".edit-form textarea").fill(`${SHORT} once more`);
    await page.keyboard.press("Enter");
    await page.locator(".question .branches", { hasText: "2/2" }).waitFor();
    await ended(page);
    expect(await page.locator(".question").count()).toBe(1);
  });
});
