import type { Page } from "playwright-core";
import type { AppState } from "../src/store/core";
import { until } from "./browser";

/** The page's socket in the hands of a test: it may let frames through, say something itself, or answer in the server's
 *  place. For states that a healthy server of one node can't be brought to. */
export interface Wire {
  say(frame: object): void;
  /** What is answered to a frame of the page instead of passing it on; null passes it on. */
  answer: (frame: { type: string; request_id?: string }) => object | null;
  /** From here on the server's frames come no more. */
  mute(): void;
  /** The open generation that the page knows. */
  generation(): Promise<string>;
}

/** Reloads the page. */
export async function giveWire(page: Page): Promise<Wire> {
  let send: (text: string) => void = () => {};
  let muted = false;
  const wire: Wire = {
    say: frame => send(JSON.stringify(frame)),
    answer: () => null,
    mute() {
      muted = true;
    },
    generation: () =>
      until(
        "a generation",
        () =>
          page.evaluate(() => {
            const { chatnode } = window as unknown as { chatnode: { state(): AppState } };
            return Object.keys(chatnode.state().chat.generations)[0] ?? "";
          }),
        id => id !== "",
      ),
  };
  await page.routeWebSocket(/\/ws\/chat$/, socket => {
    const server = socket.connectToServer();
    server.onMessage(text => {
      if (!muted) socket.send(text);
    });
    socket.onMessage(text => {
      const answer = wire.answer(JSON.parse(String(text)));
      if (answer === null) server.send(text);
      else socket.send(JSON.stringify(answer));
    });
    send = text => socket.send(text);
  });
  await page.reload();
  await page.locator('.pill[data-state="online"]').waitFor();
  return wire;
}
