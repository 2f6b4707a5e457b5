//! What only the embedded world promises: its data directory survives everything that can happen to a process and a disk.

use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use chatnode::backend::embedded::{OpenError, Options, Retention, open};
use chatnode::backend::{Backends, Cancel, Error, Link, ListQuery, Phase};
use chatnode::config::DataDir;
use chatnode::drain::Drain;
use chatnode::model::{GenerationId, Position, Status, UserId};

use super::stage::{MODEL, Writer, ask, assert_gone, eventually, fold, generation_of, opening, read_all, try_claim};

/// Names the data directory to the process that is going to be killed.
const VICTIM_DIR: &str = "CHATNODE_TEST_VICTIM_DIR";

/// No lease ends while a test of this file runs.
const LONG: Duration = Duration::from_secs(3600);

struct World {
    backends: Backends,
    drain: Drain,
}

impl World {
    fn open(dir: &Path) -> Self {
        Self::with(&options(dir))
    }

    fn with(options: &Options) -> Self {
        let drain = Drain::new();
        Self { backends: open(options, &drain).expect("open"), drain }
    }

    async fn close(self) {
        drop(self.backends);
        let left = self.drain.stop(Duration::from_secs(10)).await;
        assert!(left.is_empty(), "still running: {left:?}");
    }
}

fn options(dir: &Path) -> Options {
    Options::new(DataDir::Path(dir.to_owned()), LONG)
}

fn refusal(dir: &Path) -> (OpenError, String) {
    let error = open(&options(dir), &Drain::new()).expect_err("it must not open");
    let text = error.to_string();
    assert!(text.contains(&dir.display().to_string()), "does not name the directory: {text}");
    (error, text)
}

/// Conversations are in it, and the key of the cookies.
#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_is_made_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::open(&dir.path().join("data"));
    let made = std::fs::metadata(dir.path().join("data")).expect("it is there");
    assert_eq!(made.permissions().mode() & 0o777, 0o700);
    world.close().await;
}

#[tokio::test]
async fn reopening_keeps_everything_and_frees_leases_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let user = UserId::generate();
    let world = World::open(dir.path());
    let submission = opening(&user, "Đường về nhà?");
    let asked = world.backends.generations.submit(&submission).await.expect("submit");
    let secret = world.backends.store.secret("cookies", b"first").await.expect("secret");
    let mut writer = Writer::begin(&world.backends).await;
    writer.say("Đi thẳng, ").await;
    let (before, _) = read_all(&world.backends, &submission.generation).await;
    assert!(try_claim(&world.backends).await.is_none());
    let claim = writer.dies();
    world.close().await;

    let world = World::open(dir.path());
    let backends = &world.backends;
    assert_eq!(read_all(backends, &submission.generation).await, (before, Phase::Orphaned));
    assert!(backends.generations.submit(&submission).await.expect("submit").repeated);
    assert_eq!(backends.store.secret("cookies", b"second").await, Ok(secret));
    assert_eq!(backends.store.message(&asked.user_message.id).await.as_ref(), Ok(&asked.user_message));
    let query = ListQuery { limit: 1, cursor: None, search: Some("duong".into()) };
    assert_eq!(backends.store.conversations(&user, &query).await.expect("search").items.len(), 1);
    // Its lease has an hour left, but whoever held it is dead.
    let mut next = Writer::claim(backends).await;
    assert_eq!((next.claim.attempt, next.claim.attempts_without_progress), (2, 1));
    assert!(next.claim.lease.epoch() > claim.lease.epoch());
    next.own().await;
    next.say("rồi rẽ trái").await;
    next.finish(Status::Completed).await.expect("finish");
    super::stage::assert_fenced(backends.generations.renew(&claim.lease).await);
    let message = backends.store.message(&asked.assistant_message.id).await.expect("message");
    assert_eq!(message.content, "Đi thẳng, rồi rẽ trái");
    world.close().await;
}

