import type { ClusterView, NodeInfo } from "../src/protocol.gen";

/** A cluster with everything in it that the page can show. */
export function busyCluster(): ClusterView {
  const now = Date.now();
  const node = (id: string, role: "gateway" | "ai", more: Partial<NodeInfo>): NodeInfo => ({
    id,
    roles: [role],
    version: "0.1.0",
    started_at: new Date(now - 7_500_000).toISOString(),
    seen_at: new Date(now).toISOString(),
    draining: false,
    connections: 0,
    running: 0,
    capacity: role === "ai" ? 64 : 0,
    models: role === "ai" ? [{ id: "demo", name: "Demo", provider: "demo", demo: true, default: true }] : [],
    ...more,
  });
  return {
    node: "gateway-1",
    now: new Date(now).toISOString(),
    nodes: [
      node("gateway-1", "gateway", { connections: 4_210 }),
      node("gateway-2", "gateway", { connections: 3_977 }),
      node("gateway-3", "gateway", { connections: 12, draining: true }),
      node("ai-1", "ai", { running: 64 }),
      node("ai-2", "ai", { running: 23 }),
      node("ai-3", "ai", { seen_at: new Date(now - 20_000).toISOString() }),
    ],
    waiting: [{ model: "demo", count: 17 }],
  };
}
