import { lazy, Suspense, useEffect, useMemo, useState } from "react";
import { createI18n, I18nContext, type StringKey } from "../i18n/i18n";
import { useApp } from "../store/react";
import { Announcer } from "./Announcer";
import { useAppearance } from "./appearance";
import { ChatPage } from "./ChatPage";
import { NoticeBar } from "./NoticeBar";
import { Sidebar } from "./Sidebar";
import { useShortcuts } from "./shortcuts";

const ClusterPage = lazy(() => import("./ClusterPage"));
const Settings = lazy(() => import("./Settings"));
const SignIn = lazy(() => import("./SignIn").then(({ SignIn }) => ({ default: SignIn })));
const Shortcuts = lazy(() => import("./Shortcuts"));

export type DialogName = "settings" | "shortcuts";

/** `fault`: why one was not let in who comes back from the provider. */
export function App({ fault }: { fault: StringKey | null }) {
  const { preferences, language, setPreferences } = useAppearance();
  const i18n = useMemo(() => createI18n(language), [language]);
  const route = useApp(state => state.route);
  const [dialog, setDialog] = useState<DialogName | null>(null);
  const [drawer, setDrawer] = useState(false);
  const toggleSidebar = () => {
    if (matchMedia(NARROW).matches) setDrawer(open => !open);
    else setPreferences({ sidebar: !preferences.sidebar });
  };
  useEffect(() => {
    const narrow = matchMedia(NARROW);
    const onChange = () => setDrawer(false);
    narrow.addEventListener("change", onChange);
    return () => narrow.removeEventListener("change", onChange);
  }, []);
  useShortcuts({ toggleSidebar, showHelp: () => setDialog("shortcuts") });
  const signedOut = useApp(state => state.signedOut);
  if (signedOut) {
    return (
      <I18nContext value={i18n}>
        <Suspense>
          <SignIn sentBackWith={fault} />
        </Suspense>
      </I18nContext>
    );
  }
  return (
    <I18nContext value={i18n}>
      <div
        className="app"
        data-sidebar={preferences.sidebar ? "open" : "closed"}
        data-drawer={drawer ? "open" : "closed"}
      >
        <Sidebar
          drawer={drawer}
          wide={preferences.sidebar}
          onToggle={toggleSidebar}
          onLeave={() => setDrawer(false)}
          onDialog={setDialog}
        />
        <div className="beside" inert={drawer}>
          {route.page === "cluster" ? (
            <Suspense fallback={<main className="page" />}>
              <ClusterPage onToggleSidebar={toggleSidebar} />
            </Suspense>
          ) : (
            <ChatPage
              key={route.conversation ?? "new"}
              conversation={route.conversation}
              onToggleSidebar={toggleSidebar}
            />
          )}
        </div>
      </div>
      <NoticeBar />
      <Announcer />
      <Suspense>
        {dialog === "settings" && (
          <Settings preferences={preferences} onChange={setPreferences} onClose={() => setDialog(null)} />
        )}
        {dialog === "shortcuts" && <Shortcuts onClose={() => setDialog(null)} />}
      </Suspense>
    </I18nContext>
  );
}

/** Below this the list is a drawer above the page. The same width stands in layout.css. */
const NARROW = "(max-width: 800px)";
