//! Whole nodes in this process, each on a runtime of its own, so that one can die as a process does: at once, telling nobody.
//! It must not know what is tested.

use std::net::SocketAddr;
use std::time::Duration;

use chatnode::backend::{Backends, embedded};
use chatnode::config::{self, Command, Config, DataDir, Deadlines, ModelConfig, ModelSource, ProviderKind, UpstreamConfig};
use chatnode::drain::Drain;
use chatnode::node;
use chatnode::serve::Listeners;
use chatnode::telemetry::Metrics;
use tokio::runtime::Runtime;

/// How long a node that is silent keeps its work.
pub(crate) const LEASE: Duration = Duration::from_millis(500);
const RENEWAL: Duration = Duration::from_millis(100);
const HEARTBEAT: Duration = Duration::from_millis(100);

/// A node that serves. Dropped, it is gone without a word.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    /// Where operators ask, if not at the same address.
    pub(crate) admin: Option<SocketAddr>,
    node: Option<node::Node>,
    drain: Drain,
    runtime: Option<Runtime>,
}

/// What a node is told unless a scenario wants something else: the demonstration model alone, and a short lease.
pub(crate) fn config(name: &str) -> Config {
    let args = ["chatnode", "--listen", "127.0.0.1:0", "--data-dir", ":memory:", "--node-id", name];
    let Ok(Command::Run(config)) = config::load(args, []) else { panic!("a configuration") };
    let mut config = *config;
    config.gateway.heartbeat = HEARTBEAT;
    config.ai.lease = LEASE;
    config.ai.renewal = RENEWAL;
    config.ai.models = ModelSource::Configured(vec![model("demo")]);
    config
}

/// The demonstration model under a name.
pub(crate) fn model(id: &str) -> ModelConfig {
    let minute = Duration::from_secs(60);
    ModelConfig {
        id: id.to_owned(),
        name: id.to_owned(),
        context_tokens: None,
        max_tokens: None,
        max_tokens_cap: None,
        admin_only: false,
        deadlines: Deadlines { connect: minute, first_token: minute, idle: minute, total: minute },
        upstreams: vec![UpstreamConfig {
            provider: ProviderKind::Demo,
            base_url: String::new(),
            api_key: None,
            model: id.to_owned(),
            continuation: None,
        }],
    }
}

/// An embedded world that any number of nodes may share; it lives as long as its tasks' drain is held.
pub(crate) fn world() -> Backends {
    embedded::open(&embedded::Options::new(DataDir::Memory, LEASE), &Drain::new()).expect("a world in memory")
}

impl Node {
    pub(crate) async fn start(name: &str, backends: &Backends) -> Self {
        Self::with(config(name), backends).await
    }

    pub(crate) async fn with(config: Config, backends: &Backends) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime for the node");
        let (drain, backends) = (Drain::new(), backends.clone());
        let told = drain.clone();
        let starting = runtime.spawn(async move {
            let listeners = Listeners::bind(config.listen, &config.http, &told).await.expect("a free port");
            node::start(config, backends, listeners, told, Metrics::new()).await
        });
        let node = starting.await.expect("the node starts");
        Self { address: node.address, admin: node.admin, node: Some(node), drain, runtime: Some(runtime) }
    }

    /// As SIGHUP does.
    pub(crate) fn look_at_certificate(&self) {
        self.node.as_ref().expect("it runs").look_at_certificate();
    }

    /// Takes nothing new from now on; what runs goes on.
    pub(crate) fn drain(&self) {
        self.drain.draining().cancel();
    }

    /// Leaves in good order.
    pub(crate) async fn leave(mut self, grace: Duration) {
        let node = self.node.take().expect("it runs");
        let runtime = self.runtime.as_ref().expect("it runs");
        runtime.spawn(node.leave(grace)).await.expect("the node leaves");
    }

    /// As `kill -9` would: every task stops where it stands, every socket closes, no lease is given back.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
