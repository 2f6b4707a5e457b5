import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { createI18n, type I18n } from "../src/i18n/i18n";
import { newPerson, type Person, startBrowser } from "./browser";
import { type Chatnode, type Settings, startChatnode } from "./server";

/** What a test plays on. */
export interface Stage {
  readonly node: Chatnode;
  readonly browser: Browser;
  readonly person: Person;
  readonly page: Page;
}

interface Wishes {
  readonly locale?: string;
  readonly settings?: Settings;
}

/** One chatnode and one browser for the tests around it; for each test a person of its own with one tab, in whose
 *  browser nothing may go wrong. */
export function setStage({ locale, settings }: Wishes = {}): Stage {
  const stage = {} as { -readonly [K in keyof Stage]: Stage[K] };
  beforeAll(async () => {
    [stage.node, stage.browser] = await Promise.all([startChatnode(settings), startBrowser()]);
  });
  beforeEach(async () => {
    stage.person = await newPerson(stage.browser, stage.node.address, { locale });
    stage.page = await stage.person.tab();
  });
  afterEach(async () => {
    stage.node.mend();
    const { faults, context } = stage.person;
    await context.close();
    expect(faults).toEqual([]);
  });
  afterAll(async () => {
    await stage.browser?.close();
    await stage.node?.stop();
  });
  return stage;
}

export interface Tongue {
  readonly locale: string;
  readonly t: I18n["t"];
}

/** Both languages of the page, with its words. */
export const TONGUES: readonly Tongue[] = [
  { locale: "en-US", t: createI18n("en").t },
  { locale: "vi-VN", t: createI18n("vi").t },
];
