import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./components/App";
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
import "./styles/notices.css";

const root = document.getElementById("root");
if (root === null) throw new Error("the page has no root");

const store = createStore();
// For the browser's console, and for tests that compare what is held byte by byte.
Object.assign(window, { chatnode: { state: store.get } });

createRoot(root).render(
  <StrictMode>
    <StoreContext value={store}>
      <App />
    </StoreContext>
  </StrictMode>,
);
