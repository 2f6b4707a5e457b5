//! Accounts and passes: who is let in, until when, and who hears that it is over.

use chatnode::backend::accounts::{Account, AccountChange, CHANGES_MAX, PASSES_MAX, Pass, PassKind};
use chatnode::backend::{Backends, Error};
use chatnode::model::{Time, UserId};
use futures_util::future::join_all;

fn account(name: &str) -> Account {
    Account {
        id: UserId::generate(),
        name: name.into(),
        password: Some("$argon2id$…".into()),
        admin: false,
        disabled: false,
        era: 0,
        created_at: Time(1_700_000_000_000),
    }
}

fn pass(account: &Account, digest: &str, kind: PassKind, expires_at: Option<u64>) -> Pass {
    Pass {
        user: account.id.clone(),
        digest: digest.into(),
        kind,
        label: "điện thoại của Mai".into(),
        created_at: Time(1_000),
        expires_at: expires_at.map(Time),
        era: account.era,
    }
}

async fn added(backends: &Backends, name: &str) -> Account {
    let account = account(name);
    assert!(backends.accounts.add(&account).await.expect("add"));
    account
}

pub(crate) async fn add_reads_back(backends: Backends) {
    let accounts = &backends.accounts;
    let mai = added(&backends, "mai@example.org").await;
    assert_eq!(accounts.account(&mai.id).await.as_ref(), Ok(&mai));
    assert_eq!(accounts.named("mai@example.org").await.as_ref(), Ok(&mai));
    assert_eq!(accounts.account(&UserId::generate()).await, Err(Error::NotFound));
    assert_eq!(accounts.named("mai").await, Err(Error::NotFound));
    // To repeat is harmless, and changes nothing.
    assert_eq!(accounts.add(&Account { admin: true, ..mai.clone() }).await, Ok(true));
    assert_eq!(accounts.account(&mai.id).await, Ok(mai));
}

pub(crate) async fn names_belong_to_one(backends: Backends) {
    let adds = join_all((0..10).map(|_| async { backends.accounts.add(&account("mai")).await })).await;
    assert_eq!(adds.into_iter().filter(|added| *added == Ok(true)).count(), 1);
    let all = backends.accounts.list(None, 100).await.expect("list");
    assert_eq!(all.len(), 1);
    assert_eq!(backends.accounts.named("mai").await.as_ref(), Ok(&all[0]));
}

pub(crate) async fn list_is_in_order(backends: Backends) {
    assert_eq!(backends.accounts.list(None, 10).await, Ok(Vec::new()));
    for name in ["c", "a", "d", "b", "a.b"] {
        added(&backends, name).await;
    }
    let names = async |after: Option<&str>, limit| {
        let page = backends.accounts.list(after, limit).await.expect("list");
        page.into_iter().map(|account| account.name).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 3).await, ["a", "a.b", "b"]);
    assert_eq!(names(Some("b"), 3).await, ["c", "d"]);
    assert_eq!(names(Some("d"), 3).await, Vec::<String>::new());
}

pub(crate) async fn change_ends_sessions(backends: Backends) {
    let accounts = &backends.accounts;
    let mai = added(&backends, "mai").await;
    accounts.issue(&pass(&mai, "one", PassKind::Session, Some(5_000))).await.expect("issue");
    let admit = async |digest: &str| accounts.admit(&mai.id, digest, Time(2_000)).await.map(|(account, _)| account);

    let promoted = AccountChange { admin: Some(true), ..AccountChange::default() };
    assert!(accounts.change(&mai.id, &promoted).await.expect("change").admin);
    assert!(admit("one").await.expect("a session goes on").admin, "and has the new right");

    let password = AccountChange { password: Some("new".into()), ..AccountChange::default() };
    let changed = accounts.change(&mai.id, &password).await.expect("change");
    assert_eq!((changed.password.as_deref(), changed.admin), (Some("new"), true));
    assert_eq!(accounts.change(&mai.id, &password).await.as_ref(), Ok(&changed), "the same change again is none");
    assert_eq!(admit("one").await, Err(Error::NotFound));
    accounts.issue(&pass(&changed, "two", PassKind::Session, Some(5_000))).await.expect("issue");
    assert_eq!(admit("two").await, Ok(changed.clone()));

    let disable = |disabled| AccountChange { disabled: Some(disabled), ..AccountChange::default() };
    accounts.change(&mai.id, &disable(true)).await.expect("change");
    assert_eq!(admit("two").await, Err(Error::NotFound));
    let back = accounts.change(&mai.id, &disable(false)).await.expect("change");
    assert_eq!(admit("two").await, Err(Error::NotFound), "what has ended stays ended");
    assert!(!back.disabled);
    assert_eq!(accounts.change(&UserId::generate(), &disable(true)).await, Err(Error::NotFound));
    // All of many changes at once hold.
    let at_once = [promoted, password, disable(true)];
    join_all(at_once.iter().map(|change| accounts.change(&mai.id, change))).await;
    let last = accounts.account(&mai.id).await.expect("an account");
    assert!(last.admin && last.disabled && last.password.as_deref() == Some("new"));
}

