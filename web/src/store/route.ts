/** Addresses live behind the `#`, so that any static server, and a reload anywhere, finds the page. */
export type Route =
  | { readonly page: "chat"; readonly conversation: string | null }
  | { readonly page: "cluster" };

export function parseRoute(hash: string): Route {
  const path = hash.replace(/^#\/?/, "");
  if (path === "cluster") return { page: "cluster" };
  const found = /^c\/([\w-]+)$/.exec(path);
  return { page: "chat", conversation: found?.[1] ?? null };
}

export function routeAddress(route: Route): string {
  if (route.page === "cluster") return "#/cluster";
  return route.conversation === null ? "#/" : `#/c/${route.conversation}`;
}

export function openConversation(route: Route): string | null {
  return route.page === "chat" ? route.conversation : null;
}
