import { createContext, useContext } from "react";
import { en, type Strings } from "./en";
import { vi } from "./vi";

export type Language = "vi" | "en";
export type StringKey = keyof Strings;
export type Values = Record<string, string | number>;

export interface I18n {
  readonly language: Language;
  t(key: StringKey, values?: Values): string;
  number(value: number, digits?: number): string;
  /** A length of time as people say it: 0.4 s, 12 s, 3 min. */
  duration(ms: number): string;
  /** The words for an error code of the contract; codes come from the server and may be newer than this page. */
  error(code: string): string;
}

const TABLES: Record<Language, Strings> = { vi, en };

export function createI18n(language: Language): I18n {
  const table = TABLES[language];
  const locale = language === "vi" ? "vi-VN" : "en";
  const number = (value: number, digits = 0) =>
    value.toLocaleString(locale, { maximumFractionDigits: digits, minimumFractionDigits: digits });
  const t = (key: StringKey, values: Values = {}) =>
    table[key]
      .replace("(s)", String(values.count) === "1" ? "" : "s")
      .replace(/\{(\w+)\}/g, (raw, name: string) => (name in values ? String(values[name]) : raw));
  const units = language === "vi" ? ["giây", "phút", "giờ"] : ["s", "min", "h"];
  return {
    language,
    t,
    number,
    duration(ms) {
      const seconds = ms / 1000;
      if (seconds < 10) return `${number(seconds, 1)} ${units[0]}`;
      if (seconds < 120) return `${number(Math.round(seconds))} ${units[0]}`;
      if (seconds < 7_200) return `${number(Math.round(seconds / 60))} ${units[1]}`;
      return `${number(Math.round(seconds / 3_600))} ${units[2]}`;
    },
    error(code) {
      const key = `error.${code}`;
      return key in table ? t(key as StringKey) : t("error.other", { code });
    },
  };
}

export const I18nContext = createContext<I18n>(createI18n("en"));

export function useI18n(): I18n {
  return useContext(I18nContext);
}
