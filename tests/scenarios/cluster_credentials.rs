//! NATS with accounts and a credentials file: who has the file is let in, who has another one is not.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chatnode::backend::{Hint, Subject};
use chatnode::model::UserId;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::conformance::stage::{PATIENCE, eventually};
use crate::harness::servers::{Programs, World, redis_url, shared};

const LEASE: Duration = Duration::from_secs(10);
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// First bytes of the kinds of keys; they become the letters O, A, U and S.
const OPERATOR: u8 = 14 << 3;
const ACCOUNT: u8 = 0;
const USER: u8 = 20 << 3;
const SEED: u8 = 18 << 3;

/// A key pair, made and used by openssl.
struct Key<'a> {
    dir: &'a Path,
    name: &'static str,
    kind: u8,
    seed: Vec<u8>,
    public: Vec<u8>,
}

fn openssl(dir: &Path, args: &str) -> Option<Vec<u8>> {
    let run = Command::new("openssl").args(args.split(' ')).current_dir(dir).stderr(Stdio::null()).output().ok()?;
    run.status.success().then_some(run.stdout)
}

impl<'a> Key<'a> {
    fn make(dir: &'a Path, name: &'static str, kind: u8) -> Option<Self> {
        openssl(dir, &format!("genpkey -algorithm ed25519 -outform DER -out {name}.der"))?;
        let private = std::fs::read(dir.join(format!("{name}.der"))).ok()?;
        let public = openssl(dir, &format!("pkey -inform DER -in {name}.der -pubout -outform DER"))?;
        // Both forms end with the 32 bytes that count.
        let last = |der: &[u8]| der[der.len() - 32..].to_vec();
        Some(Self { dir, name, kind, seed: last(&private), public: last(&public) })
    }

    fn id(&self) -> String {
        told([&[self.kind], self.public.as_slice()].concat())
    }

    fn secret(&self) -> String {
        told([&[SEED | self.kind >> 5, (self.kind & 31) << 3], self.seed.as_slice()].concat())
    }

    /// What this key says of another one.
    fn says(&self, subject: &str, claims: &Value) -> String {
        let claims =
            json!({"jti": subject, "iat": 1_700_000_000, "iss": self.id(), "name": self.name, "sub": subject, "nats": claims});
        let parts = [json!({"typ": "JWT", "alg": "ed25519-nkey"}), claims];
        let said = parts.map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        std::fs::write(self.dir.join("said"), &said).expect("a file");
        let sign = format!("pkeyutl -sign -keyform DER -inkey {}.der -rawin -in said", self.name);
        let signature = openssl(self.dir, &sign).expect("a signature");
        format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// With its checksum, in letters.
fn told(mut bytes: Vec<u8>) -> String {
    let mut crc = 0_u16;
    for byte in &bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    bytes.extend(crc.to_le_bytes());
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0);
    let letter = |at: usize| (at..at + 5).fold(0, |value, at| value << 1 | usize::from(bit(at)));
    (0..bytes.len() * 8).step_by(5).map(|at| char::from(BASE32[letter(at)])).collect()
}

/// Writes the server's file and a user's; the user of another account of the same name if `stranger`.
fn certify(dir: &Path) -> Option<()> {
    let operator = Key::make(dir, "operator", OPERATOR)?;
    let account = Key::make(dir, "account", ACCOUNT)?;
    let unknown = Key::make(dir, "unknown", ACCOUNT)?;
    let limits =
        json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
    let itself = operator.says(&operator.id(), &json!({"type": "operator", "version": 2}));
    let told = operator.says(&account.id(), &json!({"type": "account", "version": 2, "limits": limits}));
    let config = format!("operator: {itself}\nresolver: MEMORY\nresolver_preload: {{ {}: {told} }}\n", account.id());
    std::fs::write(dir.join("nats.conf"), config).ok()?;
    for (name, of) in [("known", &account), ("stranger", &unknown)] {
        let user = Key::make(dir, "user", USER)?;
        let claims = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {}});
        let (token, seed) = (of.says(&user.id(), &claims), user.secret());
        let file = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(dir.join(format!("{name}.creds")), file).ok()?;
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_file_lets_in_who_has_it() {
    let (Some(programs), Some(shared)) = (Programs::find(), shared()) else { return };
    let dir = tempfile::tempdir().expect("a directory");
    if certify(dir.path()).is_none() {
        let required = std::env::var_os("CHATNODE_TEST_SERVERS").is_some_and(|value| value == "required");
        assert!(!required, "no openssl that knows ed25519");
        return eprintln!("left out: no openssl that knows ed25519");
    }
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let nats = programs.nats(&["-c", &path("nats.conf")]);
    let redis = redis_url(&shared.redis);
    let url = |name: &str| format!("nats://127.0.0.1:{}?credentials={}", nats.port, path(name));
    let world = World::open(&redis, &url("known.creds"), LEASE).await;
    let subject = Subject::User(UserId::generate());
    let mut hints = world.backends.backplane.subscribe(&subject).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        world.backends.backplane.publish(&subject, Hint::Work { generation: None }).await;
        if let Ok(Some(hint)) = tokio::time::timeout(Duration::from_millis(50), hints.next()).await {
            assert_eq!(*hint, Hint::Work { generation: None });
            break;
        }
        assert!(Instant::now() < deadline, "nothing is heard");
    }
    let stranger = World::join(&redis, &url("stranger.creds"), LEASE, &world.prefix).await;
    let refused = async || format!("{:?}", stranger.backends.health.borrow()).contains("refuses these credentials").then_some(());
    eventually("the stranger is refused", refused).await;
    assert!(!stranger.backends.health.borrow().backplane.is_up());
    stranger.end().await;
    world.end().await;
}
