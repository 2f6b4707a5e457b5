import { createContext, useContext, useSyncExternalStore } from "react";
import type { AppState } from "./core";
import type { Store } from "./store";

export const StoreContext = createContext<Store | null>(null);

export function useStore(): Store {
  const store = useContext(StoreContext);
  if (store === null) throw new Error("rendered outside of the store");
  return store;
}

/** A part of the state. `select` returns something that is in the state, so that the same state gives the same value. */
export function useApp<T>(select: (state: AppState) => T): T {
  const store = useStore();
  return useSyncExternalStore(store.subscribe, () => select(store.get()));
}
