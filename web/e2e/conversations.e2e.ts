import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ask, ended, until } from "./browser";
import { importConversation, openImported } from "./import";
import { setStage, TONGUES } from "./stage";

/** What people do with whole conversations, in the list and in the dialogs. */

const ONE = [{ question: "câu hỏi", answer: "câu trả lời" }];

describe.each(TONGUES)("in $locale", ({ locale, t }) => {
  const stage = setStage({ locale });
  const button = (name: string) => stage.page.getByRole("button", { name, exact: true });
  const row = (title: string) => stage.page.locator(".row", { hasText: title });
  const titles = () => stage.page.locator(".row-title").allTextContents();

  async function choose(title: string, action: string): Promise<void> {
    await row(title).hover();
    await button(t("conversationMenu", { title })).click();
    await stage.page.getByRole("menuitem", { name: action, exact: true }).click();
  }

  test("search finds “đường” by “duong”, in titles and in what was said", async () => {
    const { page } = stage;
    await importConversation(page, "Đường về nhà", ONE);
    await importConversation(page, "Khác", [{ question: "x", answer: "con ĐƯỜNG xưa" }]);
    await importConversation(page, "Nothing of it", ONE);
    await page.getByRole("searchbox", { name: t("search") }).fill("duong");
    await until("two of three", titles, found => found.length === 2);
    expect((await titles()).sort()).toEqual(["Khác", "Đường về nhà"].sort());
    await page.getByRole("searchbox").fill("không có gì như thế");
    await page.getByText(t("searchEmpty", { q: "không có gì như thế" })).waitFor();
    await button(t("clearSearch")).click();
    await until("all three", titles, found => found.length === 3);
  });

  test("a conversation is renamed, also in another tab, and Escape leaves the name", async () => {
    const { page } = stage;
    await openImported(page, "Cũ", ONE);
    const other = await stage.person.tab("/");
    await page.bringToFront();
    await row("Cũ").waitFor();
    await choose("Cũ", t("rename"));
    await page.getByRole("textbox", { name: t("titleField") }).fill("Tên mới");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "Tên mới" }).waitFor();
    await other.locator(".row", { hasText: "Tên mới" }).waitFor();
    await choose("Tên mới", t("rename"));
    await page.getByRole("textbox", { name: t("titleField") }).fill("không");
    await page.keyboard.press("Escape");
    await row("Tên mới").waitFor();
    expect(await page.title()).toContain("Tên mới");
  });

  test("a pinned one stands above the rest", async () => {
    const { page } = stage;
    for (const title of ["Một", "Hai"]) await importConversation(page, title, ONE);
    await until("both", titles, found => found.length === 2);
    await choose("Một", t("pin"));
    await page
      .getByRole("region", { name: t("pinned") })
      .getByText("Một")
      .waitFor();
    expect(await titles()).toEqual(["Một", "Hai"]);
    await page.reload();
    await page
      .getByRole("region", { name: t("pinned") })
      .getByText("Một")
      .waitFor();
    await choose("Một", t("unpin"));
    await page.getByRole("region", { name: t("pinned") }).waitFor({ state: "detached" });
  });

  test("a deleted one comes back when that is undone, and is gone when it is not", async () => {
    const { page } = stage;
    await openImported(page, "Bỏ", ONE);
    await row("Bỏ").waitFor();
    await choose("Bỏ", t("delete"));
    await page.getByText(t("deleted", { title: "Bỏ" })).waitFor();
    expect(await row("Bỏ").count()).toBe(0);
    await button(t("undo")).click();
    await row("Bỏ").waitFor();
    const kept = () =>
      page.evaluate(async () => (await (await fetch("/api/conversations")).json()).items.length as number);
    expect(await kept()).toBe(1);
    await choose("Bỏ", t("delete"));
    await until("the end of the time to undo", kept, count => count === 0, 15_000);
    expect(await row("Bỏ").count()).toBe(0);
  });

  test("it is exported as Markdown and as JSON, and the latter is imported", async () => {
    const { page } = stage;
    await importConversation(page, "Mang đi", [{ question: "đường?", answer: "**đây**" }]);
    await row("Mang đi").waitFor();
    const exported = async (action: string) => {
      const [download] = await Promise.all([page.waitForEvent("download"), choose("Mang đi", action)]);
      return { name: download.suggestedFilename(), file: await download.path() };
    };
    const markdown = await exported(t("exportMarkdown"));
    expect(markdown.name).toMatch(/\.md$/);
    expect(readFileSync(markdown.file, "utf8")).toContain("**đây**");
    const json = await exported(t("exportJson"));
    expect(json.name).toMatch(/\.json$/);
    await button(t("settings")).click();
    await page.getByLabel(t("importJson")).setInputFiles(json.file);
    await page.getByText(t("imported", { count: 2 })).waitFor();
    await page.locator(".answer strong", { hasText: "đây" }).waitFor();
    await until("a second one", titles, found => found.length === 2);
    await button(t("settings")).click();
    const wrong = { name: "x.json", mimeType: "application/json", buffer: Buffer.from("{}") };
    await page.getByLabel(t("importJson")).setInputFiles(wrong);
    await page.locator('.notice[data-kind="error"]').waitFor();
    expect(await titles()).toHaveLength(2);
  });

  test("options are kept for their conversation and reach the model", async () => {
    const { page } = stage;
    await button(t("options")).click();
    await page.getByLabel(t("systemPrompt")).fill("Trả lời ngắn.");
    await page.getByLabel(t("temperature"), { exact: false }).fill("0.3");
    await page.getByLabel(t("maxTokens"), { exact: false }).fill("5");
    await button(t("save")).click();
    await ask(page, "/demo tokens=60 rate=0");
    await ended(page);
    await page.getByText(t("truncated")).waitFor();
    await page.reload();
    await button(t("options")).click();
    expect(await page.getByLabel(t("systemPrompt")).inputValue()).toBe("Trả lời ngắn.");
    expect(await page.getByLabel(t("temperature"), { exact: false }).inputValue()).toBe("0.3");
    await button(t("reset")).click();
    await ask(page, "/demo tokens=60 rate=0");
    await until(
      "a whole answer",
      () => ended(page),
      answer => answer.text.split(" ").length > 20,
    );
  });

  test("the cluster is drawn, with this node and what it runs", async () => {
    const { page } = stage;
    await ask(page, "/demo tokens=3000 rate=50");
    await page.getByRole("link", { name: t("cluster") }).click();
    await page.getByRole("heading", { level: 1, name: t("clusterTitle") }).waitFor();
    await page.getByText(t("clusterOne")).waitFor();
    await page
      .getByRole("region", { name: t("clusterGateways") })
      .getByText(t("clusterYou"))
      .waitFor();
    const workers = page.getByRole("region", { name: t("clusterWorkers") });
    await workers.getByText(t("clusterRunning", { running: 1, capacity: 64 })).waitFor();
    await page.locator(".flow-line").waitFor({ state: "attached" });
    await page.getByText(t("clusterQueueEmpty")).waitFor();
  });
});
