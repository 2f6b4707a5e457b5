import { describe, expect, test } from "vitest";
import { resolveLanguage } from "../store/preferences";
import { en } from "./en";
import { createI18n } from "./i18n";
import { vi } from "./vi";

describe("the two languages", () => {
  test("use the same values in every sentence", () => {
    const values = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
    for (const key of Object.keys(en) as (keyof typeof en)[])
      expect([key, values(vi[key])]).toEqual([key, values(en[key])]);
  });

  test("have no empty sentence", () => {
    for (const table of [en, vi])
      for (const [key, text] of Object.entries(table)) expect([key, text.trim()]).not.toEqual([key, ""]);
  });

  test("Vietnamese is written in composed characters", () => {
    for (const text of Object.values(vi)) expect(text).toBe(text.normalize("NFC"));
  });

  test("numbers and times are written as each language does", () => {
    expect(createI18n("vi").duration(400)).toBe("0,4 giây");
    expect(createI18n("en").duration(400)).toBe("0.4 s");
    expect(createI18n("en").duration(180_000)).toBe("3 min");
  });

  test("one is not many", () => {
    expect(createI18n("en").t("tokens", { count: 1 })).toBe("1 token");
    expect(createI18n("en").t("tokens", { count: "1,001" })).toBe("1,001 tokens");
  });

  test("an unknown error code is named, not swallowed", () => {
    expect(createI18n("en").error("from_the_future")).toContain("from_the_future");
    expect(createI18n("vi").error("upstream_eof")).toBe(vi["error.upstream_eof"]);
  });
});

test("the language is the chosen one, else the browser's first that we speak", () => {
  expect(resolveLanguage("en", ["vi-VN"])).toBe("en");
  expect(resolveLanguage("system", ["fr", "vi-VN", "en"])).toBe("vi");
  expect(resolveLanguage("system", ["en-GB", "vi"])).toBe("en");
  expect(resolveLanguage("system", ["fr-FR"])).toBe("en");
});
