// Runs a script of this folder that is written in TypeScript: node perf/run.mjs measure.ts --short
import { runnerImport } from "vite";

const [file, ...args] = process.argv.slice(2);
const { module } = await runnerImport(new URL(file, import.meta.url).pathname, { configFile: false });
await module.main(args);
