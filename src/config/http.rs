//! How a node listens: `[http]`, `[tls]`, and the second address of `[node]`.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::ConfigError;
use super::cli::read_file;
use super::layers::{Layers, Section, quote};
use super::read::{HOUR_MS, MINUTE_MS, SECOND_MS};

#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where operators ask, without encryption, if that is another address than where people do.
    pub admin_listen: Option<SocketAddr>,
    /// What people's connections are encrypted with.
    pub tls: Option<TlsConfig>,
    /// Connections of one listener.
    pub connections_max: usize,
    /// From the connection to the end of its first request's head; as long again before that for encryption.
    pub head_timeout: Duration,
    /// From one answer to the end of the next request's head.
    pub idle_timeout: Duration,
    /// For the body of a request, and more for a large one.
    pub body_timeout: Duration,
    /// How long somebody may take nothing of what waits for him.
    pub write_timeout: Duration,
}

/// Two files, which are read again while the node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM: the certificate, and behind it those that lead to an authority.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// What stood in the files at one time.
#[derive(Clone, PartialEq, Eq)]
pub struct TlsFiles {
    certificate: String,
    key: String,
}

impl TlsConfig {
    /// # Errors
    /// Which file can't be read, and why.
    pub fn read(&self) -> Result<TlsFiles, String> {
        let read = |path: &Path| read_file(&path.to_string_lossy());
        Ok(TlsFiles { certificate: read(&self.certificate)?, key: read(&self.key)? })
    }
}

impl TlsFiles {
    /// # Errors
    /// Why nothing can be encrypted with them.
    pub fn certified(&self) -> Result<CertifiedKey, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or("there is no certificate in PEM form in it")?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|_| "there is no private key in PEM form in it")?;
        CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
            _ => "the key or the certificate is of no kind that can be used".to_owned(),
        })
    }
}

impl std::fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsFiles(***)")
    }
}

pub(super) fn http(layers: &Layers, listen: SocketAddr) -> Result<HttpConfig, ConfigError> {
    let (node, section) = (layers.section("node"), layers.section("http"));
    let admin_listen = match node.optional_text("admin_listen")? {
        None => None,
        Some(text) => Some(address(&node, "admin_listen", &text)?),
    };
    if admin_listen == Some(listen) && listen.port() != 0 {
        return Err(node.error("admin_listen", "must be another address than node.listen"));
    }
    Ok(HttpConfig {
        admin_listen,
        tls: tls(&layers.section("tls"))?,
        connections_max: section.size("connections_max", 1..=1_000_000)?,
        head_timeout: section.ms("head_timeout_ms", 100..=MINUTE_MS)?,
        idle_timeout: section.ms("idle_timeout_ms", SECOND_MS..=HOUR_MS)?,
        body_timeout: section.ms("body_timeout_ms", 100..=HOUR_MS)?,
        write_timeout: section.ms("write_timeout_ms", 100..=HOUR_MS)?,
    })
}

pub(super) fn address(section: &Section<'_>, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    let found = text.to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    // `localhost` should be the address that everybody types.
    found.iter().find(|addr| addr.is_ipv4()).or(found.first()).copied().ok_or_else(|| {
        let problem = format_args!("must be HOST:PORT with a host of this machine, such as 127.0.0.1:8080, not {}", quote(text));
        section.error(key, problem)
    })
}

fn tls(section: &Section<'_>) -> Result<Option<TlsConfig>, ConfigError> {
    let (certificate, key) = (section.optional_text("certificate")?, section.optional_text("key")?);
    let config = match (certificate, key) {
        (None, None) => return Ok(None),
        (Some(_), None) => return Err(section.error("certificate", "is set, but tls.key is not: both or neither")),
        (None, Some(_)) => return Err(section.error("key", "is set, but tls.certificate is not: both or neither")),
        (Some(certificate), Some(key)) => TlsConfig { certificate: certificate.into(), key: key.into() },
    };
    let read = config.read().map_err(|why| section.error("certificate", format_args!("or tls.key names a file, but {why}")))?;
    read.certified().map_err(|why| section.error("certificate", format_args!("and tls.key can't be used: {why}")))?;
    Ok(Some(config))
}
