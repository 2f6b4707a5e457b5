#!/usr/bin/env node
// Holds the dashboard, the alerts and their documents together.
//
//   scripts/monitoring.mjs check            the files fit each other, and promtool finds nothing wrong with them
//   scripts/monitoring.mjs queries [URL]    asks a Prometheus (http://127.0.0.1:9090) everything that the dashboard asks, and
//                                           tells what has no answer; `scripts/cluster up prometheus` starts one
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const read = path => readFileSync(join(root, path), "utf8");
const dashboard = JSON.parse(read("config/grafana/dashboards/chatnode.json"));
const rows = ["Overview", "Streaming", "Gateway", "Workers", "Model", "Store and backplane", "History", "Runtime"];

/** What a panel asks, with Grafana's own words replaced as Grafana would. */
function queries() {
  let row = "";
  return dashboard.panels.flatMap(panel => {
    if (panel.type === "row") row = panel.title;
    return (panel.targets ?? []).map(({ expr }) => ({
      panel: `${row}: ${panel.title}`,
      query: expr.replaceAll("$__rate_interval", "1m").replaceAll("$node", ".*"),
    }));
  });
}

function check() {
  const complaints = [];
  const expect = (holds, otherwise) => holds || complaints.push(otherwise);
  const titles = dashboard.panels.filter(panel => panel.type === "row").map(panel => panel.title);
  expect(`${titles}` === `${rows}`, `the dashboard's rows are ${titles}, not ${rows}`);
  const ids = dashboard.panels.map(panel => panel.id);
  expect(new Set(ids).size === ids.length, "two panels have one id");
  const source = read("config/grafana/provisioning/datasources/prometheus.yml").match(/uid: (\w+)/)?.[1];
  const panels = dashboard.panels.filter(panel => panel.type !== "row");
  for (const panel of panels) {
    expect(panel.datasource.uid === source, `${panel.title} asks a source that is not provisioned`);
    expect(panel.targets.length > 0, `${panel.title} asks nothing`);
    const { x, w } = panel.gridPos;
    expect(x + w <= 24, `${panel.title} is too wide`);
  }
  // A metric that nobody reports would leave a panel empty for ever.
  const parts = readdirSync(join(root, "src/telemetry")).filter(name => name !== "tests.rs").map(name => `src/telemetry/${name}`);
  const told = ["src/telemetry.rs", ...parts].map(read).join("\n");
  for (const { panel, query } of queries()) {
    const names = query.match(/\b(chatnode|process|tokio|gen_ai)_\w+/g) ?? [];
    for (const name of names.filter(name => !/^gen_ai_(token_type|request_model)$/.test(name))) {
      const plain = name.replace(/^chatnode_/, "").replace(/_(total|bucket|count|sum)$/, "");
      expect(told.includes(`"${plain}"`), `${panel}: no node reports ${name}`);
    }
  }
  const rules = read("config/prometheus/alerts.yml");
  const [guide, tests] = [read("docs/operations.md"), read("config/prometheus/alerts_test.yml")];
  for (const [, alert] of rules.matchAll(/alert: (\w+)/g)) {
    expect(guide.includes(`\`${alert}\``), `docs/operations.md does not say what to do about ${alert}`);
    const tried = [...tests.matchAll(new RegExp(`alertname: ${alert}\\n( +)exp_alerts:(.*)`, "g"))].map(found => found[2].trim());
    expect(tried.includes("") && tried.includes("[]"), `${alert} is not tried both ways in alerts_test.yml`);
  }
  const folder = join(root, "config/prometheus");
  for (const args of [["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]]) {
    try {
      execFileSync("promtool", args, { cwd: folder, stdio: "pipe", encoding: "utf8" });
    } catch (error) {
      complaints.push(`promtool ${args.join(" ")}: ${error.stdout ?? ""}${error.stderr ?? error.message}`);
    }
  }
  for (const complaint of complaints) console.error(complaint);
  console.log(`${complaints.length} complaints about ${panels.length} panels and ${rules.match(/alert:/g).length} alerts`);
  return complaints.length === 0;
}

async function ask(url = "http://127.0.0.1:9090") {
  let empty = 0;
  for (const { panel, query } of queries()) {
    const answer = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(query)}`);
    const body = await answer.json();
    const values = (body.data?.result ?? []).filter(series => series.value[1] !== "NaN");
    if (values.length === 0) empty += 1;
    const said = body.error ?? values.slice(0, 3).map(series => Number(series.value[1]).toPrecision(3)).join(" ");
    console.log(`${values.length > 0 ? "  " : "! "}${String(values.length).padStart(3)}  ${panel.padEnd(48)} ${said}`);
  }
  console.log(`${empty} queries have no answer`);
  return empty === 0;
}

const [command, url] = process.argv.slice(2);
const commands = { check, queries: () => ask(url) };
if (!(command in commands)) {
  console.error("scripts/monitoring.mjs check | queries [URL]");
  process.exit(64);
}
process.exitCode = (await commands[command]()) ? 0 : 1;
