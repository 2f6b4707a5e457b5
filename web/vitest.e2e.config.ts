import { defineConfig } from "vitest/config";

/** Browser tests: a real chatnode, a real Chromium. One file at a time, since each starts a server and a browser. */
export default defineConfig({
  test: {
    include: ["e2e/**/*.e2e.ts"],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
