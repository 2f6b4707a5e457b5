import { type FormEvent, useEffect, useRef, useState } from "react";
import { ApiError, api } from "../api";
import { type StringKey, useI18n } from "../i18n/i18n";
import type { LoginMethods } from "../protocol.gen";
import { adoptAccount } from "../store/preferences";
import { providerAddress } from "../store/provider";
import "../styles/fields.css";
import "../styles/signin.css";

/** Shown instead of everything else while nobody is signed in. The address stays, so one comes back to where one was. */
export function SignIn({ sentBackWith }: { sentBackWith: StringKey | null }) {
  const { t, error } = useI18n();
  const name = useRef<HTMLInputElement>(null);
  const [busy, setBusy] = useState(false);
  const [fault, setFault] = useState(sentBackWith === null ? null : t(sentBackWith));
  const [ways, setWays] = useState<LoginMethods | null>(null);
  useEffect(() => {
    const asked = new AbortController();
    api.ways(asked.signal).then(setWays, () => {
      if (!asked.signal.aborted) setWays({ methods: ["local"] });
    });
    return () => asked.abort();
  }, []);
  const elsewhere = ways?.methods.includes("oidc") ?? false;
  const here = ways?.methods.includes("local") ?? false;
  useEffect(() => {
    document.title = t("signIn");
  }, [t]);
  useEffect(() => {
    if (here) name.current?.focus();
  }, [here]);

  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget);
    setBusy(true);
    setFault(null);
    try {
      const me = await api.login(String(fields.get("name")), String(fields.get("password")));
      adoptAccount(me.user);
      // A fresh page: nothing of whoever was here before stays in memory.
      location.reload();
    } catch (reason) {
      setBusy(false);
      const code = reason instanceof ApiError ? reason.code : "other";
      setFault(
        code === "unauthorized"
          ? t("signInWrong")
          : code === "rate_limited"
            ? t("signInThrottled")
            : error(code),
      );
    }
  };

  return (
    <main className="signin">
      <form className="signin-form" onSubmit={event => void submit(event)} aria-labelledby="signin-title">
        <h1 id="signin-title">{t("signInTitle")}</h1>
        {ways && (
          <p className="field-hint">
            {t(here ? "signInText" : elsewhere ? "signInProviderText" : "signInRefused")}
          </p>
        )}
        {here && (
          <>
            <label className="field">
              <span className="field-name">{t("signInName")}</span>
              <input
                ref={name}
                name="name"
                type="text"
                autoComplete="username"
                autoCapitalize="none"
                spellCheck={false}
                required
              />
            </label>
            <label className="field">
              <span className="field-name">{t("signInPassword")}</span>
              <input name="password" type="password" autoComplete="current-password" required />
            </label>
          </>
        )}
        <p className="signin-fault" role="alert">
          {fault}
        </p>
        {here && (
          <button type="submit" className="primary" disabled={busy}>
            {busy ? t("signInBusy") : t("signIn")}
          </button>
        )}
        {elsewhere && (
          <a className={here ? "secondary" : "primary"} href={providerAddress(location.hash)}>
            {ways?.provider === undefined
              ? t("signInElsewhere")
              : t("signInWith", { provider: ways.provider })}
          </a>
        )}
      </form>
    </main>
  );
}
