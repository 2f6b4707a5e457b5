//! A real PostgreSQL on a free loopback port, in a directory that goes away with it. It must not know what is tested.
//!
//! It refuses to run as root, so root's tests run it as the user `postgres`. As for the other servers, a machine without it leaves its
//! tests out and says so, unless `CHATNODE_TEST_SERVERS=required`.

use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use chatnode::backend::cluster::{self, Dropped, Retention};
use chatnode::backend::{history, measured};
use chatnode::config::Secret;
use chatnode::drain::Drain;
use chatnode::telemetry::Metrics;
use tempfile::TempDir;
use tokio::time::Instant;

use super::servers::{Process, START_MAX, Shared, World, free_port, nats_url, prefix, redis_url, shared};

const PASSWORD: &str = "s3cret-of-the-history";

/// One server with an empty database, that can be stopped and started again.
#[derive(Debug)]
pub(crate) struct Postgres {
    programs: PathBuf,
    dir: TempDir,
    pub(crate) port: u16,
    process: Option<Process>,
    /// Takes the directory away when this process ends without doing so.
    _broom: Child,
}

impl Postgres {
    /// `None`, with a word about it, on a machine without it.
    pub(crate) fn start() -> Option<Self> {
        let found = programs();
        let required = std::env::var_os("CHATNODE_TEST_SERVERS").is_some_and(|value| value == "required");
        assert!(found.is_some() || !required, "postgresql is required, and not here");
        let Some(programs) = found else {
            eprintln!("left out: postgresql is not on this machine");
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("a directory");
        let secret = dir.path().join("password");
        std::fs::write(&secret, PASSWORD).expect("the password's file");
        if let Some((user, group)) = other_user() {
            for path in [dir.path(), &data, &secret] {
                chown(path, Some(user), Some(group)).expect("to give it to the user postgres");
            }
        }
        let file = secret.to_string_lossy().into_owned();
        let folder = data.to_string_lossy().into_owned();
        let words =
            ["-D", &folder, "-U", "chatnode", "--auth=scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync", "--pwfile"];
        let (program, args) = as_other_user(&programs.join("initdb"), &[words.as_slice(), &[&file]].concat());
        let made = Command::new(program).args(args).current_dir(dir.path()).output().expect("initdb");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let broom = Command::new("sh")
            .args(["-c", r#"read -r _; rm -rf "$1"; sleep 1; rm -rf "$1""#, "sh"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut server = Self { programs, dir, port: free_port(), process: None, _broom: broom };
        server.resume();
        Some(server)
    }

    /// Starts it again with what it had, and waits until it answers.
    pub(crate) fn resume(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let (data, port) = (self.dir.path().join("data").to_string_lossy().into_owned(), self.port.to_string());
        let words = ["-D", &data, "-p", &port, "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="];
        let more = ["-c", "fsync=off", "-c", "max_connections=400", "-c", "shared_buffers=32MB"];
        let (program, args) = as_other_user(&self.programs.join("postgres"), &[words.as_slice(), &more].concat());
        self.process = Some(Process::start(&program, &args, &self.dir.path().join("log")));
        let deadline = Instant::now() + START_MAX;
        while self.sql("SELECT 1").as_deref() != Some("1") {
            assert!(Instant::now() < deadline, "postgresql does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends all connections and stops; what was committed is on disk.
    pub(crate) fn stop(&mut self) {
        let process = self.process.take().expect("it runs");
        process.signal("-INT");
        let deadline = Instant::now() + START_MAX;
        while process.look("pid").is_some() {
            assert!(Instant::now() < deadline, "postgresql does not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Speaks TLS from now on, with the key and certificate of this directory.
    pub(crate) fn secure(&mut self, from: &Path) {
        self.sql("ALTER SYSTEM SET ssl = on").expect("psql");
        self.stop();
        for (name, theirs) in [("cert.pem", "server.crt"), ("key.pem", "server.key")] {
            let file = self.dir.path().join("data").join(theirs);
            std::fs::copy(from.join(name), &file).expect("a copy");
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its permissions");
            if let Some((user, group)) = other_user() {
                chown(&file, Some(user), Some(group)).expect("to give it to the user postgres");
            }
        }
        self.resume();
    }

    /// Every process of it stops where it stands; connections stay, and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal_all("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal_all("-CONT");
    }

    fn signal_all(&self, signal: &str) {
        let main = self.process.as_ref().and_then(|process| process.look("pid")).expect("it runs");
        let main = main.split_whitespace().last().expect("a pid").to_owned();
        let below = Command::new("ps").args(["-o", "pid=", "--ppid", &main]).output().expect("ps");
        let below = String::from_utf8_lossy(&below.stdout).into_owned();
        let pids: Vec<&str> = std::iter::once(main.as_str()).chain(below.split_whitespace()).collect();
        let sent = Command::new("kill").arg(signal).args(&pids).status().expect("kill");
        assert!(sent.success(), "its processes are there");
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://chatnode:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }

    /// One statement by psql: what it answers, without decoration; `None` when it can't be asked.
    pub(crate) fn sql(&self, sql: &str) -> Option<String> {
        TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let asked = Command::new(self.programs.join("psql"))
            .args(["-X", "-A", "-t", "-c", sql, &format!("postgres://chatnode@127.0.0.1:{}/postgres", self.port)])
            .env("PGPASSWORD", PASSWORD)
            .output()
            .expect("psql");
        asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).trim().to_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its processes would go on writing into the directory.
        if self.process.is_some() {
            self.stop();
        }
    }
}

/// The folder of initdb, postgres and psql.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let whole = |folder: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file());
    std::env::split_paths(&path).chain(versions).find(whole)
}

/// Numbers of the user and group `postgres`, when this is root.
fn other_user() -> Option<(u32, u32)> {
    let number = |args: &[&str]| {
        let said = Command::new("id").args(args).output().ok()?;
        String::from_utf8(said.stdout).ok()?.trim().parse::<u32>().ok()
    };
    (number(&["-u"])? == 0).then(|| Some((number(&["-u", "postgres"])?, number(&["-g", "postgres"])?))).flatten()
}

fn as_other_user(program: &Path, words: &[&str]) -> (PathBuf, Vec<String>) {
    let words = words.iter().map(|word| (*word).to_owned());
    let Some((user, group)) = other_user() else { return (program.to_owned(), words.collect()) };
    let drop = ["--reuid", &user.to_string(), "--regid", &group.to_string(), "--clear-groups"].map(str::to_owned);
    let program = program.to_string_lossy().into_owned();
    (PathBuf::from("setpriv"), drop.into_iter().chain([program]).chain(words).collect())
}

/// One PostgreSQL beside the servers that all tests of this process share; every world has a schema of its own in it.
pub(crate) fn shared_with_history() -> Option<(&'static Shared, &'static Postgres)> {
    static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
    shared().zip(SHARED.get_or_init(Postgres::start).as_ref())
}

/// Between two looks at what is to be archived or evicted.
const PAUSE: Duration = Duration::from_millis(5);
/// How long a conversation that rests stays in Redis, in the worlds of tests: not at all.
pub(crate) const AT_ONCE: Duration = Duration::ZERO;

/// A node's view of a cluster with a history, that archives and evicts as fast as it can; ready when this returns.
pub(crate) async fn world(servers: &Shared, history_url: &str, lease: Duration, keep: Duration) -> World {
    world_at(&redis_url(&servers.redis), &nats_url(&servers.nats), history_url, lease, keep).await
}

/// The same on other servers than those that the tests of this process share.
pub(crate) async fn world_at(redis_url: &str, nats_url: &str, history_url: &str, lease: Duration, keep: Duration) -> World {
    let world = join_at(redis_url, nats_url, history_url, lease, keep, &prefix(), PAUSE).await;
    world.ready().await;
    world.history_is(true).await;
    world
}

/// One more node of the cluster with this prefix, whether or not its servers are there.
pub(crate) async fn join(servers: &Shared, history_url: &str, lease: Duration, keep: Duration, prefix: &str) -> World {
    join_at(&redis_url(&servers.redis), &nats_url(&servers.nats), history_url, lease, keep, prefix, PAUSE).await
}

/// The same by other ways to those servers, which looks for what is due only so often.
pub(crate) async fn join_at(
    redis_url: &str,
    nats_url: &str,
    history_url: &str,
    lease: Duration,
    keep: Duration,
    prefix: &str,
    pause: Duration,
) -> World {
    let (drain, metrics) = (Drain::new(), Metrics::new());
    let dropped = Dropped::told_to(metrics.clone());
    let cluster = cluster::Options {
        redis_url: Secret::new(redis_url),
        nats_url: Secret::new(nats_url),
        prefix: prefix.to_owned(),
        events_stream: None,
        lease,
        node_id: "test".to_owned(),
        retention: Retention::default(),
        drain: drain.clone(),
        dropped: dropped.clone(),
    };
    let history = history::Options {
        settle: Duration::ZERO,
        pause,
        ..history::Options::new(Secret::new(history_url), keep, metrics.clone())
    };
    let backends = history::open(cluster, history).await.expect("options that can be meant");
    World { backends: measured(backends, &metrics), drain, prefix: prefix.to_owned(), dropped, metrics }
}

impl World {
    /// Waits until the link to the history is up, or down.
    pub(crate) async fn history_is(&self, up: bool) {
        let mut health = self.backends.health.clone();
        let reached = health.wait_for(|health| health.history.as_ref().is_some_and(|link| link.is_up() == up));
        tokio::time::timeout(START_MAX, reached).await.expect("the link changes").expect("the health task runs");
    }
}
