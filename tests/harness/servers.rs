//! Real redis-server and nats-server processes on free loopback ports, in directories that go away with them.
//! It must not know what is tested.
//!
//! Every server runs below a small shell that ends it when this process goes away, however it goes. A machine without the servers
//! leaves these tests out and says so, unless `CHATNODE_TEST_SERVERS=required`.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use chatnode::backend::cluster::{self, Dropped, Options, Retention};
use chatnode::backend::{Backends, measured};
use chatnode::config::Secret;
use chatnode::drain::Drain;
use chatnode::telemetry::Metrics;
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a server may take to be there.
pub(super) const START_MAX: Duration = Duration::from_secs(120);

/// Runs a program until this is dropped or the test process ends.
#[derive(Debug)]
pub(super) struct Process {
    shell: Child,
    pid: u32,
}

impl Process {
    pub(super) fn start(program: &Path, args: &[String], log: &Path) -> Self {
        // The shell keeps its child unreaped until it ends itself, so the pid can't become another process's.
        const BELOW: &str =
            r#"log=$1; shift; "$@" </dev/null >>"$log" 2>&1 & server=$!; echo $server; read -r _; kill -9 $server 2>/dev/null"#;
        let mut shell = Command::new("sh")
            .args([OsStr::new("-c"), OsStr::new(BELOW), OsStr::new("sh"), log.as_os_str(), program.as_os_str()])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let out = shell.stdout.take().expect("its output");
        BufReader::new(out).read_line(&mut line).expect("the server's pid");
        let pid = line.trim().parse().expect("a pid");
        Self { shell, pid }
    }

