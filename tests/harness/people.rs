//! People who log in, and gateways that ask them to. It must not know what is tested.

use std::time::Duration;

use chatnode::backend::Backends;
use chatnode::backend::accounts::{Account, AccountChange};
use chatnode::config::{AuthConfig, Config, LoginConfig};
use chatnode::model::{Time, UserId};
use chatnode::password;

use super::node;

/// Everybody's, but for those who are given another one.
pub(crate) const PASSWORD: &str = "con mèo trèo cây cau";

/// A node whose people log in with name and password.
pub(crate) fn config(name: &str) -> Config {
    let mut config = node::config(name);
    config.gateway.auth = AuthConfig::Login(login());
    config
}

pub(crate) fn login() -> LoginConfig {
    LoginConfig { local: true, jwt: None, oidc: None, session: Duration::from_secs(3_600) }
}

/// Makes an account with [`PASSWORD`].
pub(crate) async fn add(backends: &Backends, name: &str, admin: bool) -> Account {
    let account = Account {
        id: UserId::generate(),
        name: name.to_owned(),
        password: Some(password::hash(PASSWORD).expect("a password")),
        admin,
        disabled: false,
        era: 0,
        created_at: Time::now(),
    };
    assert!(backends.accounts.add(&account).await.expect("a store"), "{name} is taken");
    account
}

/// As somebody would who tells no gateway of it.
pub(crate) async fn disable(backends: &Backends, account: &Account) {
    let change = AccountChange { disabled: Some(true), ..AccountChange::default() };
    backends.accounts.change(&account.id, &change).await.expect("a change");
}