#[tokio::test]
async fn a_directory_serves_one_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("deep").join("data");
    let world = World::open(&data);
    let (error, text) = refusal(&data);
    assert!(matches!(error, OpenError::InUse { .. }), "{text}");
    assert!(text.contains("in use"), "{text}");
    ask(&world.backends, &UserId::generate(), "undisturbed").await;
    world.close().await;
    World::open(&data).close().await;
}

#[tokio::test]
async fn worlds_in_memory_are_worlds_apart() {
    let drain = Drain::new();
    let options = Options::new(DataDir::Memory, LONG);
    let (one, two) = (open(&options, &drain).expect("open"), open(&options, &drain).expect("open"));
    ask(&one, &UserId::generate(), "here").await;
    assert!(try_claim(&two).await.is_none());
    assert!(try_claim(&one).await.is_some());
}

#[tokio::test]
async fn what_is_no_database_of_ours_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("chatnode.db");
    std::fs::write(&file, b"this is not a database, but it is long enough to look at".repeat(100)).expect("write");
    let (error, text) = refusal(dir.path());
    assert!(matches!(error, OpenError::Damaged { .. }), "{text}");
    assert!(std::fs::read(&file).expect("read").starts_with(b"this is not"), "it was left as it was");

    std::fs::remove_file(&file).expect("remove");
    World::open(dir.path()).close().await;
    // The header holds the version of the tables at byte 60, and whose file it is at 68.
    let (error, text) = patched(&file, 60, &99_u32.to_be_bytes(), || refusal(dir.path()));
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{text}");
    let (error, text) = patched(&file, 68, b"misc", || refusal(dir.path()));
    assert!(matches!(error, OpenError::Damaged { .. }), "{text}");
    World::open(dir.path()).close().await;
}

#[tokio::test]
async fn a_damaged_file_is_an_error_and_never_a_panic() {
    let dir = tempfile::tempdir().expect("a directory");
    let user = UserId::generate();
    let world = World::open(dir.path());
    let mut asked = Vec::new();
    for n in 0..200 {
        asked.push(ask(&world.backends, &user, &format!("question {n} {}", "word ".repeat(50))).await);
    }
    world.close().await;
    let file = dir.path().join("chatnode.db");
    let whole = std::fs::read(&file).expect("read");

    // Half of it is missing.
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("write");
    if let Ok(backends) = open(&options(dir.path()), &Drain::new()) {
        try_everything(&backends, &user, &asked).await;
    } else {
        let (error, text) = refusal(dir.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "{text}");
    }
    // Everything behind the first page is noise.
    let mut noise = whole.clone();
    for (n, byte) in noise.iter_mut().enumerate().skip(4096) {
        *byte = (n % 251) as u8 ^ 0x5a;
    }
    std::fs::write(&file, &noise).expect("write");
    if let Ok(backends) = open(&options(dir.path()), &Drain::new()) {
        assert!(try_everything(&backends, &user, &asked).await, "noise was taken for data");
        assert!(!backends.health.borrow().store.is_up());
    }
    std::fs::write(&file, &whole).expect("write");
    let world = World::open(dir.path());
    assert!(!try_everything(&world.backends, &user, &asked).await);
    world.close().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").expect("write");
    for path in [file.clone(), file.join("below")] {
        let (error, text) = refusal(&path);
        assert!(matches!(error, OpenError::Directory { .. }), "{text}");
    }
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).expect("create");
    let mut permissions = std::fs::metadata(&locked).expect("metadata").permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&locked, permissions).expect("chmod");
    // The superuser may write anywhere; for everybody else it has to be a clear error.
    if std::fs::write(locked.join("probe"), b"x").is_err() {
        let (error, text) = refusal(&locked);
        assert!(matches!(error, OpenError::Directory { .. }), "{text}");
    } else {
        as_nobody(dir.path(), &locked);
    }
}

