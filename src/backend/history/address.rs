//! The address of the history: what it may say, and what it becomes. It must not connect.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

use super::tls::Tls;
use crate::backend::cluster::{parameter, trusting};

const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A server that is silent for so long on an idle connection is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// What was sent and not taken for so long ends the connection.
const UNTAKEN_MAX: Duration = Duration::from_secs(10);

/// Where the history is, and whether to speak TLS there. Reasons repeat nothing of the address, which may hold a password.
pub(super) fn read(url: &str) -> Result<(Config, Option<Tls>), String> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err("it begins with postgres:// or postgresql://".to_owned());
    }
    let mode = parameter(url, "sslmode");
    let verify = match mode.as_deref() {
        None | Some("disable") => false,
        Some("require" | "verify-full") => true,
        Some(_) => return Err("sslmode is disable, require or verify-full (both verify the server)".to_owned()),
    };
    let tls = match (verify, parameter(url, "ca")) {
        (false, None) => None,
        (false, Some(_)) => return Err("ca goes with sslmode=require".to_owned()),
        (true, None) => Some(Tls::of_system()?),
        (true, Some(file)) => Some(Tls::new(trusting(Path::new(&file))?)),
    };
    let unreadable =
        |_| "it is not an address like postgres://USER:PASSWORD@HOST:PORT/DATABASE, or has unknown parameters".to_owned();
    let mut config = Config::from_str(&without_ours(url)).map_err(unreadable)?;
    if config.get_hosts().is_empty() {
        return Err("it names no host".to_owned());
    }
    config.ssl_mode(if verify { SslMode::Require } else { SslMode::Disable });
    config.application_name("chatnode");
    config.connect_timeout(CONNECT_MAX);
    config.keepalives_idle(KEEPALIVE);
    config.tcp_user_timeout(UNTAKEN_MAX);
    if config.get_hosts().len() > 1 {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    Ok((config, tls))
}

/// The client refuses parameters that it does not know.
fn without_ours(url: &str) -> String {
    let Some((address, query)) = url.split_once('?') else { return url.to_owned() };
    let theirs = |pair: &&str| !["sslmode=", "ca="].iter().any(|ours| pair.starts_with(ours));
    let query = query.split('&').filter(theirs).collect::<Vec<_>>().join("&");
    if query.is_empty() { address.to_owned() } else { format!("{address}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_say_who_and_where() {
        let (config, tls) = read("postgres://chat:s%40cret@db-1:5433,db-2:5434/history?sslmode=require").unwrap();
        assert_eq!((config.get_user(), config.get_dbname()), (Some("chat"), Some("history")));
        assert_eq!((config.get_password(), config.get_ports()), (Some(&b"s@cret"[..]), &[5433, 5434][..]));
        assert_eq!((config.get_ssl_mode(), tls.is_some()), (SslMode::Require, true));
        assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        let (config, tls) = read("postgresql://chat@localhost").unwrap();
        assert_eq!((config.get_ssl_mode(), tls.is_none()), (SslMode::Disable, true));
    }

    #[test]
    fn bad_addresses_are_told_without_their_secrets() {
        for url in [
            "",
            "http://u:secret@h",
            "postgres://u:secret@h:port/d",
            "postgres://u:secret@h/d?sslmode=prefer",
            "postgres://u:secret@h/d?sslmode=require&ca=/nowhere.pem",
            "postgres://u:secret@h/d?ca=/nowhere.pem",
            "postgres://u:secret@h/d?passwort=secret",
            "postgres:///d",
        ] {
            let problem = read(url).map(|_| ()).expect_err(url);
            assert!(!problem.contains("secret") && !problem.contains("nowhere"), "{problem}");
        }
    }
}
