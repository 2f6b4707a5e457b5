import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, ended, newPerson, startBrowser } from "./browser";
import { type Provider, startProvider } from "./provider";
import { type Chatnode, startChatnode } from "./server";
import { violations } from "./violations";

let provider: Provider;
let node: Chatnode;
let browser: Browser;

beforeAll(async () => {
  provider = await startProvider(["mai", "binh"]);
  const config = `[auth]\nmode = "oidc"\n[auth.oidc]\nissuer = "${provider.issuer}"\nclient_id = "chat"\nclient_secret = "a secret"\nname = "Example"\n`;
  [node, browser] = await Promise.all([startChatnode({ config }), startBrowser()]);
  provider.serve(node.address);
});

afterAll(async () => {
  await browser?.close();
  await node?.stop();
  provider?.stop();
});

test("in by the provider, back where one was, and nothing of it for the next", {
  timeout: 60_000,
}, async () => {
  const person = await newPerson(browser, node.address);
  const page = await person.context.newPage();
  await page.goto("/");
  const door = page.getByRole("link", { name: "Sign in with Example" });
  await door.waitFor();
  expect(await page.locator("input").count()).toBe(0);
  expect(await violations(page)).toEqual([]);
  // Whoever says no there reads why he is here again, once.
  await door.click();
  await page.getByRole("link", { name: "no" }).click();
  await page.getByText("The provider was told not to sign you in.").waitFor();
  expect(await violations(page)).toEqual([]);
  expect(new URL(page.url()).search).toBe("");
  await door.click();
  await page.getByRole("link", { name: "mai" }).click();
  await page.locator("#composer").waitFor();
  const me = await (await page.request.get("/api/me")).json();
  expect(me.name).toBe("mai@127.0.0.1");
  await ask(page, "/demo tokens=20 rate=0");
  await ended(page);
  const where = page.url();
  expect(where).toContain("#/c/");
  await page.locator("#composer").fill("a draft of mai's");
  // The session goes, as if it had expired.
  await person.context.clearCookies();
  await page.reload();
  await door.click();
  await page.getByRole("link", { name: "mai" }).click();
  await page.locator(".answer").waitFor();
  expect(page.url()).toBe(where);
  expect(await page.locator("#composer").inputValue()).toBe("a draft of mai's");
  await person.context.clearCookies();
  await page.goto("/");
  await door.click();
  await page.getByRole("link", { name: "binh" }).click();
  await page.locator("#composer").waitFor();
  expect(await page.locator("#composer").inputValue()).toBe("");
  expect(await page.evaluate(() => JSON.stringify({ ...localStorage }))).not.toContain("mai's");
  const unexpected = person.faults.filter(fault => !fault.startsWith(`foreign request: ${provider.issuer}`));
  expect(unexpected).toEqual([]);
  await person.context.close();
});

test("in Vietnamese, and with a provider that is away", { timeout: 60_000 }, async () => {
  const gone = await startProvider([]);
  gone.stop();
  const config = `[auth]\nmode = "local,oidc"\n[auth.oidc]\nissuer = "${gone.issuer}"\nclient_id = "chat"\n`;
  const other = await startChatnode({ config });
  const person = await newPerson(browser, other.address, { locale: "vi-VN", width: 390 });
  const page = await person.context.newPage();
  await page.goto("/");
  await page.locator("input[name=password]").waitFor();
  await page.getByRole("link", { name: "Đăng nhập bằng tài khoản của tổ chức bạn" }).click();
  await page.getByText("Hiện không liên lạc được với nhà cung cấp.").waitFor();
  expect(await violations(page)).toEqual([]);
  expect(person.faults).toEqual([]);
  await person.context.close();
  await other.stop();
});

test("where only tokens let in, the page says so and asks for no password", { timeout: 60_000 }, async () => {
  const config = `[auth]\nmode = "jwt"\n[auth.jwt]\nissuer = "https://issuer.example"\naudience = "chatnode"\nsecret = "0123456789abcdef0123456789abcdef"\n`;
  const other = await startChatnode({ config });
  const person = await newPerson(browser, other.address);
  const page = await person.context.newPage();
  await page.goto("/");
  await page.getByText("You were not let in. Ask whoever runs this server.").waitFor();
  expect(await page.locator("input, button, main a").count()).toBe(0);
  expect(await violations(page)).toEqual([]);
  await person.context.close();
  await other.stop();
});
