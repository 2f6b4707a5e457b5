import { siblingsOf } from "../chat/thread";
import { useI18n } from "../i18n/i18n";
import type { Message } from "../protocol.gen";
import { useApp, useStore } from "../store/react";
import { Icon } from "./Icon";
import { keepFocus } from "./shortcuts";

/** `‹ 2/3 ›`: the alternatives of a question or an answer. */
export function Branches({ message }: { message: Message }) {
  const { t } = useI18n();
  const store = useStore();
  const thread = useApp(state => state.chat.threads[message.conversation]);
  const siblings = thread ? siblingsOf(thread, message) : [message.id];
  const at = siblings.indexOf(message.id);
  if (siblings.length < 2 || at < 0) return null;
  const choose = async (step: -1 | 1) => {
    const to = siblings[at + step];
    if (to === undefined) return;
    await store.choose(message.conversation, to);
    keepFocus(() => {
      const [back, forth] = document.querySelectorAll<HTMLButtonElement>(
        `[data-message="${to}"] .branches button`,
      );
      const [same, other] = step < 0 ? [back, forth] : [forth, back];
      return same?.disabled ? other : same;
    });
  };
  return (
    <fieldset className="branches" aria-label={t("branch", { n: at + 1, count: siblings.length })}>
      <button
        type="button"
        className="icon-button"
        disabled={at === 0}
        aria-label={t("previousBranch")}
        onClick={() => void choose(-1)}
      >
        <Icon name="left" size={16} />
      </button>
      <span>
        {at + 1}/{siblings.length}
      </span>
      <button
        type="button"
        className="icon-button"
        disabled={at === siblings.length - 1}
        aria-label={t("nextBranch")}
        onClick={() => void choose(1)}
      >
        <Icon name="right" size={16} />
      </button>
    </fieldset>
  );
}
