import axe from "axe-core";
import type { Page } from "playwright-core";

/** What axe finds wrong with what is on the screen. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    const { axe } = window as unknown as { axe: typeof import("axe-core") };
    const found = await axe.run(document, { resultTypes: ["violations"] });
    return found.violations.map(
      ({ id, nodes }) => `${id}: ${nodes.map(one => one.html.slice(0, 120)).join(" | ")}`,
    );
  });
}
