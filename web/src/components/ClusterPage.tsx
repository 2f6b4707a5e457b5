import { useEffect, useState } from "react";
import { ApiError } from "../api";
import { useI18n } from "../i18n/i18n";
import type { ClusterView, NodeInfo } from "../protocol.gen";
import { useStore } from "../store/react";
import "../styles/cluster.css";
import { Header } from "./Header";
import { modelName } from "./models";

const REFRESH_MS = 1_500;
/** A node that has not been heard for longer than this is shown as silent. */
const SILENT_MS = 6_000;

type Seen = { readonly view: ClusterView | null; readonly error: string | null; readonly at: number };

export default function ClusterPage({ onToggleSidebar }: { onToggleSidebar: () => void }) {
  const { t, error, number } = useI18n();
  const { view, error: problem, at } = useCluster();
  const nodes = view?.nodes ?? [];
  const gateways = nodes.filter(node => node.roles.includes("gateway"));
  const workers = nodes.filter(node => node.roles.includes("ai"));
  const alone = nodes.length === 1;
  return (
    <main className="page">
      <Header title={t("clusterTitle")} onToggleSidebar={onToggleSidebar} />
      <div className="cluster">
        {problem !== null && (
          <p className="ending" data-kind="failed" role="alert">
            {problem === "unauthorized" || problem === "forbidden" ? t("clusterForbidden") : error(problem)}
          </p>
        )}
        {view !== null && (
          <>
            <p className="cluster-summary">
              {alone ? t("clusterOne") : t("clusterNodes", { count: nodes.length })}
              {" · "}
              {t("clusterConnections", { count: number(sum(gateways, node => node.connections)) })}
              {" · "}
              {t("clusterRunning", {
                running: number(sum(workers, node => node.running)),
                capacity: number(sum(workers, node => node.capacity)),
              })}
            </p>
            <div className="cluster-picture">
              <Column title={t("clusterGateways")}>
                {gateways.map(node => (
                  <NodeCard key={node.id} node={node} as="gateway" here={node.id === view.node} at={at} />
                ))}
              </Column>
              <Flow gateways={gateways} workers={workers} at={at} />
              <Column title={t("clusterWorkers")}>
                {workers.map(node => (
                  <NodeCard key={node.id} node={node} as="ai" here={false} at={at} />
                ))}
              </Column>
            </div>
            <section className="cluster-queue" aria-label={t("clusterQueue")}>
              <h2>{t("clusterQueue")}</h2>
              {view.waiting.every(line => line.count === 0) && <p>{t("clusterQueueEmpty")}</p>}
              <ul>
                {view.waiting
                  .filter(line => line.count > 0)
                  .map(line => (
                    <li key={line.model}>
                      <span>{line.model}</span>
                      <strong>{number(line.count)}</strong>
                      <span
                        className="queue-bar"
                        style={{ "--count": Math.min(line.count, 50) } as React.CSSProperties}
                      />
                    </li>
                  ))}
              </ul>
            </section>
          </>
        )}
      </div>
    </main>
  );
}

function sum(nodes: readonly NodeInfo[], of: (node: NodeInfo) => number): number {
  return nodes.reduce((total, node) => total + of(node), 0);
}

function Column({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <section className="cluster-column" aria-label={title}>
      <h2>{title}</h2>
      <div className="cluster-nodes">{children}</div>
    </section>
  );
}

interface CardProps {
  readonly node: NodeInfo;
  readonly as: "gateway" | "ai";
  readonly here: boolean;
  readonly at: number;
}

function NodeCard({ node, as: role, here, at }: CardProps) {
  const { t, number, duration } = useI18n();
  const silent = silence(node, at);
  const state = silent > SILENT_MS ? "silent" : node.draining ? "draining" : "up";
  const load = role === "ai" && node.capacity > 0 ? Math.min(1, node.running / node.capacity) : 0;
  return (
    <article className="node" data-state={state}>
      <header>
        <span className="node-dot" aria-hidden="true" />
        <h3>{node.id}</h3>
        {here && <span className="node-tag">{t("clusterYou")}</span>}
        {state === "draining" && <span className="node-tag warn">{t("clusterDraining")}</span>}
        {state === "silent" && (
          <span className="node-tag warn">{t("clusterSilent", { time: duration(silent) })}</span>
        )}
      </header>
      <p className="node-load">
        {role === "gateway"
          ? t("clusterConnections", { count: number(node.connections) })
          : t("clusterRunning", { running: number(node.running), capacity: number(node.capacity) })}
      </p>
      {role === "ai" && (
        <div className="node-bar" aria-hidden="true">
          <span style={{ transform: `scaleX(${load})` }} />
        </div>
      )}
      {role === "ai" && node.models.length > 0 && (
        <p className="node-models">{node.models.map(model => modelName(model, t)).join(", ")}</p>
      )}
      <p className="node-meta">
        {node.version} · {t("clusterUp", { time: duration(Math.max(0, at - Date.parse(node.started_at))) })}
      </p>
    </article>
  );
}

const silence = (node: NodeInfo, at: number) => at - Date.parse(node.seen_at);

/** Tokens on their way from the nodes that write to those that people are connected to: the more a node has to do, the
 *  closer its dots. Nothing comes from a silent one. */
function Flow({
  gateways,
  workers,
  at,
}: Record<"gateways" | "workers", readonly NodeInfo[]> & { at: number }) {
  const middle = (i: number, of: readonly NodeInfo[]) => (100 * (i + 0.5)) / of.length;
  const lives = (node: NodeInfo) => silence(node, at) <= SILENT_MS;
  return (
    <svg className="flow" viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">
      {workers.map((worker, w) =>
        gateways.map((gateway, g) => {
          const path = `M100 ${middle(w, workers)} C 50 ${middle(w, workers)} 50 ${middle(g, gateways)} 0 ${middle(g, gateways)}`;
          const flows = worker.running > 0 && lives(worker) && lives(gateway) && gateway.connections > 0;
          const load = Math.min(1, worker.running / Math.max(1, worker.capacity));
          const gap = Math.round(26 - 18 * Math.sqrt(load));
          return (
            <g key={`${worker.id} ${gateway.id}`}>
              <path className="flow-rest" d={path} />
              {flows && (
                <path
                  className="flow-line"
                  d={path}
                  style={
                    { strokeDasharray: `1 ${gap}`, "--step": `${-4 * (gap + 1)}px` } as React.CSSProperties
                  }
                />
              )}
            </g>
          );
        }),
      )}
    </svg>
  );
}

function useCluster(): Seen {
  const store = useStore();
  const [seen, setSeen] = useState<Seen>({ view: null, error: null, at: Date.now() });
  useEffect(() => {
    const abort = new AbortController();
    // By how much this clock is ahead of the one that the figures are by.
    let ahead = 0;
    const look = async () => {
      if (document.visibilityState !== "visible") return;
      try {
        const view = await store.cluster(abort.signal);
        ahead = Date.now() - Date.parse(view.now);
        setSeen({ view, error: null, at: Date.now() - ahead });
      } catch (problem) {
        if (abort.signal.aborted) return;
        const code = problem instanceof ApiError ? problem.code : "unavailable";
        setSeen(before => ({ ...before, error: code, at: Date.now() - ahead }));
      }
    };
    void look();
    const timer = setInterval(look, REFRESH_MS);
    return () => {
      clearInterval(timer);
      abort.abort();
    };
  }, [store]);
  return seen;
}
