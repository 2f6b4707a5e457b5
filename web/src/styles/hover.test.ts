import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const folder = new URL(".", import.meta.url);
const sheets = readdirSync(folder).filter(name => name.endsWith(".css"));

test.each(sheets)("%s: what hovers looks otherwise only where something can hover", name => {
  const text = readFileSync(new URL(name, folder), "utf8");
  const elsewhere = text.replace(/@media \(hover: hover\) \{.*?\n\}/gs, "");
  expect(elsewhere).not.toContain(":hover");
});
