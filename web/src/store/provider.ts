import type { StringKey } from "../i18n/i18n";

/** Signing in elsewhere: leaving for the provider, and what one is sent back with, `?login=WORD`. */

const FAULTS: Readonly<Record<string, StringKey>> = {
  denied: "signInDenied",
  expired: "signInExpired",
  unavailable: "signInUnavailable",
  refused: "signInRefused",
  throttled: "signInThrottled",
};

/** Why one was not let in. Anybody can write an address, so only sentences of ours are shown. */
export function sentBackWith(search: string): StringKey | null {
  const word = new URLSearchParams(search).get("login") ?? "";
  return Object.hasOwn(FAULTS, word) ? (FAULTS[word] ?? null) : null;
}

/** Where to go to sign in. `hash` is where one is, and comes back to. */
export function providerAddress(hash: string): string {
  return `/api/login/oidc?back=${encodeURIComponent(hash.replace(/^#/, "") || "/")}`;
}

export interface Person {
  /** Who is signed in now. */
  me(): Promise<{ readonly user: string; readonly name?: string }>;
  adopt(user: string): void;
  forget(): void;
}

/** Before anything that is remembered is read: whoever comes back from the provider may be somebody else than before. */
export async function comeBack(search: string, { me, adopt, forget }: Person): Promise<void> {
  if (new URLSearchParams(search).get("login") !== "done") return;
  try {
    const { user, name } = await me();
    // Where nobody signs in, anybody may write this address all the same.
    if (name !== undefined) adopt(user);
  } catch (reason) {
    // Nobody is signed in: then nobody sees it. Else it is not known whose it is.
    if ((reason as { status?: number }).status !== 401) forget();
  }
}