    pub(super) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.pid.to_string()]).stderr(Stdio::null()).status();
        assert!(done.is_ok(), "there is no kill command");
    }

    /// What `ps` says of it; nothing once it is gone, or waits only to be buried.
    pub(super) fn look(&self, what: &str) -> Option<String> {
        let look = Command::new("ps").args(["-o", &format!("stat=,{what}="), "-p", &self.pid.to_string()]).output().expect("ps");
        let said = String::from_utf8_lossy(&look.stdout).trim().to_owned();
        (!said.is_empty() && !said.starts_with('Z')).then_some(said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// One server that can be stopped and started again on its port.
#[derive(Debug)]
pub(crate) struct Server {
    program: PathBuf,
    args: Vec<String>,
    pub(crate) port: u16,
    /// Where it keeps its data.
    pub(crate) dir: TempDir,
    process: Option<Process>,
    answers: fn(u16) -> bool,
}

impl Server {
    fn new(program: &Path, port: u16, args: impl FnOnce(&Path) -> Vec<String>, answers: fn(u16) -> bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let args = args(dir.path());
        let mut server = Self { program: program.to_owned(), args, port, dir, process: None, answers };
        server.start();
        server
    }

    pub(crate) fn start(&mut self) {
        self.launch();
        self.wait();
    }

    /// Starts without waiting until it answers.
    pub(crate) fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = self.dir.path().join("log");
        self.process = Some(Process::start(&self.program, &self.args, &log));
    }

    fn wait(&self) {
        let deadline = Instant::now() + START_MAX;
        while !(self.answers)(self.port) {
            assert!(Instant::now() < deadline, "{} does not answer: {}", self.program.display(), self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        drop(self.process.take());
    }

    /// `SIGSTOP`: it keeps its connections and answers nothing, from when this returns.
    pub(crate) fn freeze(&self) {
        let process = self.process.as_ref().expect("it runs");
        process.signal("-STOP");
        let deadline = Instant::now() + START_MAX;
        while !process.look("pid").expect("it runs").starts_with(['T', 't']) {
            assert!(Instant::now() < deadline, "{} does not stand still", self.program.display());
        }
    }

    pub(crate) fn thaw(&self) {
        self.process.as_ref().expect("it runs").signal("-CONT");
    }

    /// `SIGTERM`: it leaves in good order, which is waited for.
    pub(crate) async fn leave(&mut self, most: Duration) {
        let Some(process) = self.process.take() else { return };
        process.signal("-TERM");
        let deadline = Instant::now() + most;
        while process.look("pid").is_some() {
            assert!(Instant::now() < deadline, "{} does not leave: {}", self.program.display(), self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Bytes of memory that it holds.
    pub(crate) fn resident(&self) -> Option<u64> {
        let said = self.process.as_ref()?.look("rss")?;
        said.split_whitespace().last()?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// What it has written so far, over all of its lives.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// It was started and ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.look("pid").is_none())
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some() && (self.answers)(self.port)
    }

    /// A Redis command; its answer as redis-cli would show it in a script, lists one item a line.
    pub(crate) fn redis(&self, words: &[&str]) -> String {
        ask(self.port, words).expect("redis answers")
    }
}

/// One Redis command over a connection of its own.
fn ask(port: u16, words: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(command.as_bytes())?;
    let mut lines = Vec::new();
    answer(&mut BufReader::new(stream), &mut lines)?;
    Ok(lines.join("\n"))
}

fn answer(from: &mut impl BufRead, lines: &mut Vec<String>) -> std::io::Result<()> {
    let mut head = String::new();
    from.read_line(&mut head)?;
    let head = head.trim_end();
    let count = || head[1..].parse::<i64>().unwrap_or(-1);
    match head.bytes().next() {
        Some(b'$') if count() >= 0 => {
            let mut body = vec![0; usize::try_from(count()).expect("a length") + 2];
            from.read_exact(&mut body)?;
            body.truncate(body.len() - 2);
            lines.push(String::from_utf8_lossy(&body).into_owned());
        }
        Some(b'*') => {
            for _ in 0..count() {
                answer(from, lines)?;
            }
        }
        Some(b'$') => lines.push(String::new()),
        Some(_) => lines.push(head[1..].to_owned()),
        None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
    Ok(())
}

fn redis_answers(port: u16) -> bool {
    ask(port, &["PING"]).is_ok_and(|said| said == "PONG" || said.starts_with("NOAUTH"))
}

fn nats_answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut greeting = [0; 4];
    let greeted = stream.set_read_timeout(Some(Duration::from_secs(1))).and_then(|()| stream.read_exact(&mut greeting));
    greeted.is_ok() && &greeting == b"INFO"
}

/// Some other program (a name, or a path) that a test needs; `None`, with a word about it, on a machine without it.
pub(crate) fn needed(name: &str) -> Option<PathBuf> {
    let found = program(name);
    let required = std::env::var_os("CHATNODE_TEST_SERVERS").is_some_and(|value| value == "required");
    assert!(found.is_some() || !required, "{name} is required, and not here");
    if found.is_none() {
        eprintln!("left out: {name} is not on this machine");
    }
    found
}

/// Ready, and not only there.
fn node_answers(port: u16) -> bool {
    let asked = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: chatnode\r\nconnection: close\r\n\r\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok::<_, std::io::Error>(line.contains(" 200 "))
    };
    asked().unwrap_or(false)
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/bin", "/usr/bin"].map(PathBuf::from));
    places.map(|place| place.join(name)).find(|path| path.is_file())
}

/// That nobody listens on.
pub(crate) fn free_port() -> u16 {
    // Below the ports that the system gives to whoever connects: a server that is killed and started again must find its own.
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::random_range(10_000..32_000)).take(100).find(free).expect("a loopback port")
}

/// Where the servers are; `None`, with a word about it, on a machine without them.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    redis: PathBuf,
    nats: PathBuf,
}

impl Programs {
    pub(crate) fn find() -> Option<Self> {
        let found = program("redis-server").zip(program("nats-server"));
        let required = std::env::var_os("CHATNODE_TEST_SERVERS").is_some_and(|value| value == "required");
        assert!(found.is_some() || !required, "redis-server and nats-server are required, and not both are here");
        if found.is_none() {
            eprintln!("left out: redis-server and nats-server are not both on this machine");
        }
        found.map(|(redis, nats)| Self { redis, nats })
    }

    pub(crate) fn redis(&self, more: &[&str]) -> Server {
        self.redis_on(free_port(), more)
    }

    pub(crate) fn redis_on(&self, port: u16, more: &[&str]) -> Server {
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        let args = |dir: &Path| {
            let dir = dir.to_string_lossy();
            let port = port.to_string();
            let base = ["--port", &port, "--bind", "127.0.0.1", "--dir", &dir, "--save", ""];
            base.iter().map(|word| (*word).to_owned()).chain(more).collect()
        };
        Server::new(&self.redis, port, args, redis_answers)
    }

    /// With a second port for TLS, whose number is the second answer.
    pub(crate) fn redis_tls(&self, ca: &str, cert: &str, key: &str) -> (Server, u16) {
        let port = free_port();
        let tls = port.to_string();
        let files = ["--tls-ca-cert-file", ca, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no"];
        let server = self.redis(&[["--tls-port", &tls].as_slice(), files.as_slice()].concat());
        (server, port)
    }

    /// A whole node of ours; `args` gets the directory that goes away with it. It may not serve yet when this returns.
    pub(crate) fn node(program: &Path, port: u16, args: impl FnOnce(&Path) -> Vec<String>) -> Server {
        let dir = tempfile::tempdir().expect("a directory");
        let args = args(dir.path());
        let mut server = Server { program: program.to_owned(), args, port, dir, process: None, answers: node_answers };
        server.launch();
        server
    }

    pub(crate) fn nats(&self, more: &[&str]) -> Server {
        self.nats_on(free_port(), more)
    }

    pub(crate) fn nats_on(&self, port: u16, more: &[&str]) -> Server {
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        let base = ["-a", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned);
        Server::new(&self.nats, port, |_| base.into_iter().chain(more).collect(), nats_answers)
    }

    /// A sentinel that watches one master under the name `chat`.
    pub(crate) fn sentinel(&self, master: u16, quorum: u16) -> Server {
        let port = free_port();
        let args = |dir: &Path| {
            let file = dir.join("sentinel.conf");
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor chat 127.0.0.1 {master} {quorum}\n\
                 sentinel down-after-milliseconds chat 1000\nsentinel failover-timeout chat 3000\n",
                dir.display()
            );
            std::fs::write(&file, text).expect("the sentinel's file");
            vec![file.to_string_lossy().into_owned(), "--sentinel".to_owned()]
        };
        Server::new(&self.redis, port, args, redis_answers)
    }

    /// NATS servers that know each other.
    pub(crate) fn nats_cluster(&self, servers: usize) -> Vec<Server> {
        let routes: Vec<String> = (0..servers).map(|_| format!("nats://127.0.0.1:{}", free_port())).collect();
        let all = routes.join(",");
        let start = |own: &String| self.nats(&["--cluster_name", "chat", "--cluster", own, "--routes", &all]);
        routes.iter().map(start).collect()
    }

    /// A server that may become part of a Redis Cluster.
    fn redis_of_cluster(&self) -> Server {
        let bus = free_port().to_string();
        let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
        self.redis(&[cluster.as_slice(), &["--repl-diskless-sync-delay", "0"]].concat())
    }

    /// One more server of a Redis Cluster, which follows this master.
    pub(crate) fn redis_replica(&self, master: &Server) -> Server {
        let replica = self.redis_of_cluster();
        meet(&replica, master);
        let id = master.redis(&["CLUSTER", "MYID"]);
        let deadline = Instant::now() + START_MAX;
        while replica.redis(&["CLUSTER", "REPLICATE", &id]) != "OK" {
            assert!(Instant::now() < deadline, "the replica does not find its master");
            std::thread::sleep(Duration::from_millis(20));
        }
        replica
    }

    /// A Redis Cluster of so many masters.
    pub(crate) fn redis_cluster(&self, masters: usize) -> Vec<Server> {
        let servers: Vec<Server> = (0..masters).map(|_| self.redis_of_cluster()).collect();
        const SLOTS: usize = 16_384;
        for (n, server) in servers.iter().enumerate() {
            let (from, to) = (n * SLOTS / masters, (n + 1) * SLOTS / masters - 1);
            assert_eq!(server.redis(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]), "OK");
            server.redis(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
        }
        for server in &servers[1..] {
            meet(server, &servers[0]);
        }
        let deadline = Instant::now() + START_MAX;
        let whole = |server: &Server| {
            let info = server.redis(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains(&format!("cluster_known_nodes:{masters}"))
        };
        while !servers.iter().all(whole) {
            assert!(Instant::now() < deadline, "the cluster does not come together");
            std::thread::sleep(Duration::from_millis(20));
        }
        servers
    }
}

fn meet(server: &Server, other: &Server) {
    let bus = other.redis(&["CONFIG", "GET", "cluster-port"]);
    server.redis(&["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string(), bus.lines().last().expect("a port")]);
}

/// One Redis and one NATS that all tests of this process share, each with a prefix of its own.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) redis: Server,
    pub(crate) nats: Server,
}

pub(crate) fn shared() -> Option<&'static Shared> {
    static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
    let start =
        || Programs::find().map(|programs| Shared { redis: programs.redis(&["--appendonly", "no"]), nats: programs.nats(&[]) });
    SHARED.get_or_init(start).as_ref()
}

/// A node's view of a cluster; ends its tasks by [`World::end`].
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) backends: Backends,
    pub(crate) drain: Drain,
    pub(crate) prefix: String,
    pub(crate) dropped: Dropped,
    /// What an operator would see of it.
    pub(crate) metrics: Metrics,
}

impl World {
    /// On servers that answer; ready when this returns.
    pub(crate) async fn open(redis_url: &str, nats_url: &str, lease: Duration) -> Self {
        Self::open_with(redis_url, nats_url, lease, Retention::default()).await
    }

    pub(crate) async fn open_with(redis_url: &str, nats_url: &str, lease: Duration, retention: Retention) -> Self {
        let world = Self::start(redis_url, nats_url, lease, &prefix(), retention, None).await;
        world.ready().await;
        world
    }

    /// One that keeps its events in the stream `<prefix>-events`.
    pub(crate) async fn with_events(redis_url: &str, nats_url: &str, lease: Duration) -> Self {
        let prefix = prefix();
        let stream = Some(format!("{prefix}-events"));
        let world = Self::start(redis_url, nats_url, lease, &prefix, Retention::default(), stream).await;
        world.ready().await;
        world
    }

    /// One more node of the cluster with this prefix, whether or not its servers are there.
    pub(crate) async fn join(redis_url: &str, nats_url: &str, lease: Duration, prefix: &str) -> Self {
        Self::start(redis_url, nats_url, lease, prefix, Retention::default(), None).await
    }

    async fn start(
        redis_url: &str,
        nats_url: &str,
        lease: Duration,
        prefix: &str,
        retention: Retention,
        events_stream: Option<String>,
    ) -> Self {
        let (drain, metrics) = (Drain::new(), Metrics::new());
        let dropped = Dropped::told_to(metrics.clone());
        let options = Options {
            redis_url: Secret::new(redis_url),
            nats_url: Secret::new(nats_url),
            prefix: prefix.to_owned(),
            events_stream,
            lease,
            node_id: "test".to_owned(),
            retention,
            drain: drain.clone(),
            dropped: dropped.clone(),
        };
        let backends = cluster::open(options).await.expect("options that can be meant");
        Self { backends: measured(backends, &metrics), drain, prefix: prefix.to_owned(), dropped, metrics }
    }

    /// Waits until both links are up.
    pub(crate) async fn ready(&self) {
        let mut health = self.backends.health.clone();
        let up = health.wait_for(|health| health.store.is_up() && health.backplane.is_up());
        tokio::time::timeout(START_MAX, up).await.expect("both links come up").expect("the health task runs");
    }

    pub(crate) async fn end(self) {
        let left = self.drain.stop(Duration::from_secs(5)).await;
        assert!(left.is_empty(), "tasks that did not end: {left:?}");
    }
}

pub(crate) fn prefix() -> String {
    format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..12])
}

pub(crate) fn redis_url(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port)
}

pub(crate) fn nats_url(server: &Server) -> String {
    format!("nats://127.0.0.1:{}", server.port)
}
