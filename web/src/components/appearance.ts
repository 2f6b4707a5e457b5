import { useCallback, useEffect, useState } from "react";
import type { Language } from "../i18n/i18n";
import { loadPreferences, type Preferences, resolveLanguage, savePreferences } from "../store/preferences";

/** Language and theme: chosen here, or those of the browser and the system. */
export function useAppearance(): {
  preferences: Preferences;
  language: Language;
  setPreferences: (change: Partial<Preferences>) => void;
} {
  const [preferences, set] = useState(loadPreferences);
  const language = resolveLanguage(preferences.language, navigator.languages);
  const setPreferences = useCallback((change: Partial<Preferences>) => {
    set(before => {
      const after = { ...before, ...change };
      savePreferences(after);
      return after;
    });
  }, []);
  useEffect(() => {
    document.documentElement.lang = language;
  }, [language]);
  useEffect(() => {
    const root = document.documentElement;
    if (preferences.theme === "system") delete root.dataset.theme;
    else root.dataset.theme = preferences.theme;
    // The bars of a phone around the page.
    const bars = document.querySelectorAll<HTMLMetaElement>('meta[name="theme-color"]');
    for (const [i, theme] of (["light", "dark"] as const).entries()) {
      const bar = bars[i];
      if (!bar) continue;
      const chosen = preferences.theme === theme ? "all" : "not all";
      bar.media = preferences.theme === "system" ? `(prefers-color-scheme: ${theme})` : chosen;
    }
  }, [preferences.theme]);
  return { preferences, language, setPreferences };
}
