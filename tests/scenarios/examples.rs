//! The sample clients of docs/examples, as a stranger runs them, while nodes die underneath.

use std::ffi::OsString;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use chatnode::ai::provider::demo;
use chatnode::config::{Config, Roles};
use chatnode::model::GenerationId;

use crate::conformance::stage::eventually;
use crate::harness::node::{Node, config, world};
use crate::harness::servers::needed;

const PROMPT: &str = "/demo tokens=300 rate=150 reason=5";
/// What a reader has when things begin to die.
const SOME_BYTES: usize = 300;
const LINES_MAX: usize = 60;

/// A client that runs; what it prints is read as it comes.
struct Client {
    process: Process,
    told: Arc<Mutex<Vec<u8>>>,
    readers: [JoinHandle<Vec<u8>>; 2],
}

struct Process(Mutex<Child>);

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.0.get_mut().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Client {
    fn start(command: &[OsString], gateways: &[SocketAddr]) -> Self {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .arg(PROMPT)
            .args(gateways.iter().map(|gateway| format!("http://{gateway}")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client");
        let told = Arc::default();
        let output = read(child.stdout.take().expect("its output"), Arc::clone(&told));
        let errors = read(child.stderr.take().expect("its errors"), Arc::default());
        Self { process: Process(Mutex::new(child)), told, readers: [output, errors] }
    }

    async fn reads(&self) {
        eventually("the client reads", async || (self.told.lock().unwrap().len() > SOME_BYTES).then_some(())).await;
    }

    /// It ends well, and what it printed is the answer to the byte.
    async fn ends(self) {
        let process = &self.process;
        let status = eventually("the client ends", async || process.0.lock().unwrap().try_wait().expect("its status")).await;
        let [output, errors] = self.readers.map(|reader| String::from_utf8(reader.join().expect("a reader")).expect("text"));
        assert!(status.success(), "{status}: {output}\n{errors}");
        let generation = GenerationId::parse(errors.lines().next().expect("the name of the answer")).expect("an id");
        assert_eq!(output, demo::text(&generation, PROMPT));
    }
}

fn read(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            into.lock().unwrap().extend_from_slice(&piece[..length]);
        }
        into.lock().unwrap().clone()
    })
}

/// The client is told of two gateways. The one that it reads from dies, and the worker that writes.
async fn survives(command: &[OsString]) {
    let world = world();
    let role = |name: &str, roles: Roles| Config { roles, ..config(name) };
    let first = Node::with(role("worker-1", Roles::AI), &world).await;
    let gateway = Node::with(role("gateway-1", Roles::GATEWAY), &world).await;
    let other = Node::with(role("gateway-2", Roles::GATEWAY), &world).await;
    let client = Client::start(command, &[gateway.address, other.address]);
    client.reads().await;
    gateway.kill();
    first.kill();
    let _second = Node::with(role("worker-2", Roles::AI), &world).await;
    client.ends().await;
}

fn example(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(name);
    let lines = std::fs::read_to_string(&path).expect("the example").lines().count();
    assert!(lines <= LINES_MAX, "{name} has {lines} lines");
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_in_python_survives_the_death_of_gateway_and_worker() {
    let Some(python) = needed("python3") else { return };
    survives(&[python.into(), example("ask.py").into()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_in_typescript_survives_the_death_of_gateway_and_worker() {
    let compiler = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/node_modules/.bin/tsc");
    let example = example("ask.ts");
    let Some((node, compiler)) = needed("node").zip(needed(compiler.to_str().expect("a path"))) else { return };
    // Node.js 20 does not read TypeScript by itself, so it gets what the compiler makes of it, which checks the types as well.
    let out = tempfile::tempdir().expect("a directory");
    let types = compiler.parent().and_then(Path::parent).expect("node_modules").join("@types");
    let compiled = Command::new(&compiler)
        .args(["--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--lib", "es2023,dom", "--types", "node"])
        .args(["--module", "esnext", "--moduleResolution", "bundler", "--typeRoots"])
        .arg(types)
        .arg("--outDir")
        .arg(out.path())
        .arg(&example)
        .output()
        .expect("the compiler");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stdout));
    let program = out.path().join("ask.mjs");
    std::fs::rename(out.path().join("ask.js"), &program).expect("what it made");
    survives(&[node.into(), "--experimental-websocket".into(), "--no-warnings".into(), program.into()]).await;
}