/// The whole program, as a user who may not write there.
fn as_nobody(dir: &Path, locked: &Path) {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    const NOBODY: u32 = 65_534;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    // The build may stand where nobody else may look.
    let program = dir.join("chatnode");
    std::fs::copy(env!("CARGO_BIN_EXE_chatnode"), &program).expect("copy");
    let output = std::process::Command::new(&program)
        .env_clear()
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(locked)
        .current_dir(dir)
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("the program");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&*locked.to_string_lossy()) && told.contains("can't be used"), "{told}");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_passes() {
    let dir = tempfile::tempdir().expect("a directory");
    let user = UserId::generate();
    let retention = Retention { interval: Duration::from_millis(50), ..Retention::default() };
    let world = World::with(&Options { bytes_max: Some(600_000), retention, ..options(dir.path()) });
    let backends = &world.backends;
    let first = ask(backends, &user, &"x".repeat(100_000)).await;
    let mut writer = Writer::begin(backends).await;
    let error = loop {
        let words = super::stage::text(writer.said.len() as u64, "many words ");
        if let Err(error) = writer.append(&[words]).await {
            break error;
        }
        writer.said.push_str("many words ");
        let more = writer.said.len() as u64;
        let Err(error) = writer.append(&[super::stage::text(more, &"more ".repeat(2000))]).await else {
            writer.said.push_str(&"more ".repeat(2000));
            continue;
        };
        break error;
    };
    assert!(matches!(error, Error::Full(_)), "{error:?}");
    assert!(matches!(&backends.health.borrow().store, Link::Down(reason) if reason.contains("full")));
    // What was acknowledged is there, exactly.
    let (entries, _) = read_all(backends, &generation_of(&first)).await;
    assert_eq!(fold(&entries).text, writer.said);
    let refused = backends.generations.submit(&opening(&user, &"y".repeat(100_000))).await;
    assert!(matches!(refused, Err(Error::Full(_))), "{refused:?}");
    // Room comes back, and with it everything else, without a restart.
    backends.store.delete(&user, &first.conversation.id).await.expect("delete needs no room");
    eventually("health", || async { backends.health.borrow().store.is_up().then_some(()) }).await;
    ask(backends, &user, "now it fits").await;
    world.close().await;
}

#[tokio::test]
async fn old_logs_are_removed_and_messages_stay() {
    let drain = Drain::new();
    let retention = Retention { ended: Duration::ZERO, idle: Duration::from_millis(100), interval: Duration::from_millis(10) };
    let lease = Duration::from_millis(50);
    let options = Options { retention, ..Options::new(DataDir::Memory, lease) };
    let backends = open(&options, &drain).expect("open");
    let user = UserId::generate();

    let ended = ask(&backends, &user, "answered").await;
    let generation = generation_of(&ended);
    let mut writer = Writer::begin(&backends).await;
    writer.say("kept").await;
    writer.finish(Status::Completed).await.expect("finish");
    gone(&backends, &generation).await;
    let message = backends.store.message(&ended.assistant_message.id).await.expect("message");
    assert_eq!((message.content.as_str(), message.status), ("kept", Status::Completed));
    assert_eq!(backends.generations.cancel(&generation).await, Ok(Cancel::AlreadyEnded(Status::Completed)));
    assert_gone(writer.append(&[]).await);

    // Nobody ever takes these two up (again): they end all the same, and their writers are told.
    let waiting = ask(&backends, &user, "never begun").await;
    gone(&backends, &generation_of(&waiting)).await;
    let begun = ask(&backends, &user, "begun").await;
    let mut writer = Writer::begin(&backends).await;
    writer.say("what was said").await;
    gone(&backends, &generation_of(&begun)).await;
    assert_gone(writer.append(&[]).await);
    let message = backends.store.message(&begun.assistant_message.id).await.expect("message");
    assert_eq!(message.content, "what was said");
    for turn in [&waiting, &begun] {
        let message = backends.store.message(&turn.assistant_message.id).await.expect("message");
        assert_eq!(message.status, Status::Interrupted);
        let state = backends.store.conversation(&user, &turn.conversation.id).await.expect("conversation");
        assert!(state.open.is_empty());
    }
}

