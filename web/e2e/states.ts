import type { Page } from "playwright-core";
import type { I18n } from "../src/i18n/i18n";
import type { ClusterView, NodeInfo } from "../src/protocol.gen";
import { ask, begun, ended } from "./browser";
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

const RICH = `# Đường về nhà

A paragraph with **bold**, *italic*, ~~struck~~, \`code\`, a [link](https://example.org) and a formula $e^{i\\pi} = -1$.

## Lists

1. first
2. second
   - nested
   - [x] done
   - [ ] not yet

> A quotation that is long enough to go over more than one line on a narrow screen, and that ends here.

\`\`\`python
def primes(limit: int) -> list[int]:
    """Every prime below the limit; a line that is too long for a phone and is scrolled, not broken."""
    return [n for n in range(2, limit) if all(n % d for d in range(2, n))]
\`\`\`

| | Redis | NATS |
|---|---:|:---:|
| role | storage and leases | hints between nodes, which may be lost |
| speed | 650 k/s | 1 M/s |

$$\\int_0^1 x^2\\,dx = \\frac{1}{3}$$

![A picture from elsewhere](https://example.org/picture.png)

---

The end, with <b>markup</b> that is shown as it was written.`;

const LONG_TITLE =
  "Một cuộc trò chuyện có tiêu đề dài đến mức không chỗ nào hiện hết được, kể cả trên màn hình rộng";

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

  async streaming({ page, t }) {
    await ask(page, `${t("suggestion1")}\n/demo tokens=2000 rate=40`);
    await begun(page, 300);
  },

  async scrolledUp({ page, t }) {
    await openImported(
      page,
      "Long",
      Array.from({ length: 12 }, () => turn(t("suggestion1"), RICH)),
    );
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

  async notSent({ page, t }) {
    const wire = await giveWire(page);
    wire.answer = frame =>
      frame.type === "send"
        ? {
            type: "error",
            code: "quota_exceeded",
            message: "1,000 of 1,000 tokens used",
            request_id: frame.request_id,
          }
        : null;
    await ask(page, t("suggestion1"));
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

  async notFound({ page, t }) {
    await page.goto("/#/c/cnv_00000000000000000000000000");
    await page.getByText(t("notFoundTitle")).waitFor();
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

  async deleted({ page, t }) {
    await STATES.menu?.({ page, t } as Scene);
    await page.getByRole("menuitem", { name: t("delete") }).click();
    await page.locator(".notice").waitFor();
  },

  async cluster({ page }) {
    await page.goto("/#/cluster");
    await page.locator(".node").first().waitFor();
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

/** A narrow page shows the list when it is asked to. */
async function openDrawer(page: Page, t: I18n["t"]): Promise<void> {
  const opener = page.getByRole("button", { name: t("openSidebar") });
  if (await opener.isVisible()) await opener.click();
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

function busyCluster(): ClusterView {
  const now = Date.now();
  const node = (id: string, role: "gateway" | "ai", more: Partial<NodeInfo>): NodeInfo => ({
    id,
    roles: [role],
    version: "0.1.0",
    started_at: new Date(now - 7_500_000).toISOString(),
    seen_at: new Date(now).toISOString(),
    draining: false,
    connections: 0,
    running: 0,
    capacity: role === "ai" ? 64 : 0,
    models: role === "ai" ? [{ id: "demo", name: "Demo", provider: "demo", demo: true, default: true }] : [],
    ...more,
  });
  return {
    node: "gateway-1",
    nodes: [
      node("gateway-1", "gateway", { connections: 4_210 }),
      node("gateway-2", "gateway", { connections: 3_977 }),
      node("gateway-3", "gateway", { connections: 12, draining: true }),
      node("ai-1", "ai", { running: 64 }),
      node("ai-2", "ai", { running: 23 }),
      node("ai-3", "ai", { seen_at: new Date(now - 20_000).toISOString() }),
    ],
    waiting: [{ model: "demo", count: 17 }],
  };
}
