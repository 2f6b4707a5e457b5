import { cpus, loadavg } from "node:os";
import { newPerson, type Person, startBrowser } from "../e2e/browser";
import { startChatnode } from "../e2e/server";
import { measureLinks } from "./links";
import { countViolations, measureHostile, measureSleep } from "./looks";
import { newReport } from "./report";
import { measureStream } from "./stream";
import { startUpstream } from "./upstream";
import { weigh } from "./weight";

/** Prints what the page costs in a real Chromium, beside what it may cost.
 *
 *  npm run perf                    all of it, at full speed and with a CPU four times slower: some minutes
 *  npm run perf -- --cpu 4         only this one
 *  npm run perf -- --only links    only these parts: weight stream links sleep hostile axe
 *  npm run perf -- --short         a few seconds of each, to see that it works; its figures say little */

const RATE = 200;

export async function main(args: readonly string[]): Promise<void> {
  const value = (name: string) => args[args.indexOf(name) + 1]?.split(",") ?? [];
  const short = args.includes("--short");
  const speeds = args.includes("--cpu") ? value("--cpu").map(Number) : [1, 4];
  const wanted = (part: string) => !args.includes("--only") || value("--only").includes(part);
  const seconds = short ? 6 : 60;
  const tries = short ? 1 : 5;
  const report = newReport();
  const browser = await startBrowser();
  const foreign: string[] = [];
  const visit = async (address: string, look: (person: Person) => Promise<void>) => {
    const person = await newPerson(browser, address);
    try {
      await look(person);
    } finally {
      foreign.push(...person.faults);
      await person.context.close();
    }
  };
  const upstream = await startUpstream(RATE);
  const long = await startChatnode({ env: { OPENAI_BASE_URL: upstream.address } });
  const demo = await startChatnode();
  try {
    if (wanted("weight")) await visit(long.address, person => weigh(person, long.address, report));
    for (const cpu of speeds) {
      if (wanted("stream")) {
        const how = { cpu, seconds, rate: RATE, tries };
        await visit(long.address, person => measureStream(person, how, report));
      }
      if (wanted("links"))
        await visit(demo.address, person => measureLinks(demo, person, { cpu, tries }, report));
      if (wanted("sleep")) await visit(demo.address, person => measureSleep(demo, person, cpu, report));
      if (wanted("hostile")) await visit(demo.address, person => measureHostile(person, cpu, report));
    }
    if (wanted("axe")) await countViolations(demo, browser, short ? 3 : undefined, report);
    report.put("foreign", 0, String(foreign.length), foreign.length === 0);
    for (const fault of foreign) process.stderr.write(`${fault}\n`);
  } finally {
    await Promise.all([long.stop(), demo.stop(), browser.close()]);
    upstream.stop();
  }
  const length = `${seconds} s of streaming, ${tries} ${tries === 1 ? "try" : "tries"} of what is short`;
  const machine = `${cpus().length} × ${cpus()[0]?.model ?? "CPU"}, load ${loadavg()[0]?.toFixed(1)}`;
  const chromium = `Chromium ${browser.version()} without a window or a GPU`;
  process.stdout.write(`\n${chromium}; ${machine}; ${length}\n\n${report.table(speeds)}\n`);
  if (report.missed() > 0) process.stdout.write(`\n${report.missed()} goals missed\n`);
}
