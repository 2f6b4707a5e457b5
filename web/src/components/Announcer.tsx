import { useEffect, useRef, useState } from "react";
import { useI18n } from "../i18n/i18n";
import { useApp } from "../store/react";
import { openConversation } from "../store/route";

/** One polite voice for those who do not see the page: that an answer began, how it ended, that the link broke. The
 *  tokens themselves are not read out; the log is there to be read at the listener's own pace. */
export function Announcer() {
  const { t, error } = useI18n();
  const [said, setSaid] = useState("");
  const last = useApp(state => {
    const open = openConversation(state.route);
    const leaf = open === null ? undefined : state.chat.threads[open]?.path.at(-1);
    return leaf === undefined ? undefined : state.chat.messages[leaf];
  });
  const begun = useApp(state => {
    const generation = last?.generation === undefined ? undefined : state.chat.generations[last.generation];
    return generation !== undefined && (generation.textBytes > 0 || generation.reasoningBytes > 0);
  });
  const online = useApp(state => state.link.phase === "online");
  const sending = useApp(state => state.chat.pending.length > 0);
  const before = useRef({ id: last?.id, status: last?.status, begun, online, linked: online, sending });
  useEffect(() => {
    const was = before.current;
    const status = last?.status;
    before.current = { id: last?.id, status, begun, online, linked: was.linked || online, sending };
    if (was.linked && was.online !== online) setSaid(online ? t("saidOnline") : t("saidReconnecting"));
    const another = last?.id !== was.id;
    // Another conversation, or another branch of this one, is no news; the answer to what was just sent is.
    if (another && !(was.sending && last?.role === "assistant")) return;
    // What is said twice is heard twice only if there was silence in between.
    if (another) setSaid("");
    if (begun && (another || !was.begun)) setSaid(t("saidStarted"));
    if (!another && status === was.status) return;
    if (status === "completed") setSaid(t("saidCompleted"));
    if (status === "cancelled") setSaid(t("saidCancelled"));
    if (status === "interrupted") setSaid(t("saidInterrupted"));
    if (status === "failed") setSaid(t("saidFailed", { reason: error(last?.error?.code ?? "unknown") }));
  }, [last, begun, online, sending, t, error]);
  return (
    <div className="visually-hidden" role="status" aria-live="polite" data-testid="announcer">
      {said}
    </div>
  );
}
