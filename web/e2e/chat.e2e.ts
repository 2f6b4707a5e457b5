import type { Page } from "playwright-core";
import { describe, expect, test } from "vitest";
import type { AppState } from "../src/store/core";
import { ask, begun, ended, lastAnswer, newPerson, until } from "./browser";
import { setStage } from "./stage";

/** An answer that is there at once. */
const SHORT = "/demo tokens=40 rate=0";

const stage = setStage();

const stored = (address: string, on: Page) =>
  on.evaluate(async path => (await fetch(path)).json(), address) as Promise<{
    items: { content: string; status: string }[];
  }>;

const conversationOf = (on: Page) => new URL(on.url()).hash.replace("#/c/", "");

describe("an answer", () => {
  test("streams, ends, and is what the server keeps", async () => {
    await ask(stage.page, "Hello");
    await begun(stage.page, 1);
    const answer = await ended(stage.page);
    expect(answer).toMatchObject({ status: "completed", repairs: 0 });
    const { items } = await stored(`/api/conversations/${conversationOf(stage.page)}/messages`, stage.page);
    expect(items.at(-1)?.content).toBe(answer.text);
  });

  test("is stopped by the button, and says so", async () => {
    await ask(stage.page, "/demo tokens=2000 rate=50");
    await begun(stage.page);
    await stage.page.getByRole("button", { name: "Stop" }).click();
    await stage.page.getByText("[Cancelled]").waitFor();
    expect((await ended(stage.page)).status).toBe("cancelled");
  });

  test("is stopped by Esc before its first word", async () => {
    await ask(stage.page, "/demo tokens=50 delay=20000");
    await stage.page.locator(".progress").first().waitFor();
    await stage.page.keyboard.press("Escape");
    await stage.page.getByText("[Cancelled]").waitFor({ timeout: 5_000 });
  });

  test("that fails offers to try again", async () => {
    await ask(stage.page, "fail");
    await stage.page.getByRole("alert").getByRole("button", { name: "Retry" }).waitFor();
  });

  test("Vietnamese is spoken to those whose browser speaks it", async () => {
    const nguoi = await newPerson(stage.browser, stage.node.address, { locale: "vi-VN" });
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
    await ask(stage.page, "/demo tokens=200 rate=50");
    const before = await begun(stage.page, 80);
    await stage.page.reload();
    const after = await begun(stage.page, 1);
    expect(after.text.startsWith(before.text)).toBe(true);
    const end = await ended(stage.page);
    expect(end.text.startsWith(after.text)).toBe(true);
    expect(end).toMatchObject({ status: "completed", repairs: 0 });
  });

  test("by cut connections, again and again", async () => {
    await ask(stage.page, "/demo tokens=300 rate=60");
    const samples: string[] = [];
    for (let i = 0; i < 4; i++) {
      samples.push((await begun(stage.page, 20 + i * 60)).text);
      stage.node.cut();
    }
    const end = await ended(stage.page);
    for (const sample of samples) expect(end.text.startsWith(sample)).toBe(true);
    expect(end).toMatchObject({ status: "completed", repairs: 0 });
  });

  test("by a network that is away for a while, which the pill shows", async () => {
    await ask(stage.page, "/demo tokens=200 rate=50");
    await begun(stage.page);
    stage.node.cut(true);
    await stage.page.locator('.pill[data-state="reconnecting"]').waitFor();
    await new Promise(resolve => setTimeout(resolve, 3_000));
    stage.node.mend();
    await stage.page.locator('.pill[data-state="online"]').waitFor();
    expect(await ended(stage.page)).toMatchObject({ status: "completed", repairs: 0 });
  });

  test("by a kill of the server in the middle", async () => {
    await ask(stage.page, "/demo tokens=200 rate=40");
    const before = await begun(stage.page, 80);
    await stage.node.crash();
    await stage.page.locator('.pill[data-state="reconnecting"]').waitFor();
    await stage.node.restart();
    const end = await ended(stage.page);
    expect(end.text.startsWith(before.text)).toBe(true);
    expect(end.status).toBe("completed");
  });

  test("when a question is asked while the link is down: it goes once the link is back, as one turn", async () => {
    stage.node.cut(true);
    await stage.page.locator('.pill[data-state="reconnecting"]').waitFor();
    await ask(stage.page, SHORT);
    await stage.page.locator('[data-pending="true"]').first().waitFor();
    await stage.page.goto("about:blank");
    stage.node.mend();
    await stage.page.goto("/");
    await until(
      "the question being sent",
      () => lastAnswer(stage.page),
      answer => answer.status !== "none",
    );
    await ended(stage.page);
    expect(await stage.page.locator(".question").count()).toBe(1);
    const list = await stored("/api/conversations", stage.page);
    expect(list.items).toHaveLength(1);
  });

  test("of a draft by a reload", async () => {
    await stage.page.locator("#composer").fill("chưa gửi");
    await stage.page.reload();
    expect(await stage.page.locator("#composer").inputValue()).toBe("chưa gửi");
  });
});

test("a tab that goes through many conversations keeps few of them, and finds each again", async () => {
  const { page } = stage;
  const first = `${SHORT} first`;
  for (const question of [first, ...Array.from({ length: 7 }, (_, i) => `${SHORT} ${i}`)]) {
    await page.getByRole("button", { name: "New chat" }).click();
    await ask(page, question);
    await page.locator(".bubble", { hasText: question }).waitFor();
    await ended(page);
  }
  const kept = await page.evaluate(() => {
    const { chat } = (window as unknown as { chatnode: { state(): AppState } }).chatnode.state();
    return [chat.threads, chat.messages].map(held => Object.keys(held).length);
  });
  expect(kept).toEqual([5, 10]);
  await page.locator(".row", { hasText: first }).click();
  await page.locator(".bubble", { hasText: first }).waitFor();
  expect((await ended(page)).status).toBe("completed");
});

describe("two tabs", () => {
  test("follow the same answer, and either stops it", async () => {
    await ask(stage.page, "/demo tokens=2000 rate=50");
    await begun(stage.page);
    const other = await stage.person.tab(`/#/c/${conversationOf(stage.page)}`);
    await begun(other);
    await other.getByRole("button", { name: "Stop" }).click();
    const [one, two] = await Promise.all([ended(stage.page), ended(other)]);
    expect(two).toEqual(one);
    expect(one.status).toBe("cancelled");
  });

  test("see what the other one asks", async () => {
    await ask(stage.page, SHORT);
    await ended(stage.page);
    const other = await stage.person.tab(`/#/c/${conversationOf(stage.page)}`);
    await other.locator(".question").first().waitFor();
    await ask(stage.page, SHORT);
    await other.locator(".question").nth(1).waitFor();
    await ended(stage.page);
    expect((await ended(other)).text).toBe((await lastAnswer(stage.page)).text);
  });
});
