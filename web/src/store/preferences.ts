import type { Options } from "../protocol.gen";

/** What this browser remembers. Storage may be missing or full (private windows): then it is remembered until reload. */
export interface Preferences {
  readonly language: "vi" | "en" | "system";
  readonly theme: "dark" | "light" | "system";
  readonly sidebar: boolean;
}

const KEY = "chatnode.preferences";

const DEFAULTS: Preferences = { language: "system", theme: "system", sidebar: true };

export function loadPreferences(): Preferences {
  return { ...DEFAULTS, ...(read(KEY) as Partial<Preferences> | null) };
}

export function savePreferences(preferences: Preferences): void {
  write(KEY, preferences);
}

/** The language to speak: the chosen one, else the first of the browser's that we have. */
export function resolveLanguage(choice: Preferences["language"], browser: readonly string[]): "vi" | "en" {
  if (choice !== "system") return choice;
  for (const tag of browser) {
    if (/^vi\b/i.test(tag)) return "vi";
    if (/^en\b/i.test(tag)) return "en";
  }
  return "en";
}

/** What was set for one conversation; null stands for the one that is about to begin. */
export interface Setup {
  readonly model?: string;
  readonly options?: Options;
}

export function loadSetup(conversation: string | null): Setup {
  return (read(setupKey(conversation)) as Setup | null) ?? {};
}

export function saveSetup(conversation: string | null, setup: Setup): void {
  write(setupKey(conversation), Object.keys(setup).length === 0 ? null : setup);
}

/** The new conversation has got its name: what was set for it goes with it. The next one begins with the same model. */
export function adoptSetup(conversation: string): void {
  const setup = loadSetup(null);
  saveSetup(conversation, setup);
  saveSetup(null, setup.model === undefined ? {} : { model: setup.model });
}

function setupKey(conversation: string | null): string {
  return `chatnode.setup.${conversation ?? "new"}`;
}

export function loadDraft(conversation: string | null): string {
  const draft = read(draftKey(conversation));
  return typeof draft === "string" ? draft : "";
}

export function saveDraft(conversation: string | null, text: string): void {
  write(draftKey(conversation), text === "" ? null : text);
}

function draftKey(conversation: string | null): string {
  return `chatnode.draft.${conversation ?? "new"}`;
}

export function forgetConversation(conversation: string): void {
  write(draftKey(conversation), null);
  write(setupKey(conversation), null);
}

/** What is remembered of one person (drafts, unsent questions) is nobody else's who signs in here. */
export function forgetAccount(): void {
  for (const key of keysWith("chatnode.")) if (key !== KEY) write(key, null);
}

/** Whoever signs in again finds it as it was left. */
export function adoptAccount(user: string): void {
  if (read(USER_KEY) !== user) forgetAccount();
  write(USER_KEY, user);
}

const USER_KEY = "chatnode.user";

const memory = new Map<string, string>();

export function read(key: string): unknown {
  try {
    const text = memory.get(key) ?? localStorage.getItem(key);
    return text === null ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

/** Null removes the key. */
export function write(key: string, value: unknown): void {
  memory.delete(key);
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
  } catch {
    if (value !== null) memory.set(key, JSON.stringify(value));
  }
}

export function keysWith(prefix: string): string[] {
  try {
    return Object.keys(localStorage).filter(key => key.startsWith(prefix));
  } catch {
    return [];
  }
}
