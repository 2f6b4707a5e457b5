import { spawnSync } from "node:child_process";
import axe from "axe-core";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ask, copyBy, ended, newPerson, startBrowser } from "./browser";
import { binary, type Chatnode, startChatnode } from "./server";

const PASSWORD = "con mèo trèo cây cau";

let node: Chatnode;
let browser: Browser;

beforeAll(async () => {
  [node, browser] = await Promise.all([startChatnode({ env: { CHATNODE_AUTH: "local" } }), startBrowser()]);
  for (const name of ["mai", "binh"]) user("add", name, PASSWORD);
});

afterAll(async () => {
  await browser?.close();
  await node?.stop();
});

function user(command: string, name: string, input = ""): void {
  const done = spawnSync(binary(), ["user", command, name, "--data-dir", node.data], { input: `${input}\n` });
  if (done.status !== 0) throw new Error(`user ${command} ${name}: ${done.stderr}`);
}

async function signIn(page: Page, name: string, password = PASSWORD): Promise<void> {
  await page.locator("input[name=name]").fill(name);
  await page.locator("input[name=password]").fill(password);
  await page.locator("button[type=submit]").click();
}

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    const { axe } = window as unknown as { axe: typeof import("axe-core") };
    const found = await axe.run(document, { resultTypes: ["violations"] });
    return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(one => one.html).join(" | ")}`);
  });
}

test("in, wrong at first, and out again", { timeout: 60_000 }, async () => {
  const person = await newPerson(browser, node.address);
  const page = await person.context.newPage();
  await page.goto("/");
  await signIn(page, "mai", "not this one");
  await page.getByText("Wrong name or password.").waitFor();
  await signIn(page, "mai");
  await page.locator("#composer").waitFor();
  await ask(page, "/demo tokens=20 rate=0");
  await ended(page);
  await page.getByRole("button", { name: "Settings" }).click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.locator("input[name=password]").waitFor();
  expect(await page.locator(".sidebar").count()).toBe(0);
  // Whoever comes next sees nothing of it.
  await signIn(page, "binh");
  await page.locator("#composer").waitFor();
  await page.getByText("Your conversations will appear here.").waitFor();
  expect(person.faults).toEqual([]);
  await person.context.close();
});

test("who is cut off signs in and is back where it was", { timeout: 60_000 }, async () => {
  const person = await newPerson(browser, node.address);
  const page = await person.context.newPage();
  await page.goto("/");
  await signIn(page, "mai");
  await page.locator("#composer").waitFor();
  await ask(page, "/demo tokens=30 rate=0");
  await ended(page);
  const where = page.url();
  expect(where).toContain("#/c/");
  user("passwd", "mai", PASSWORD);
  await page.locator("input[name=password]").waitFor();
  await signIn(page, "mai");
  await page.locator(".answer").waitFor();
  expect(page.url()).toBe(where);
  expect(person.faults).toEqual([]);
  await person.context.close();
});

test("a key is shown once, works, and is taken back", { timeout: 60_000 }, async () => {
  const person = await newPerson(browser, node.address);
  const page = await person.context.newPage();
  await page.goto("/");
  await signIn(page, "mai");
  await page.getByRole("button", { name: "Settings" }).click();
  await page.locator("input[name=label]").fill("my script");
  await page.getByRole("button", { name: "Make a key" }).click();
  const key = await page.locator(".key-made code").textContent();
  const asked = () => fetch(`${node.address}/api/me`, { headers: { authorization: `Bearer ${key}` } });
  expect((await asked()).status).toBe(200);
  expect(await violations(page)).toEqual([]);
  await page.getByRole("button", { name: "Revoke “my script”" }).click();
  await page.getByText("my script").waitFor({ state: "detached" });
  expect(await page.locator(".key-made").count()).toBe(0);
  expect((await asked()).status).toBe(401);
  expect(person.faults).toEqual([]);
  await person.context.close();
});

test("a key is copied also where pages have no clipboard: over plain HTTP", { timeout: 60_000 }, async () => {
  const person = await newPerson(browser, node.address);
  const page = await person.context.newPage();
  await page.addInitScript(() => Object.defineProperty(navigator, "clipboard", { value: undefined }));
  await page.goto("/");
  await signIn(page, "mai");
  await page.getByRole("button", { name: "Settings" }).click();
  const label = page.locator("input[name=label]");
  await label.fill("pasted");
  await page.getByRole("button", { name: "Make a key" }).click();
  const key = await page.locator(".key-made code").textContent();
  await copyBy(page, "Copy the key", "Copied");
  await label.focus();
  await page.keyboard.press("ControlOrMeta+V");
  expect(await label.inputValue()).toBe(key?.slice(0, 100));
  expect(person.faults).toEqual([]);
  await person.context.close();
});

describe.each(["light", "dark"] as const)("axe finds nothing at the door, %s", colorScheme => {
  test.each(["en-US", "vi-VN"])("%s", { timeout: 60_000 }, async locale => {
    const person = await newPerson(browser, node.address, { colorScheme, locale, width: 390 });
    const page = await person.context.newPage();
    await page.goto("/");
    await page.locator("input[name=password]").waitFor();
    const title = locale === "vi-VN" ? "Đăng nhập vào chatnode" : "Sign in to chatnode";
    await page.getByRole("heading", { name: title }).waitFor();
    expect(await violations(page)).toEqual([]);
    await signIn(page, "nobody", "nothing");
    await page.locator(".signin-fault", { hasText: /./ }).waitFor();
    expect(await violations(page)).toEqual([]);
    await person.context.close();
  });
});
