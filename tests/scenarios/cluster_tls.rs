//! Redis and NATS behind TLS, with an authority of one's own.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use chatnode::backend::{Hint, Subject};
use chatnode::model::UserId;
use futures_util::StreamExt;

use crate::conformance::stage::{ask, eventually};
use crate::harness::servers::{Programs, World};

const LEASE: Duration = Duration::from_secs(10);

/// An authority and a certificate of 127.0.0.1 by it; false on a machine without openssl.
pub(super) fn certify(dir: &Path) -> bool {
    let openssl = |args: &str| {
        let mut command = Command::new("openssl");
        command.args(args.split(' ')).current_dir(dir).stderr(Stdio::null()).stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    std::fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1\n").expect("a file");
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem")
        && openssl("req -newkey rsa:2048 -nodes -subj /CN=server -keyout key.pem -out server.csr")
        && openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_links_over_tls() {
    let Some(programs) = Programs::find() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    if !certify(dir.path()) {
        let required = std::env::var_os("CHATNODE_TEST_SERVERS").is_some_and(|value| value == "required");
        assert!(!required, "no openssl to make certificates with");
        return eprintln!("left out: no openssl to make certificates with");
    }
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let (ca, cert, key) = (path("ca.pem"), path("cert.pem"), path("key.pem"));
    let (redis, tls_port) = programs.redis_tls(&ca, &cert, &key);
    let nats = programs.nats(&["--tls", "--tlscert", &cert, "--tlskey", &key]);
    // A user of the access list who may touch this prefix alone, and administer nothing.
    let rules = ["~chat:*", "+@all", "-@admin", "-@dangerous", "+info", ">secret"];
    let user: Vec<&str> = ["ACL", "SETUSER", "chatnode", "on"].into_iter().chain(rules).collect();
    assert_eq!(redis.redis(&user), "OK");

    let redis_url = |ca: &str| format!("rediss://chatnode:secret@127.0.0.1:{tls_port}{ca}");
    let nats_url = |ca: &str| format!("tls://127.0.0.1:{}{ca}", nats.port);
    let trusted = format!("?ca={ca}");
    let world = World::join(&redis_url(&trusted), &nats_url(&trusted), LEASE, "chat").await;
    world.ready().await;
    ask(&world.backends, &UserId::generate(), "in secret").await;
    let subject = Subject::User(UserId::generate());
    let mut hints = world.backends.backplane.subscribe(&subject).await;
    let heard = async {
        loop {
            world.backends.backplane.publish(&subject, Hint::Work { generation: None }).await;
            if let Ok(Some(hint)) = tokio::time::timeout(Duration::from_millis(50), hints.next()).await {
                return hint;
            }
        }
    };
    let heard = tokio::time::timeout(Duration::from_secs(10), heard).await.expect("a hint");
    assert_eq!(*heard, Hint::Work { generation: None });
    world.end().await;

    // Who is signed by nobody that one trusts is not talked to.
    let world = World::join(&redis_url(""), &nats_url(""), LEASE, "chat").await;
    let told = async || format!("{:?}", world.backends.health.borrow()).contains("trusted").then_some(());
    eventually("the certificate is refused", told).await;
    assert!(!world.backends.health.borrow().backplane.is_up());
    world.end().await;
}
