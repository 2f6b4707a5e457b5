import { gzipSync } from "node:zlib";
import type { Person } from "../e2e/browser";
import { ms, type Report } from "./report";

/** What the page weighs, as the server gives it. */
export async function weigh(person: Person, address: string, report: Report): Promise<void> {
  const page = await person.context.newPage();
  const loads: Promise<{ gzip: number; sent: number }>[] = [];
  page.on("response", response => {
    const { pathname } = new URL(response.url());
    const code = /\.(js|css)$/.test(pathname);
    if (!code && pathname !== "/") return;
    const load = async () => ({
      gzip: code ? gzipSync(await response.body(), { level: 9 }).length : 0,
      sent: (await response.request().sizes()).responseBodySize,
    });
    loads.push(load());
  });
  await page.goto("/");
  await page.locator("#composer").waitFor();
  const visible = await page.evaluate(
    () => new Promise<number>(done => requestAnimationFrame(() => done(performance.now()))),
  );
  await page.waitForLoadState("networkidle");
  const sizes = await Promise.all(loads);
  const gzip = sizes.reduce((sum, { gzip }) => sum + gzip, 0);
  const sent = sizes.reduce((sum, { sent }) => sum + sent, 0);
  await page.close();
  report.put("weight", 0, kilobytes(gzip), gzip <= 120_000);
  report.put("sent", 0, kilobytes(sent), null);
  report.put("visible", 1, ms(visible), null);
  const whole = await everything(address);
  report.put("whole", 0, `${kilobytes(whole.bytes)} in ${whole.files} files`, whole.bytes <= 1_000_000);
}

/** Every file of the page: those that one names, beginning with the page itself. */
async function everything(address: string): Promise<{ bytes: number; files: number }> {
  const seen = new Map<string, number>();
  const open = ["/"];
  for (let path = open.pop(); path !== undefined; path = open.pop()) {
    if (seen.has(path)) continue;
    const response = await fetch(address + path);
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    const body = Buffer.from(await response.arrayBuffer());
    seen.set(path, body.length);
    if (/\.(woff2|png|svg)$/.test(path)) continue;
    for (const [, name = ""] of body.toString().matchAll(NAMED)) {
      const from = name.startsWith("assets/") ? address : address + path;
      open.push(new URL(name, from).pathname);
    }
  }
  return { bytes: [...seen.values()].reduce((sum, bytes) => sum + bytes, 0), files: seen.size };
}

/** Files of the page, as its other files name them: with a folder before the name. */
const NAMED = /["'`(]((?:\.{0,2}\/|assets\/)[\w./-]*\.(?:js|css|woff2|svg|png|webmanifest))["'`)]/g;

const kilobytes = (bytes: number) => `${(bytes / 1_000).toFixed(1)} KB`;
