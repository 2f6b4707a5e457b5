//! One process, put together: backends, roles, readiness, and leaving. The only file that sees everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::ai::provider::catalog::Catalog;
use crate::ai::worker::Worker;
use crate::backend::{Backends, Cluster, cluster, embedded, history, measured};
use crate::config::{AuthConfig, Config, Deployment, HttpConfig, LoginConfig, ModelSource, Roles};
use crate::drain::Drain;
use crate::gateway::Gateway;
use crate::model::{NodeInfo, Time};
use crate::probes::{self, Probes, Ready};
use crate::serve::{self, Certificate, Listeners};
use crate::telemetry::{Metrics, otlp};

/// How often a node tells the others that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The same while a gateway knows nobody who runs models.
const EAGER: Duration = Duration::from_millis(200);
/// How long a start waits for the first look at models and nodes, so that the first request finds them.
const SETTLE: Duration = Duration::from_secs(1);
/// How long people who were asked to go to another node are waited for: they come there spread over two seconds.
const MOVE_MAX: Duration = Duration::from_secs(3);
/// How long the last words of an answer may take from the store to the socket.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long tasks may take to notice that the node stops.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why a node could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Listen(#[from] serve::Error),
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
    #[error(transparent)]
    Cluster(#[from] cluster::OpenError),
    #[error(transparent)]
    History(#[from] history::OpenError),
    #[error("can't wait for signals: {0}")]
    Signals(std::io::Error),
    #[error("the runtime could not be started: {0}")]
    Runtime(std::io::Error),
}

impl Error {
    /// What was configured can't be meant: nothing gets better by starting again.
    #[must_use]
    pub fn is_of_configuration(&self) -> bool {
        matches!(self, Self::Cluster(_) | Self::History(_))
    }
}

/// What may be meant, and mostly is a slip.
fn tell_slips(config: &Config, backends: &Backends, drain: &Drain) {
    if config.roles != Roles::BOTH && matches!(config.deployment, Deployment::Embedded(_)) {
        tracing::warn!(
            "one half of a node, alone with storage of its own, answers nobody: a cluster needs --redis-url and --nats-url"
        );
    }
    match &config.gateway.auth {
        AuthConfig::Login(LoginConfig { local: true, jwt: None, oidc: None, .. }) if config.roles.gateway() => {
            let (accounts, mut health) = (backends.accounts.clone(), backends.health.clone());
            let stopped = drain.stopped().clone();
            drain.spawn("look for accounts", async move {
                // A store that is far away can't say at once.
                let found = async {
                    health.wait_for(|health| health.store.is_up()).await.ok()?;
                    accounts.list(None, 1).await.ok()
                };
                let found = tokio::select! {
                    () = stopped.cancelled() => None,
                    found = found => found,
                };
                if found.is_some_and(|accounts| accounts.is_empty()) {
                    tracing::warn!("nobody can log in yet: `chatnode user add NAME --admin` makes an account");
                }
            });
        }
        AuthConfig::Login(_) => {}
        AuthConfig::Anonymous => {
            let models: &[_] = if let ModelSource::Configured(models) = &config.ai.models { models } else { &[] };
            if models.iter().any(|model| model.admin_only) && !config.gateway.admin_apart {
                tracing::warn!("where nobody logs in everybody is an admin, and has the models that are for admins alone");
            }
        }
    }
}

/// Runs a node until a signal ends it: the first one drains, the second one stops at once.
///
/// # Errors
/// What kept it from starting.
pub async fn run(config: Config) -> Result<(), Error> {
    let mut signals = Signals::new().map_err(Error::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    let drain = Drain::new();
    let listeners = Listeners::bind(config.listen, &config.http, &drain).await?;
    let metrics = Metrics::new();
    let backends = open(&config, &drain, &metrics).await?;
    tell_slips(&config, &backends, &drain);
    let grace = config.drain;
    let node = start(config, backends, listeners, drain, metrics).await;
    tracing::info!(address = %node.address, admin = node.admin.map(tracing::field::display), "ready");
    loop {
        tokio::select! {
            () = signals.next() => break,
            _ = hangup.recv() => node.look_at_certificate(),
        }
    }
    tracing::info!(running = node.running(), "draining");
    tokio::select! {
        () = node.leave(grace) => tracing::info!("left"),
        () = signals.next() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

/// [`run`] on a runtime of its own.
///
/// # Errors
/// As [`run`].
pub fn block_on(config: Config) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let outcome = runtime.block_on(run(config));
    // What still runs was told to stop, and had its time.
    runtime.shutdown_background();
    outcome
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

pub(crate) async fn open(config: &Config, drain: &Drain, metrics: &Metrics) -> Result<Backends, Error> {
    match &config.deployment {
        Deployment::Embedded(data_dir) => Ok(embedded::open(&embedded::Options::new(data_dir.clone(), config.ai.lease), drain)?),
        Deployment::Cluster { redis_url, nats_url, prefix, events_stream, history } => {
            let options = cluster::Options {
                redis_url: redis_url.clone(),
                nats_url: nats_url.clone(),
                prefix: prefix.clone(),
                events_stream: events_stream.clone(),
                lease: config.ai.lease,
                node_id: config.node_id.clone(),
                retention: cluster::Retention::default(),
                drain: drain.clone(),
                dropped: cluster::Dropped::told_to(metrics.clone()),
            };
            match history {
                None => Ok(cluster::open(options).await?),
                Some(config) => {
                    let history = history::Options::new(config.url.clone(), config.keep, metrics.clone());
                    Ok(history::open(options, history).await?)
                }
            }
        }
    }
}

/// A node that serves.
#[derive(Debug)]
pub struct Node {
    pub address: SocketAddr,
    /// Where operators ask, if not at the same address.
    pub admin: Option<SocketAddr>,
    certificate: Option<Certificate>,
    drain: Drain,
    worker: Option<Worker>,
    gateway: Option<Gateway>,
}

/// Starts the roles on their listeners. The same for `main` and for every test.
pub async fn start(config: Config, backends: Backends, listeners: Listeners, drain: Drain, metrics: Metrics) -> Node {
    let address = listeners.public.local_addr().unwrap_or(config.listen);
    let admin = listeners.admin.as_ref().and_then(|listener| listener.local_addr().ok());
    let certificate = listeners.certificate.clone();
    let metrics = metrics.tracing(otlp::start(config.traces.as_ref(), &config.node_id, &drain));
    let backends = measured(backends, &metrics);
    let ready = Ready::default();
    let worker = config.roles.ai().then(|| {
        let catalog = Catalog::start(&config.ai, &metrics, &drain);
        let worker = Worker::new(&config.node_id, config.ai.clone(), backends.clone(), catalog, drain.clone(), metrics.clone());
        drain.spawn("worker", worker.clone().run());
        worker
    });
    let (cluster, nodes) = watch::channel(Arc::new(Cluster::default()));
    let gateway = config.roles.gateway().then(|| {
        Gateway::new(&config.node_id, config.gateway.clone(), backends.clone(), nodes.clone(), drain.clone(), metrics.clone())
    });
    let registration = Registration {
        me: NodeInfo {
            id: config.node_id.clone(),
            roles: config.roles.names(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: false,
            started_at: Time::now(),
            seen_at: Time::now(),
            connections: 0,
            running: 0,
            capacity: 0,
            models: Vec::new(),
        },
        backends: backends.clone(),
        worker: worker.clone(),
        gateway: gateway.clone(),
        cluster,
        metrics: metrics.clone(),
    };
    let health = backends.health.clone();
    let probes = Probes {
        node_id: config.node_id.clone(),
        roles: config.roles,
        health,
        drain: drain.clone(),
        ready: ready.clone(),
        metrics,
    };
    drain.spawn("registration", registration.run(drain.clone()));
    // Who comes meanwhile waits at the door; whoever waits longer than this finds the node up, and unready.
    let mut settled = nodes.clone();
    let _ = tokio::time::timeout(SETTLE, settled.wait_for(|cluster| !cluster.nodes.is_empty())).await;
    open_doors(listeners, probes, gateway.clone(), config.http);
    ready.set();
    Node { address, admin, certificate, drain, worker, gateway }
}

/// People's door, and the operators' where it is another one.
fn open_doors(listeners: Listeners, probes: Probes, gateway: Option<Gateway>, http: HttpConfig) {
    let (drain, metrics) = (probes.drain.clone(), probes.metrics.clone());
    if let Some(listener) = listeners.admin {
        let operators = gateway.as_ref().map(Gateway::admin_router).unwrap_or_default();
        let router = probes::router(probes.clone(), true).merge(operators);
        serve::serve(listener, None, router, http.clone(), &drain, metrics.clone());
    }
    let router = probes::router(probes, http.admin_listen.is_none()).merge(gateway.map(Gateway::router).unwrap_or_default());
    serve::serve(listeners.public, listeners.certificate.as_ref(), router, http, &drain, metrics);
}

impl Node {
    /// Has the files of the certificate read, if there is one.
    pub fn look_at_certificate(&self) {
        match &self.certificate {
            Some(certificate) => certificate.look(),
            None => tracing::info!("there is no certificate to look at"),
        }
    }

    /// Answers in the making.
    #[must_use]
    pub fn running(&self) -> usize {
        self.worker.as_ref().map_or(0, Worker::running)
    }

    /// Takes nothing new, lets running answers go on and people move for `grace` at most, gives back what is left, and stops.
    pub async fn leave(self, grace: Duration) {
        self.drain.draining().cancel();
        let working = async {
            let Some(worker) = self.worker.as_ref().filter(|worker| worker.running() > 0) else { return };
            worker.idle().await;
            // Whoever read here to the end has to be told that it was the end.
            if self.gateway.is_some() {
                tokio::time::sleep(FAREWELL).await;
            }
        };
        let moving = async {
            if let Some(gateway) = &self.gateway {
                let _ = tokio::time::timeout(MOVE_MAX, gateway.deserted()).await;
            }
        };
        let _ = tokio::time::timeout(grace, async { tokio::join!(working, moving) }).await;
        let late = self.drain.stop(STOP_GRACE).await;
        if !late.is_empty() {
            tracing::warn!(tasks = late.join(", "), "tasks did not end in time");
        }
    }
}

/// Tells the others of this node, and this node of the others.
struct Registration {
    me: NodeInfo,
    backends: Backends,
    worker: Option<Worker>,
    gateway: Option<Gateway>,
    cluster: watch::Sender<Arc<Cluster>>,
    metrics: Metrics,
}

impl Registration {
    async fn run(mut self, drain: Drain) {
        let mut beat = interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let draining = drain.draining().clone();
        let mut told = false;
        let mut catalog = self.worker.as_ref().map(Worker::catalog);
        let mut health = self.backends.health.clone();
        loop {
            tokio::select! {
                biased;
                () = drain.stopped().cancelled() => break,
                () = draining.cancelled(), if !told => told = true,
                () = models_changed(&mut catalog) => {}
                // A store that has just come up: whoever is ready now should know who else is there.
                Ok(()) = health.changed() => {}
                // Nobody can be asked anything yet: who runs models may have come a moment after the last look.
                () = tokio::time::sleep(EAGER), if self.is_waiting_for_models() => {}
                _ = beat.tick() => {}
            }
            self.me.draining = draining.is_cancelled();
            if self.me.draining {
                self.metrics.draining();
            }
            self.beat().await;
        }
        // Who leaves in good order need not be waited for; who can't say so is missed after a while.
        let _ = tokio::time::timeout(HEARTBEAT, self.backends.store.heartbeat(&self.me, true)).await;
    }

    fn is_waiting_for_models(&self) -> bool {
        self.gateway.is_some() && self.cluster.borrow().nodes.iter().all(|node| node.models.is_empty())
    }

    async fn beat(&mut self) {
        self.me.seen_at = Time::now();
        self.me.connections = self.gateway.as_ref().map_or(0, Gateway::connections);
        if let Some(worker) = &self.worker {
            self.me.models = worker.models();
            self.me.running = u32::try_from(worker.running()).unwrap_or(u32::MAX);
            self.me.capacity = u32::try_from(worker.capacity()).unwrap_or(u32::MAX);
            self.metrics.worker_load(worker.running(), worker.capacity());
        }
        self.metrics.backplane_connected(self.backends.health.borrow().backplane.is_up());
        match self.backends.store.heartbeat(&self.me, false).await {
            Ok(cluster) => {
                self.metrics.work_waiting(&cluster.waiting);
                self.cluster.send_replace(Arc::new(cluster));
            }
            // The others as they were last seen are a better guess than nobody.
            Err(error) => tracing::debug!(%error, "heartbeat could not be stored"),
        }
    }
}

async fn models_changed(catalog: &mut Option<Catalog>) {
    match catalog {
        Some(catalog) => catalog.changed().await,
        None => std::future::pending().await,
    }
}
