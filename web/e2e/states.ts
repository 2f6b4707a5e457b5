import type { Page } from "playwright-core";
import { SIGNED_OUT } from "../src/api";
import type { I18n } from "../src/i18n/i18n";
import { LONG_TITLE, NOTES, RICH, RIGHT_TO_LEFT, WIDE } from "./answers";
import { ask, begun, ended, openDrawer } from "./browser";
import { busyCluster } from "./cluster";
import { importConversation, openImported } from "./import";
import type { Chatnode } from "./server";
import { giveWire, type Wire } from "./wire";

/** Every page and state of the UI, and how one gets there from a new browser: what is looked at, by axe and by people. */

export interface Scene {
  readonly page: Page;
  readonly node: Chatnode;
  readonly t: I18n["t"];
}

type State = (scene: Scene) => Promise<void>;

export const STATES: Readonly<Record<string, State>> = {
  empty: async () => {},

  async list({ page, t }) {
    for (let i = 0; i < 9; i++) await importConversation(page, `${t("suggestion1")} ${i}`, [turn("a", "b")]);
    await importConversation(page, LONG_TITLE, [turn("a", "b")]);
    await page.evaluate(async title => {
      const { items } = await (await fetch("/api/conversations")).json();
      const { id } = items.find((item: { title: string }) => item.title === title);
      const headers = { "content-type": "application/json" };
      await fetch(`/api/conversations/${id}`, { method: "PATCH", body: '{"pinned":true}', headers });
    }, LONG_TITLE);
    await page.reload();
    await openDrawer(page, t);
    await page.locator(".row").first().waitFor();
  },

  async finished({ page }) {
    await openImported(page, LONG_TITLE, [turn("Kể về con đường", RICH)]);
    await page.locator(".katex").first().waitFor({ state: "attached" });
    await page.locator(".hl-keyword").first().waitFor({ state: "attached" });
    await page.locator(".transcript").evaluate(box => box.scrollTo(0, 0));
  },

  async notes({ page, t }) {
    await openImported(page, "Notes", [turn(t("suggestion4"), NOTES)]);
  },

  async wide({ page }) {
    await openImported(page, "Wide", [turn(`${"dài".repeat(90)}\n${LONG_TITLE}`, WIDE)]);
    await page.locator(".katex").nth(1).waitFor({ state: "attached" });
    await page.locator(".transcript").evaluate(box => box.scrollTo(0, 0));
  },

  async rightToLeft({ page }) {
    await openImported(page, "كيف يتكوّن قوس قزح؟", [turn("كيف يتكوّن قوس قزح؟", RIGHT_TO_LEFT)]);
    await page.locator("#composer").fill("لماذا ينعكس الضوء؟");
  },

  async streaming({ page, t }) {
    await ask(page, `${t("suggestion1")}\n/demo tokens=2000 rate=40`);
    await begun(page, 300);
  },

  async scrolledUp({ page, t }) {
    await openImported(page, "Long", Array(12).fill(turn(t("suggestion1"), RICH)));
    await page.locator(".transcript").hover();
    await page.mouse.wheel(0, -2_000);
    await page.locator(".to-bottom").waitFor();
  },

  async thinking({ page, t }) {
    await ask(page, `${t("suggestion1")}\n/demo tokens=90 rate=25 reason=2000`);
    await page.locator(".reasoning-toggle").click();
    await page.locator(".reasoning-text p").first().waitFor();
  },

  async waiting({ page, t }) {
    await ask(page, `${t("suggestion1")}\n/demo delay=60000`);
    await page.getByText(t("waitingFirst")).waitFor();
  },

  async queued(scene) {
    const { generation, say } = await silentAnswer(scene);
    say({ type: "status", generation, status: "queued", ahead: 3 });
    await scene.page.getByText(scene.t("queuedAhead", { ahead: 3 })).waitFor();
  },

  async recovering(scene) {
    const { generation, say } = await silentAnswer(scene);
    say({ type: "status", generation, status: "recovering" });
    await scene.page.locator('.pill[data-state="recovering"]').waitFor();
  },

  async stopped({ page, t }) {
    await ask(page, `${t("suggestion1")}\n/demo tokens=2000 rate=50`);
    await begun(page, 200);
    await page.keyboard.press("Escape");
    await page.getByText(t("cancelled")).waitFor();
  },

  async interrupted({ page, t }) {
    await openImported(page, "Cut", [turn(t("suggestion1"), "It was a dark and", "interrupted")]);
  },

  async failed({ page, t }) {
    await ask(page, `${t("suggestion1")}\n/demo fail=after:5`);
    await page.getByRole("alert").waitFor();
  },

  notSent: scene => refused(scene, "quota_exceeded", "1,000 of 1,000 tokens used"),

  tooLarge: scene => refused(scene, "too_large", "`content` has 300000 bytes; 262144 are allowed"),

  async tooLong({ page, t }) {
    const error = { code: "too_long", message: "maximum context length is 8192 tokens" };
    const failed = { question: t("suggestion1"), answer: "", status: "failed", error } as const;
    await openImported(page, "Long", [failed]);
    await page.getByRole("alert").waitFor();
  },

  async sendingOffline({ page, node, t }) {
    node.cut(true);
    await page.locator('.pill[data-state="reconnecting"]').waitFor();
    await ask(page, t("suggestion1"));
    await page.getByText(t("sendingOffline")).waitFor();
  },

  async offline({ page, node, t }) {
    await openImported(page, t("suggestion1"), [turn(t("suggestion1"), "A rainbow forms when …")]);
    node.cut(true);
    await page.context().setOffline(true);
    await page.locator('.pill[data-state="offline"]').waitFor();
  },

  async loading({ page }) {
    const id = await importConversation(page, "Slow", [turn("a", "b")]);
    await page.route(/\/messages/, () => {});
    await page.goto(`/#/c/${id}`);
    await page.locator(".thread-skeleton").waitFor();
  },

  async threadFailed({ page, t }) {
    const id = await importConversation(page, "Lost", [turn("a", "b")]);
    await page.route(/\/messages/, route => route.fulfill({ status: 503 }));
    await page.goto(`/#/c/${id}`);
    await page.getByText(t("threadFailed")).waitFor();
  },

  async listFailed({ page, t }) {
    await page.route(/\/api\/conversations/, route => route.fulfill({ status: 503 }));
    await page.reload();
    await openDrawer(page, t);
    await page.getByText(t("loadFailed")).waitFor();
  },

  async notFound({ page, t }) {
    await page.goto("/#/c/cnv_00000000000000000000000000");
    await page.getByRole("heading", { level: 2, name: t("notFoundTitle") }).waitFor();
  },

  async editing({ page, t }) {
    await openImported(page, t("suggestion1"), [turn(t("suggestion1"), "A rainbow forms when …")]);
    await page.locator(".question").hover();
    await page.getByRole("button", { name: t("edit") }).click();
    await page.locator(".edit-form textarea:focus").waitFor();
  },

  async branches({ page, t }) {
    await ask(page, "/demo tokens=40 rate=0");
    await ended(page);
    await page.getByRole("button", { name: t("regenerate") }).click();
    await page.locator(".answer .branches").waitFor();
    await ended(page);
  },

  async settings({ page, t }) {
    await openDrawer(page, t);
    await page.getByRole("button", { name: t("settings"), exact: true }).click();
    await page.locator("dialog[open]").waitFor();
  },

  async account({ page, t }) {
    const name = "nguyen.thi.minh.khai@cong-ty-anh-duong.example";
    await page.route(/\/api\/me$/, route => route.fulfill({ json: { user: "usr_1", name, admin: true } }));
    const keys = [t("apiKeyLabel"), LONG_TITLE].map((label, i) => ({
      id: `key_${i}`,
      label,
      created_at: "",
    }));
    const key = `ck_${"0123456789abcdef".repeat(4)}`;
    await page.route(/\/api\/keys$/, route =>
      route.fulfill({
        json: route.request().method() === "GET" ? { items: keys } : { ...keys[0], id: "key_2", key },
      }),
    );
    await STATES.settings?.({ page, t } as Scene);
    await page.locator("input[name=label]").fill("CI");
    await page.getByRole("button", { name: t("apiKeyCreate") }).click();
    await page.locator(".key-made").waitFor();
  },

  async signIn({ page, t }) {
    const json = { methods: ["local", "oidc"], provider: "Công ty Ánh Dương" };
    await page.route(/\/api\/login$/, route => route.fulfill({ json }));
    await page.evaluate(event => dispatchEvent(new Event(event)), SIGNED_OUT);
    await page.getByText(t("signInWith", { provider: json.provider })).waitFor();
  },

  async options({ page, t }) {
    await page.getByRole("button", { name: t("options") }).click();
    await page.locator("dialog[open]").waitFor();
  },

  async shortcuts({ page, t }) {
    await openDrawer(page, t);
    await page.getByRole("button", { name: t("shortcuts") }).click();
    await page.locator("dialog[open]").waitFor();
  },

  async search({ page, t }) {
    await importConversation(page, "Đường về nhà", [turn("a", "b")]);
    await openDrawer(page, t);
    await page.getByRole("searchbox").fill("duong");
    await page.locator(".row").waitFor();
  },

  async searchEmpty({ page, t }) {
    await openDrawer(page, t);
    await page.getByRole("searchbox").fill("xyz");
    await page.getByText(t("searchEmpty", { q: "xyz" })).waitFor();
  },

  async menu({ page, t }) {
    await importConversation(page, "Đường về nhà", [turn("a", "b")]);
    await openDrawer(page, t);
    await page.locator(".row").hover();
    await page.locator(".row .menu-button").click();
    await page.getByRole("menuitem").first().waitFor();
  },

  async renaming({ page, t }) {
    await STATES.menu?.({ page, t } as Scene);
    await page.getByRole("menuitem", { name: t("rename") }).click();
    await page.locator(".rename:focus").waitFor();
  },

  async deleted({ page, t }) {
    await STATES.menu?.({ page, t } as Scene);
    await page.getByRole("menuitem", { name: t("delete") }).click();
    await page.locator(".notice").waitFor();
  },

  async cluster({ page }) {
    await page.goto("/#/cluster");
    await page.locator(".node").first().waitFor();
  },

  async clusterForbidden({ page, t }) {
    const json = { error: { code: "forbidden", message: "for admins" } };
    await page.route(/\/api\/cluster/, route => route.fulfill({ status: 403, json }));
    await page.goto("/#/cluster");
    await page.getByText(t("clusterForbidden")).waitFor();
  },

  async clusterMany({ page }) {
    await page.route(/\/api\/cluster/, route => route.fulfill({ json: busyCluster() }));
    await page.goto("/#/cluster");
    await page.locator(".node").nth(5).waitFor();
  },

  async veryLong({ page }) {
    await openImported(page, "Long", [turn("từ ".repeat(900), `${"- mục\n".repeat(900)}`)]);
    await page.locator(".rest").first().waitFor({ state: "attached" });
  },
};

const turn = (question: string, answer: string, status: "completed" | "interrupted" = "completed") => ({
  question,
  answer,
  status,
});

async function refused({ page, t }: Scene, code: string, message: string): Promise<void> {
  const wire = await giveWire(page);
  wire.answer = ({ type, request_id }) =>
    type === "send" ? { type: "error", code, message, request_id } : null;
  await ask(page, t("suggestion1"));
  await page.getByRole("alert").waitFor();
}

/** An answer that waits, and of which the server says what the test wants it to. */
async function silentAnswer({ page, t }: Scene): Promise<{ generation: string; say: Wire["say"] }> {
  const wire = await giveWire(page);
  await ask(page, `${t("suggestion1")}\n/demo delay=60000`);
  await page.locator(".progress").waitFor();
  const generation = await wire.generation();
  wire.mute();
  return { generation, say: wire.say };
}
