import { describe, expect, test } from "vitest";
import { ask, ended, until } from "./browser";
import { setStage, TONGUES } from "./stage";

/** What people choose, and find again: the model, the language, the colours, the keys. */

const CONFIG = `
[[models]]
id = "small"
name = "Small"
provider = "demo"

[[models]]
id = "large"
name = "Large"
provider = "demo"
`;

const SHORT = "/demo tokens=40 rate=0";

describe.each(TONGUES)("in $locale", ({ locale, t }) => {
  const stage = setStage({ locale, settings: { config: CONFIG } });
  const button = (name: string) => stage.page.getByRole("button", { name, exact: true });
  const picker = () => stage.page.getByRole("combobox", { name: t("model") });
  const chosen = () => picker().inputValue();

  test("each answer says which model wrote it, and the next conversation begins with the same", async () => {
    const { page } = stage;
    const said = () => page.locator(".answer .measure-model").allTextContents();
    const named = (name: string) => `${name} (${t("demoModel")})`;
    expect(await chosen()).toBe("small");
    await picker().selectOption("large");
    await ask(page, SHORT);
    await ended(page);
    expect(await said()).toEqual([named("Large")]);
    await page.reload();
    await until("the same model", chosen, id => id === "large");
    await button(t("newChat")).click();
    await until("the same model", chosen, id => id === "large");
    await page.goBack();
    await picker().selectOption("small");
    await button(t("regenerate")).click();
    await page.locator(".answer .branches", { hasText: "2/2" }).waitFor();
    await ended(page);
    expect(await said()).toEqual([named("Small")]);
  });

  test("language and colours are kept, and are there before the first paint", async () => {
    const { page } = stage;
    const root = page.locator("html");
    await button(t("settings")).click();
    await page.getByText(t("themeDark"), { exact: true }).click();
    expect(await root.getAttribute("data-theme")).toBe("dark");
    const other = locale === "vi-VN" ? "English" : "Tiếng Việt";
    await page.getByText(other, { exact: true }).click();
    const { t: spoken } = TONGUES.find(one => one.locale !== locale) as (typeof TONGUES)[number];
    await page.getByRole("heading", { name: spoken("settings") }).waitFor();
    await page.keyboard.press("Escape");
    await page.reload({ waitUntil: "commit" });
    await until(
      "the colours",
      () => root.getAttribute("data-theme"),
      theme => theme === "dark",
    );
    await page.getByRole("heading", { name: spoken("emptyTitle") }).waitFor();
    expect(await root.getAttribute("lang")).toBe(locale === "vi-VN" ? "en" : "vi");
    // The bars of a phone go with it.
    expect(await page.locator('meta[name="theme-color"][media="all"]').getAttribute("content")).toBe(
      "#17191b",
    );
  });

  test("“?” tells the keys, and they do what it tells", async () => {
    const { page } = stage;
    await ask(page, SHORT);
    await ended(page);
    await page.locator(".transcript").focus();
    await page.keyboard.press("?");
    await page.getByRole("heading", { name: t("shortcuts") }).waitFor();
    for (const words of ["keySend", "keyStop", "keyEdit", "keySearch", "keyHelp"] as const)
      await page.getByText(t(words), { exact: true }).waitFor();
    await page.keyboard.press("Escape");
    const focused = (id: string) => page.locator(`#${id}:focus`).waitFor();
    await page.keyboard.press("/");
    await focused("composer");
    // In a field it is a letter.
    await page.keyboard.type("?/");
    expect(await page.locator("#composer").inputValue()).toBe("?/");
    await page.keyboard.press("ControlOrMeta+k");
    await focused("search");
    await page.keyboard.press("ControlOrMeta+b");
    await page.locator(".sidebar").waitFor({ state: "hidden" });
    await page.keyboard.press("ControlOrMeta+k");
    await focused("search");
    await page.keyboard.press("ControlOrMeta+Shift+o");
    await page.getByRole("heading", { name: t("emptyTitle") }).waitFor();
    await focused("composer");
  });

  test("a suggestion is asked with one click", async () => {
    const { page } = stage;
    await button(t("suggestion2")).click();
    await page.locator(".bubble", { hasText: t("suggestion2") }).waitFor();
    expect((await ended(page)).status).toBe("completed");
    // The title comes by itself, in the list and above the conversation.
    await page.locator(".row", { hasText: t("suggestion2") }).waitFor();
    await page.getByRole("heading", { level: 1, name: t("suggestion2") }).waitFor();
  });
});

test("it can be installed", async () => {
  const { page } = stageOfOne;
  const manifest = await page.evaluate(async () => {
    const address = document.querySelector<HTMLLinkElement>("link[rel=manifest]")?.href ?? "";
    const found = await (await fetch(address)).json();
    const icons = found.icons.map(async ({ src }: { src: string }) => (await fetch(src)).status);
    return { display: found.display, icons: await Promise.all(icons) };
  });
  expect(manifest).toEqual({ display: "standalone", icons: [200, 200, 200] });
});

const stageOfOne = setStage();
