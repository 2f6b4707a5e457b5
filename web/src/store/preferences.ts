import type { Options } from "../protocol.gen";

/** What this browser remembers. Storage may be missing or full (private windows): then it is remembered until reload. */
export interface Preferences {
  readonly language: "vi" | "en" | "system";
  readonly theme: "dark" | "light" | "system";
  readonly model: string | null;
  readonly sidebar: boolean;
}

const KEY = "chatnode.preferences";

const DEFAULTS: Preferences = { language: "system", theme: "system", model: null, sidebar: true };

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

export function loadOptions(conversation: string | null): Options {
  return (read(optionsKey(conversation)) as Options | null) ?? {};
}

export function saveOptions(conversation: string | null, options: Options): void {
  write(optionsKey(conversation), Object.keys(options).length === 0 ? null : options);
}

function optionsKey(conversation: string | null): string {
  return `chatnode.options.${conversation ?? "new"}`;
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
  write(optionsKey(conversation), null);
}

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