pub(crate) async fn passes_let_in_until_they_end(backends: Backends) {
    let accounts = &backends.accounts;
    let (mai, an) = (added(&backends, "mai").await, added(&backends, "an").await);
    let one = pass(&mai, "one", PassKind::Session, Some(5_000));
    accounts.issue(&one).await.expect("issue");
    accounts.issue(&one).await.expect("the same again is one");
    assert_eq!(accounts.admit(&mai.id, "one", Time(4_999)).await, Ok((mai.clone(), one.clone())));
    assert_eq!(accounts.admit(&mai.id, "one", Time(5_000)).await, Err(Error::NotFound), "it has expired");
    assert_eq!(accounts.admit(&mai.id, "two", Time(2_000)).await, Err(Error::NotFound));
    assert_eq!(accounts.admit(&an.id, "one", Time(2_000)).await, Err(Error::NotFound), "another's");
    accounts.issue(&pass(&mai, "two", PassKind::Session, Some(9_000))).await.expect("issue");
    assert_eq!(accounts.passes(&mai.id, Time(2_000)).await.expect("passes").len(), 2);
    assert_eq!(accounts.passes(&mai.id, Time(6_000)).await.expect("passes").len(), 1);
    accounts.revoke(&mai.id, "one").await.expect("revoke");
    accounts.revoke(&mai.id, "one").await.expect("again");
    accounts.revoke(&an.id, "two").await.expect("another's");
    assert_eq!(accounts.admit(&mai.id, "one", Time(2_000)).await, Err(Error::NotFound));
    assert!(accounts.admit(&mai.id, "two", Time(2_000)).await.is_ok(), "the other one stays");
    let nobody = account("nobody");
    assert_eq!(accounts.issue(&pass(&nobody, "x", PassKind::Session, None)).await, Err(Error::NotFound));
    assert_eq!(accounts.passes(&nobody.id, Time(1)).await, Ok(Vec::new()));
}

pub(crate) async fn keys_outlive_sessions(backends: Backends) {
    let accounts = &backends.accounts;
    let mai = added(&backends, "mai").await;
    accounts.issue(&pass(&mai, "key", PassKind::Key, None)).await.expect("issue");
    let password = AccountChange { password: Some("new".into()), ..AccountChange::default() };
    accounts.change(&mai.id, &password).await.expect("change");
    let (_, key) = accounts.admit(&mai.id, "key", Time(u64::from(u32::MAX))).await.expect("a key goes on");
    assert_eq!((key.kind, key.label.as_str()), (PassKind::Key, "điện thoại của Mai"));
    let disable = AccountChange { disabled: Some(true), ..AccountChange::default() };
    accounts.change(&mai.id, &disable).await.expect("change");
    assert_eq!(accounts.admit(&mai.id, "key", Time(2)).await, Err(Error::NotFound));
}

pub(crate) async fn too_many_passes_cost_the_oldest(backends: Backends) {
    let accounts = &backends.accounts;
    let mai = added(&backends, "mai").await;
    accounts.issue(&pass(&mai, "key", PassKind::Key, None)).await.expect("issue");
    accounts.issue(&pass(&mai, "gone", PassKind::Session, Some(1_500))).await.expect("issue");
    for n in 0..=PASSES_MAX as u64 {
        let pass = Pass { created_at: Time(2_000 + n), ..pass(&mai, &format!("s{n}"), PassKind::Session, Some(9_000)) };
        accounts.issue(&pass).await.expect("issue");
    }
    let held = accounts.passes(&mai.id, Time(3_000)).await.expect("passes");
    assert_eq!(held.len(), PASSES_MAX + 1, "of each kind for itself");
    assert_eq!(accounts.admit(&mai.id, "s0", Time(3_000)).await, Err(Error::NotFound));
    assert!(accounts.admit(&mai.id, "s1", Time(3_000)).await.is_ok());
    assert!(accounts.admit(&mai.id, "key", Time(3_000)).await.is_ok());
    assert!(held.windows(2).all(|two| two[0].created_at <= two[1].created_at), "oldest first");
}

pub(crate) async fn changes_are_told(backends: Backends) {
    let accounts = &backends.accounts;
    let (mai, an) = (added(&backends, "mai").await, added(&backends, "an").await);
    let begin = accounts.changes(None).await.expect("changes");
    assert!(begin.users.is_empty() && !begin.anybody);
    let quiet = accounts.changes(Some(&begin.next)).await.expect("changes");
    assert_eq!((quiet.users.len(), quiet.anybody, &quiet.next), (0, false, &begin.next));

    accounts.issue(&pass(&mai, "one", PassKind::Session, None)).await.expect("issue");
    accounts.revoke(&mai.id, "one").await.expect("revoke");
    let disable = AccountChange { disabled: Some(true), ..AccountChange::default() };
    accounts.change(&an.id, &disable).await.expect("change");
    let told = accounts.changes(Some(&begin.next)).await.expect("changes");
    assert_eq!((&told.users, told.anybody), (&vec![mai.id.clone(), an.id.clone()], false));
    let rest = accounts.changes(Some(&told.next)).await.expect("changes");
    assert_eq!((rest.users.len(), rest.anybody), (0, false));
    // What is no place in it may be a place that is gone.
    for strange in ["0", "x", "9999999999999-0", "99999999", "+", "-"] {
        let told = accounts.changes(Some(strange)).await.expect("changes");
        let from_the_start = strange == "0" && told.users == [mai.id.clone(), an.id.clone()];
        assert!(told.anybody || from_the_start, "{strange}: {told:?}");
        assert!(!accounts.changes(Some(&told.next)).await.expect("changes").anybody, "{strange}");
    }
}

pub(crate) async fn changes_at_once(backends: Backends) {
    let mai = added(&backends, "mai").await;
    let begin = backends.accounts.changes(None).await.expect("changes").next;
    let count = CHANGES_MAX + 5;
    for n in 0..count {
        let change = AccountChange { disabled: Some(n % 2 == 0), password: Some(n.to_string()), ..AccountChange::default() };
        backends.accounts.change(&mai.id, &change).await.expect("change");
    }
    let first = backends.accounts.changes(Some(&begin)).await.expect("changes");
    assert_eq!((first.users.len(), first.anybody), (CHANGES_MAX, false));
    let second = backends.accounts.changes(Some(&first.next)).await.expect("changes");
    assert_eq!((second.users.len(), second.anybody), (5, false));
}
