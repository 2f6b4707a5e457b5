//! The link to NATS: addresses, credentials, and reconnecting for ever.
//! It must not know what travels.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

use super::address::unescape;
use super::backplane::Dropped;
use crate::backend::Link;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A link that answers no ping for two of these is made anew.
const PING: Duration = Duration::from_secs(2);
const RECONNECT_FIRST: Duration = Duration::from_millis(20);
const RECONNECT_LAST: Duration = Duration::from_secs(1);
/// Hints that wait in one subscription; a reader that is slower misses some.
const SUBSCRIPTION_MAX: usize = 1_024;
/// Messages that wait for the socket.
const WAITING_MAX: usize = 8_192;

/// What an address list says: `nats://user:password@a:4222,tls://b:4222?credentials=/path/user.creds&ca=/path/ca.pem`.
/// Credentials given with any of the servers count for all of them; `nats://token@host` is a token.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Addresses {
    servers: Vec<String>,
    user: Option<(String, String)>,
    token: Option<String>,
    credentials: Option<PathBuf>,
    ca: Option<PathBuf>,
    tls: bool,
}

impl Addresses {
    /// # Errors
    /// What is wrong with them, in words that go on after "the address can't be used".
    pub(super) fn parse(urls: &str) -> Result<Self, String> {
        const FORM: &str = "it is not a list of nats addresses (nats://host:4222,tls://host:4222)";
        let mut found = Self::default();
        for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let server: ServerAddr = url.parse().map_err(|_| FORM.to_owned())?;
            if server.host().is_empty() {
                return Err(FORM.to_owned());
            }
            let host = match server.host() {
                host if host.contains(':') => format!("[{host}]"),
                host => host.to_owned(),
            };
            found.servers.push(format!("{}://{host}:{}", server.scheme(), server.port()));
            found.tls |= server.tls_required();
            match (server.username().map(unescape), server.password().map(unescape)) {
                (Some(user), Some(password)) => found.user = Some((user, password)),
                (Some(token), None) => found.token = Some(token),
                _ => {}
            }
            for (name, value) in server.into_inner().query_pairs() {
                match name.as_ref() {
                    "credentials" => found.credentials = Some(PathBuf::from(value.as_ref())),
                    "ca" => found.ca = Some(PathBuf::from(value.as_ref())),
                    _ => return Err(format!("it has an unknown parameter `{name}` (known: credentials, ca)")),
                }
            }
        }
        if found.servers.is_empty() { Err(FORM.to_owned()) } else { Ok(found) }
    }
}

/// Starts to connect, and goes on in the background for ever. An error means that the credentials or certificates can't be meant.
pub(super) async fn open(
    addresses: Addresses,
    name: &str,
    state: watch::Sender<Link>,
    dropped: Dropped,
) -> Result<Client, String> {
    let mut options = ConnectOptions::new()
        .name(format!("chatnode {name}"))
        .retry_on_initial_connect()
        .max_reconnects(None)
        .connection_timeout(CONNECT_TIMEOUT)
        .ping_interval(PING)
        .subscription_capacity(SUBSCRIPTION_MAX)
        .client_capacity(WAITING_MAX)
        .reconnect_delay_callback(delay)
        .require_tls(addresses.tls)
        .event_callback(move |event| {
            tell(&state, &dropped, &event);
            std::future::ready(())
        });
    if let Some((user, password)) = addresses.user {
        options = options.user_and_password(user, password);
    }
    if let Some(token) = addresses.token {
        options = options.token(token);
    }
    if let Some(path) = addresses.credentials {
        options = options.credentials_file(path).await.map_err(|_| "its credentials file can't be read".to_owned())?;
    }
    if let Some(path) = addresses.ca {
        options = options.add_root_certificates(path);
    }
    options.connect(addresses.servers).await.map_err(|_| "its addresses or certificates can't be used".to_owned())
}

fn tell(state: &watch::Sender<Link>, dropped: &Dropped, event: &Event) {
    let link = match event {
        Event::Connected => Link::Up,
        Event::Disconnected | Event::Closed => Link::Down("nats closed the connection".to_owned()),
        Event::SlowConsumer(_) => return dropped.count_slow(),
        Event::ServerError(async_nats::ServerError::AuthorizationViolation) => {
            Link::Down("nats refuses these credentials".to_owned())
        }
        // Only ever while a connection is being made.
        Event::ClientError(error) => {
            let refused = error.to_string().to_lowercase().contains("authorization");
            Link::Down(if refused { "nats refuses these credentials" } else { "nats is not reachable" }.to_owned())
        }
        _ => return,
    };
    state.send_if_modified(|held| {
        let changed = *held != link;
        if changed {
            *held = link;
        }
        changed
    });
}

/// Doubles, with jitter, so that nodes that lost the same server don't come back as one.
fn delay(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let longest = RECONNECT_FIRST.saturating_mul(1 << doublings).min(RECONNECT_LAST);
    longest.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_give_servers_and_credentials_apart() {
        let of = |urls: &str| Addresses::parse(urls).map_err(|_| ());
        let plain = of("nats://a:4222, nats://b").unwrap();
        assert_eq!(plain.servers, ["nats://a:4222", "nats://b:4222"]);
        assert!(plain.user.is_none() && plain.token.is_none() && !plain.tls);
        let user = of("nats://me:p%40ss@[::1]:4333").unwrap();
        assert_eq!((user.servers, user.user), (vec!["nats://[::1]:4333".into()], Some(("me".into(), "p@ss".into()))));
        assert_eq!(of("tls://s3cr%25t@h").unwrap().token.as_deref(), Some("s3cr%t"));
        assert!(of("tls://h").unwrap().tls);
        let files = of("nats://h?credentials=/a%20b.creds&ca=/c.pem").unwrap();
        assert_eq!((files.credentials, files.ca), (Some("/a b.creds".into()), Some("/c.pem".into())));
        assert_eq!(files.servers, ["nats://h:4222"]);
    }

    #[test]
    fn bad_addresses_are_told_without_their_secrets() {
        for urls in ["", ",", "http://user:secret@h", "nats://user:secret@h:port", "nats://user:secret@h?x=secret", "nats://"] {
            let problem = Addresses::parse(urls).err().unwrap_or_else(|| panic!("{urls} was taken"));
            assert!(!problem.contains("secret"), "{problem}");
        }
    }

    #[test]
    fn the_delay_grows_to_its_bound() {
        assert_eq!(delay(1), Duration::ZERO);
        assert!(delay(2) <= RECONNECT_FIRST * 2);
        for attempt in [20, 2_000, usize::MAX] {
            assert!(delay(attempt) >= RECONNECT_LAST / 2 && delay(attempt) <= RECONNECT_LAST);
        }
    }
}