/// What was acknowledged before `kill -9` is there afterwards, round after round in the same directory.
#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut all: Vec<(GenerationId, Position)> = Vec::new();
    for round in 0..3_usize {
        let program = std::env::current_exe().expect("this program");
        let mut victim = Command::new(program)
            .args(["--exact", "conformance::embedded_files::victim", "--nocapture"])
            .env(VICTIM_DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("spawn");
        let mut lines = BufReader::new(victim.stdout.take().expect("its output")).lines();
        let (mut acknowledged, mut killed) = (Vec::new(), false);
        while let Some(Ok(line)) = lines.next() {
            let Some((_, words)) = line.split_once("acknowledged ") else { continue };
            // The last line may be cut by the kill.
            let Some((generation, position)) = words.strip_suffix('.').and_then(|words| words.split_once(' ')) else { continue };
            acknowledged.push((GenerationId::parse(generation).expect("an id"), position.parse().expect("a position")));
            if acknowledged.len() > 150 + 100 * round && !killed {
                killed = true;
                victim.kill().expect("kill");
            }
        }
        victim.wait().expect("wait");
        assert!(killed, "it ended by itself");
        all.extend(acknowledged);
        let world = World::open(dir.path());
        for (generation, position) in &all {
            let (entries, _) = read_all(&world.backends, generation).await;
            assert!(entries.iter().any(|(stored, _)| stored == position), "round {round}: {generation} lost {position}");
            fold(&entries);
        }
        world.close().await;
    }
}

/// Not a test of its own: the process that [`a_killed_process_loses_nothing_acknowledged`] starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(dir) = std::env::var_os(VICTIM_DIR) else { return };
    let world = World::open(Path::new(&dir));
    let user = UserId::generate();
    let workers: Vec<_> = (0..4)
        .map(|n| {
            let (backends, user) = (world.backends.clone(), user.clone());
            tokio::spawn(async move {
                // A predecessor's answers are taken over, new ones are begun.
                ask(&backends, &user, &format!("question {n}")).await;
                let mut writer = Writer::begin(&backends).await;
                for n in 0..100_000 {
                    writer.say(&format!("word {n} ")).await;
                    acknowledge(&writer);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("join");
    }
}

/// One write, so that a line is whole or cut, never mixed; the test harness doesn't capture this handle.
fn acknowledge(writer: &Writer) {
    let line = format!("acknowledged {} {}.\n", writer.lease().generation(), writer.tail);
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
}

async fn gone(backends: &Backends, generation: &GenerationId) {
    eventually("the log is removed", || async {
        let page = backends.generations.read(generation, Position::START, 1000).await;
        matches!(page, Err(Error::Gone)).then_some(())
    })
    .await;
}

/// Calls whatever there is; true when anything failed. What failed, failed as damage.
async fn try_everything(backends: &Backends, user: &UserId, asked: &[chatnode::backend::Submitted]) -> bool {
    let mut failures: Vec<Error> = Vec::new();
    for turn in asked.iter().step_by(7) {
        failures.extend(backends.store.conversation(user, &turn.conversation.id).await.err());
        failures.extend(backends.store.message(&turn.assistant_message.id).await.err());
        failures.extend(backends.generations.read(&generation_of(turn), Position::START, 1000).await.err());
    }
    for search in [None, Some("question".to_owned()), Some("wo".to_owned())] {
        failures.extend(backends.store.conversations(user, &ListQuery { limit: 50, cursor: None, search }).await.err());
    }
    failures.extend(backends.generations.claim("worker", &[MODEL.to_owned()]).await.err());
    failures.extend(backends.generations.submit(&opening(user, "one more")).await.err());
    for failure in &failures {
        let told = matches!(failure, Error::Corrupt(_) | Error::NotFound | Error::Gone | Error::Unavailable(_));
        assert!(told, "{failure:?}");
    }
    !failures.is_empty()
}

/// Runs something while some bytes of a file are others.
fn patched<T>(file: &Path, offset: usize, bytes: &[u8], run: impl FnOnce() -> T) -> T {
    let before = std::fs::read(file).expect("read")[offset..offset + bytes.len()].to_vec();
    let write = |bytes: &[u8]| {
        let mut file = std::fs::File::options().write(true).open(file).expect("open");
        file.seek(SeekFrom::Start(offset as u64)).and_then(|_| file.write_all(bytes)).expect("write");
    };
    write(bytes);
    let result = run();
    write(&before);
    result
}
