import react from "@vitejs/plugin-react";
import { defineConfig, type Plugin } from "vite";

/** Faces that hardly a formula uses and that a browser makes from their family's plain one: they are 76 KB. */
const SYNTHESIZED =
  /@font-face\{[^}]*url\(fonts\/KaTeX_(?:Caligraphic-Bold|Fraktur-Bold|Main-BoldItalic|Math-BoldItalic|SansSerif-Bold|SansSerif-Italic)\.[^}]*\}/g;

const SIZE_RULE =
  /\.katex \.fontsize-ensurer\.reset-size(\d+)\.size(\d+),\.katex \.sizing\.reset-size\1\.size\2\{font-size:([\d.]+)em\}/g;

/** KaTeX has a rule for each change from one of its eleven sizes to another. Two numbers and a division are the same, and
 *  11 KB less. */
function shortSizes(code: string): string {
  const rules = [...code.matchAll(SIZE_RULE)].map(([, from, to, factor]) => ({
    from,
    to,
    factor: Number(factor),
  }));
  const sizes = new Map(rules.filter(({ from }) => from === "6").map(({ to, factor }) => [to, factor]));
  const of = (name = "") => sizes.get(name) ?? Number.NaN;
  const known =
    rules.length === 121 && rules.every(rule => Math.abs(of(rule.to) / of(rule.from) - rule.factor) < 1e-6);
  if (!known) throw new Error("KaTeX's sizes are otherwise than this knows them");
  const named = [...sizes].map(
    ([name, size]) => `.katex .reset-size${name}{--from:${size}}.katex .size${name}{--to:${size}}`,
  );
  const divided = ".katex .fontsize-ensurer,.katex .sizing{font-size:calc(1em*var(--to)/var(--from))}";
  return `${code.replace(SIZE_RULE, "")}${named.join("")}${divided}`;
}

/** KaTeX names each font in three formats. Every browser that runs this page reads woff2, so the other two would
 *  only add a megabyte to the binary. */
const woff2Only: Plugin = {
  name: "katex-woff2-only",
  enforce: "pre",
  transform(code, id) {
    if (!id.includes("katex.min.css")) return null;
    return shortSizes(code.replace(SYNTHESIZED, "")).replace(
      /,\s*url\([^)]+\)\s*format\("(?:woff|truetype)"\)/g,
      "",
    );
  },
};

/** Of `marked` this page uses the lexer. What makes HTML of its tokens can't be left out by the bundler, since an object
 *  of it is made when the module loads. */
const lexerOnly: Plugin = {
  name: "marked-lexer-only",
  enforce: "pre",
  transform(code, id) {
    if (!/marked[\\/]lib[\\/]marked\.esm\.js$/.test(id)) return null;
    const found =
      /(?<=\}\};)var \w+=new \w+;function \w+\(\w,\w\)\{return \w+\.parse\(.*export\{(.*)\};/s.exec(code);
    const names = found?.[1]?.split(",").filter(name => / as (?:Lexer|defaults)$/.test(name));
    if (!found || names?.length !== 2) throw new Error("marked looks otherwise than this knows it");
    return `${code.slice(0, found.index)}export{${names}};`;
  },
};

const server = "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react(), woff2Only, lexerOnly],
  build: {
    target: "es2022",
    // The page's Content-Security-Policy has no data: source, so nothing may be inlined into the CSS.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Sizes are measured by `npm run perf`; the bundler's own report gzips every file a second time for nothing.
    reportCompressedSize: false,
  },
  server: {
    proxy: {
      "/api": server,
      "/health": server,
      "/livez": server,
      "/ws": { target: server, ws: true },
    },
  },
  // Properties take seconds on a busy machine: what fails is what is wrong, not what is slow.
  test: { include: ["src/**/*.test.{ts,tsx}"], testTimeout: 60_000 },
} as Parameters<typeof defineConfig>[0]);
