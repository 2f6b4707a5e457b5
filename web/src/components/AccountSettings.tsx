import { type FormEvent, useEffect, useState } from "react";
import { ApiError, api } from "../api";
import { useI18n } from "../i18n/i18n";
import { CopyButton } from "../markdown/CodeBlock";
import type { ApiKey, Me, NewApiKey } from "../protocol.gen";
import { forgetAccount } from "../store/preferences";

/** Who is signed in, the way out, and keys for programs. Nothing where nobody signs in. */
export function AccountSettings() {
  const { t } = useI18n();
  const [me, setMe] = useState<Me | null>(null);
  useEffect(() => {
    const asked = new AbortController();
    api.me(asked.signal).then(setMe, () => {});
    return () => asked.abort();
  }, []);
  if (me?.name === undefined) return null;

  const leave = async () => {
    try {
      await api.logout();
    } finally {
      forgetAccount();
      // Before the page is loaded anew: a navigation of its own would lose against the reload on a slow machine, and who comes
      // next would find an address of who has left.
      history.replaceState(null, "", "/");
      location.reload();
    }
  };
  return (
    <>
      <div className="field">
        <span className="field-name">{t("account")}</span>
        <div className="account-row">
          <span className="account-name">{me.name}</span>
          {me.admin && <span className="field-hint">{t("accountAdmin")}</span>}
          <button type="button" className="secondary" onClick={() => void leave()}>
            {t("signOut")}
          </button>
        </div>
      </div>
      <ApiKeys />
    </>
  );
}

function ApiKeys() {
  const { t, error } = useI18n();
  const [keys, setKeys] = useState<readonly ApiKey[]>([]);
  const [made, setMade] = useState<NewApiKey | null>(null);
  const [fault, setFault] = useState<string | null>(null);
  useEffect(() => {
    const asked = new AbortController();
    api.keys(asked.signal).then(
      list => setKeys(list.items),
      () => {},
    );
    return () => asked.abort();
  }, []);

  const carryOut = async (what: () => Promise<void>) => {
    setFault(null);
    try {
      await what();
    } catch (reason) {
      setFault(error(reason instanceof ApiError ? reason.code : "other"));
    }
  };
  const create = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = event.currentTarget;
    const label = String(new FormData(form).get("label")).trim();
    if (label === "") return;
    void carryOut(async () => {
      const key = await api.createKey(label);
      setMade(key);
      setKeys(held => [...held, key]);
      form.reset();
    });
  };
  const revoke = (id: string) =>
    void carryOut(async () => {
      await api.revokeKey(id);
      setKeys(held => held.filter(key => key.id !== id));
      setMade(shown => (shown?.id === id ? null : shown));
    });

  return (
    <section className="field" aria-labelledby="keys-title">
      <h3 className="field-name" id="keys-title">
        {t("apiKeys")}
      </h3>
      <span className="field-hint">{t("apiKeysHint")}</span>
      {keys.length > 0 && (
        <ul className="key-list">
          {keys.map(key => (
            <li key={key.id}>
              <span className="account-name" title={key.label}>
                {key.label}
              </span>
              <button
                type="button"
                className="secondary"
                aria-label={t("apiKeyRevokeNamed", { label: key.label })}
                onClick={() => revoke(key.id)}
              >
                {t("apiKeyRevoke")}
              </button>
            </li>
          ))}
        </ul>
      )}
      {made && (
        <div className="key-made" role="status">
          <span>{t("apiKeyOnce")}</span>
          <code>{made.key}</code>
          <CopyButton text={made.key} label={t("copyKey")} />
        </div>
      )}
      <form className="account-row" onSubmit={create}>
        <input
          name="label"
          type="text"
          maxLength={100}
          required
          aria-label={t("apiKeyLabel")}
          placeholder={t("apiKeyLabel")}
        />
        <button type="submit" className="secondary">
          {t("apiKeyCreate")}
        </button>
      </form>
      {fault && (
        <p className="signin-fault" role="alert">
          {fault}
        </p>
      )}
    </section>
  );
}
