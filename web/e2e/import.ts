import type { Page } from "playwright-core";

export interface Turn {
  readonly question: string;
  readonly answer: string;
  /** How the answer ended; completed, where nothing else is said. */
  readonly status?: "completed" | "cancelled" | "interrupted" | "failed";
  readonly error?: { readonly code: string; readonly message: string };
}

/** Puts a finished conversation onto the server; returns its id. */
export async function importConversation(page: Page, title: string, turns: readonly Turn[]): Promise<string> {
  const created_at = "2026-01-01T00:00:00Z";
  const source = "0".repeat(26);
  const conversation = `cnv_${source}`;
  const name = (i: number) => `msg_${source}${String(i).padStart(16, "0")}`;
  const base = { conversation, status: "completed", created_at };
  const messages = turns.flatMap(({ question, answer, status = "completed", error }, i) => [
    { ...base, id: name(2 * i), parent: i === 0 ? null : name(2 * i - 1), role: "user", content: question },
    {
      ...base,
      ...{
        id: name(2 * i + 1),
        parent: name(2 * i),
        role: "assistant",
        content: answer,
        model: "demo",
        status,
        error,
      },
    },
  ]);
  const about = { id: conversation, title, pinned: false, version: 1, created_at, updated_at: created_at };
  const body = JSON.stringify({
    format: "chatnode.v1",
    conversation: { ...about, generating: false },
    messages,
  });
  const answer = await page.evaluate(async text => {
    const headers = { "content-type": "application/json" };
    const response = await fetch("/api/import", { method: "POST", body: text, headers });
    return { status: response.status, text: await response.text() };
  }, body);
  if (answer.status !== 201) throw new Error(`import: ${answer.status} ${answer.text.slice(0, 300)}`);
  return JSON.parse(answer.text).conversation.id;
}

/** The same, and goes there. */
export async function openImported(page: Page, title: string, turns: readonly Turn[]): Promise<void> {
  const id = await importConversation(page, title, turns);
  await page.evaluate(hash => {
    location.hash = hash;
  }, `#/c/${id}`);
  await page.locator(".answer").last().waitFor();
}
