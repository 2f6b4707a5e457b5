import type { LanguageFn } from "highlight.js";
import hljs from "highlight.js/lib/core";

/** Code as nested names and texts, never as markup. Each language is loaded with its first listing. */
export type Highlighted = string | { readonly className: string; readonly children: readonly Highlighted[] };

type Loader = () => Promise<{ default: LanguageFn }>;

const LANGUAGES: Record<string, Loader> = {
  bash: () => import("highlight.js/lib/languages/bash"),
  c: () => import("highlight.js/lib/languages/c"),
  cpp: () => import("highlight.js/lib/languages/cpp"),
  csharp: () => import("highlight.js/lib/languages/csharp"),
  css: () => import("highlight.js/lib/languages/css"),
  dart: () => import("highlight.js/lib/languages/dart"),
  diff: () => import("highlight.js/lib/languages/diff"),
  dockerfile: () => import("highlight.js/lib/languages/dockerfile"),
  go: () => import("highlight.js/lib/languages/go"),
  graphql: () => import("highlight.js/lib/languages/graphql"),
  haskell: () => import("highlight.js/lib/languages/haskell"),
  ini: () => import("highlight.js/lib/languages/ini"),
  java: () => import("highlight.js/lib/languages/java"),
  javascript: () => import("highlight.js/lib/languages/javascript"),
  json: () => import("highlight.js/lib/languages/json"),
  kotlin: () => import("highlight.js/lib/languages/kotlin"),
  lua: () => import("highlight.js/lib/languages/lua"),
  makefile: () => import("highlight.js/lib/languages/makefile"),
  markdown: () => import("highlight.js/lib/languages/markdown"),
  nginx: () => import("highlight.js/lib/languages/nginx"),
  php: () => import("highlight.js/lib/languages/php"),
  powershell: () => import("highlight.js/lib/languages/powershell"),
  protobuf: () => import("highlight.js/lib/languages/protobuf"),
  python: () => import("highlight.js/lib/languages/python"),
  r: () => import("highlight.js/lib/languages/r"),
  ruby: () => import("highlight.js/lib/languages/ruby"),
  rust: () => import("highlight.js/lib/languages/rust"),
  scala: () => import("highlight.js/lib/languages/scala"),
  sql: () => import("highlight.js/lib/languages/sql"),
  swift: () => import("highlight.js/lib/languages/swift"),
  typescript: () => import("highlight.js/lib/languages/typescript"),
  xml: () => import("highlight.js/lib/languages/xml"),
  yaml: () => import("highlight.js/lib/languages/yaml"),
};

const ALIASES: Record<string, string> = {
  "c#": "csharp",
  "c++": "cpp",
  cc: "cpp",
  cjs: "javascript",
  console: "bash",
  cs: "csharp",
  docker: "dockerfile",
  golang: "go",
  h: "c",
  hpp: "cpp",
  hs: "haskell",
  html: "xml",
  js: "javascript",
  json5: "json",
  jsonc: "json",
  jsx: "javascript",
  kt: "kotlin",
  make: "makefile",
  md: "markdown",
  mjs: "javascript",
  patch: "diff",
  proto: "protobuf",
  ps1: "powershell",
  py: "python",
  rb: "ruby",
  rs: "rust",
  sass: "css",
  scss: "css",
  sh: "bash",
  shell: "bash",
  svg: "xml",
  toml: "ini",
  ts: "typescript",
  tsx: "typescript",
  vue: "xml",
  yml: "yaml",
  zsh: "bash",
};

/** Collects what the highlighter finds as a tree of its own kind, in place of the markup it makes by default. */
class Collector {
  readonly root: Highlighted[] = [];
  private readonly open: Highlighted[][] = [this.root];

  private get top(): Highlighted[] {
    return this.open[this.open.length - 1] as Highlighted[];
  }

  addText(text: string): void {
    if (text !== "") this.top.push(text);
  }

  startScope(scope: string): void {
    this.openNode(scope);
  }

  endScope(): void {
    this.closeNode();
  }

  openNode(scope: string): void {
    const children: Highlighted[] = [];
    this.top.push({ className: `hl-${scope.split(".")[0] ?? ""}`, children });
    this.open.push(children);
  }

  closeNode(): void {
    if (this.open.length > 1) this.open.pop();
  }

  __addSublanguage(emitter: Collector): void {
    this.top.push(...emitter.root);
  }

  closeAllNodes(): void {}
  finalize(): void {}
  toHTML(): string {
    return "";
  }
}

hljs.configure({ __emitter: Collector } as never);

export async function highlight(text: string, language: string): Promise<readonly Highlighted[] | null> {
  const name = ALIASES[language.toLowerCase()] ?? language.toLowerCase();
  if (!Object.hasOwn(LANGUAGES, name)) return null;
  if (!hljs.getLanguage(name)) {
    const { default: rules } = await (LANGUAGES[name] as Loader)();
    hljs.registerLanguage(name, rules);
  }
  const result = hljs.highlight(text, { language: name, ignoreIllegals: true });
  return (result as unknown as { _emitter: Collector })._emitter.root;
}
