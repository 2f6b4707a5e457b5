import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { api } from "./api";
import { App } from "./components/App";
import { adoptAccount, forgetAccount } from "./store/preferences";
import { comeBack, sentBackWith } from "./store/provider";
import { StoreContext } from "./store/react";
import { createStore } from "./store/store";
import "./styles/tokens.css";
import "./styles/controls.css";
import "./styles/layout.css";
import "./styles/sidebar.css";
import "./styles/thread.css";
import "./styles/answer.css";
import "./styles/composer.css";
import "./styles/markdown.css";
import "./styles/code.css";
import "./styles/notices.css";
import "./styles/hover.css";
// Last, since it takes back what the others say.
import "./styles/media.css";

void comeBack(location.search, { me: () => api.me(), adopt: adoptAccount, forget: forgetAccount }).then(show);

function show(): void {
  const root = document.getElementById("root");
  if (root === null) throw new Error("the page has no root");

  // Said once; the door has its sentence.
  const fault = sentBackWith(location.search);
  if (location.search !== "") history.replaceState(history.state, "", location.pathname + location.hash);

  const store = createStore();
  // For the browser's console, and for tests that compare what is held byte by byte.
  Object.assign(window, { chatnode: { state: store.get } });

  createRoot(root).render(
    <StrictMode>
      <StoreContext value={store}>
        <App fault={fault} />
      </StoreContext>
    </StrictMode>,
  );
}
