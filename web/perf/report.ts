/** The table of goals, and what was found. */

const ROWS = {
  weight: ["first load, JS + CSS, gzip", "≤ 120 KB"],
  sent: ["the same as it is sent (Brotli), with the page itself", "–"],
  whole: ["whole UI, raw", "≤ 1 MB"],
  foreign: ["requests to other origins", "0"],
  visible: ["navigation → field to write in, new browser", "–"],
  open: ["open a chat of 500 messages", "≤ 150 ms (4×: ≤ 600 ms)"],
  openCold: ["… from its address, with the whole page to load", "–"],
  fps: ["stream 200 tokens/s into it while typing: frames", "≥ 58 fps (4×: ≥ 45 fps)"],
  longest: ["… longest task; tasks over 50 ms", "≤ 50 ms; 0 (1× only)"],
  inp: ["… INP", "≤ 150 ms"],
  token: ["… cost of a token, late vs. early", "≤ 1.2×"],
  heap: ["… heap after that", "≤ 40 MB"],
  shift: ["… layout shift", "≤ 0.02"],
  drift: ["… drift while scrolled up", "0 px"],
  selection: ["… a selection inside the answer", "survives"],
  network: ["network back → text flowing", "≤ 1 s"],
  server: ["server back after kill -9 → text flowing", "≤ 1 s"],
  reload: ["reload → partial answer visible, after the socket opens", "≤ 300 ms"],
  once: ["… in one paint, not typed again", "yes"],
  stop: ["stop → shown", "≤ 100 ms"],
  asleep: ["awake after 5 minutes without network → right", "≤ 1 s"],
  hostile: ["longest frame over the hostile corpus", "≤ 200 ms (1× only)"],
  axe: ["axe violations, all states, light and dark", "0"],
} as const;

export type RowName = keyof typeof ROWS;

export interface Report {
  /** `cpu` 0: the same at any speed. `good` null: there is no goal for it. */
  put(row: RowName, cpu: number, words: string, good: boolean | null): void;
  table(cpus: readonly number[]): string;
  missed(): number;
}

export function newReport(): Report {
  const cells = new Map<string, { words: string; good: boolean | null }>();
  const cell = (row: string, cpu: number) => {
    const found = cells.get(`${row} ${cpu}`) ?? cells.get(`${row} 0`);
    if (found === undefined) return "";
    return found.good === false ? `${found.words} **missed**` : found.words;
  };
  return {
    put(row, cpu, words, good) {
      cells.set(`${row} ${cpu}`, { words, good });
      process.stderr.write(
        `${ROWS[row][0]} (${cpu || "any"}×): ${words}${good === false ? " MISSED" : ""}\n`,
      );
    },
    table(cpus) {
      const head = ["", "goal", ...cpus.map(cpu => `${cpu}×`)];
      const lines = Object.entries(ROWS)
        .map(([row, [what, goal]]) => [what, goal, ...cpus.map(cpu => cell(row, cpu))])
        .filter(line => line.slice(2).some(words => words !== ""));
      const all = [head, head.map(() => "---"), ...lines];
      return all.map(line => `| ${line.join(" | ")} |`).join("\n");
    },
    missed: () => [...cells.values()].filter(found => found.good === false).length,
  };
}

export const ms = (time: number) => `${time.toFixed(0)} ms`;

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/** Several tries as one figure: the median, and the worst where there is more than one. */
export function figure(values: readonly number[]): string {
  return values.length < 2 ? ms(values[0] ?? 0) : `${ms(median(values))} (worst ${ms(Math.max(...values))})`;
}
