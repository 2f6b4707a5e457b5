import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { newPerson, startBrowser } from "../e2e/browser";
import { startChatnode } from "../e2e/server";
import { STATES } from "../e2e/states";
import { createI18n } from "../src/i18n/i18n";

/** Pictures of every page and state, for people to look at.
 *
 *  npm run shots -- DIRECTORY      all of them
 *  npm run shots -- DIRECTORY --states empty,failed --widths 320 --languages vi --themes dark */

const HEIGHTS: Record<number, number> = { 320: 640, 390: 844, 768: 1_024, 1024: 768, 1440: 900 };

/** Up to here a finger points, as on phones and tablets held upright. */
const TOUCH_MAX_PX = 768;

export async function main(args: readonly string[]): Promise<void> {
  const directory = args[0];
  if (directory === undefined || directory.startsWith("--")) throw new Error("npm run shots -- DIRECTORY");
  mkdirSync(directory, { recursive: true });
  const chosen = (name: string, all: readonly string[]) =>
    args.includes(name) ? (args[args.indexOf(name) + 1]?.split(",") ?? []) : all;
  const languages = chosen("--languages", ["en", "vi"]) as ("en" | "vi")[];
  const themes = chosen("--themes", ["light", "dark"]) as ("light" | "dark")[];
  const widths = chosen("--widths", Object.keys(HEIGHTS)).map(Number);
  const [node, browser] = await Promise.all([startChatnode(), startBrowser()]);
  try {
    for (const name of chosen("--states", Object.keys(STATES))) {
      for (const language of languages) {
        for (const width of widths) {
          const { t } = createI18n(language);
          const locale = language === "vi" ? "vi-VN" : "en-US";
          const size = { width, height: HEIGHTS[width] ?? 900, touch: width <= TOUCH_MAX_PX };
          const person = await newPerson(browser, node.address, { locale, ...size });
          const page = await person.tab();
          await STATES[name]?.({ page, node, t });
          for (const colorScheme of themes) {
            await page.emulateMedia({ colorScheme });
            // What moves when it appears has come to rest.
            await page.waitForTimeout(250);
            const file = `${name}-${width}-${language}-${colorScheme}.png`;
            await page.screenshot({ path: join(directory, file) });
          }
          await person.context.close();
          node.mend();
        }
      }
      process.stderr.write(`${name}\n`);
    }
  } finally {
    await Promise.all([node.stop(), browser.close()]);
  }
}
