//! Who may come in, and how they say who they are: `[auth]`, and what of `[gateway]` belongs to it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::layers::{Section, quote};
use super::oidc::{self, OidcConfig};
use super::read::{DAY_MS, MINUTE_MS, secret};
use super::{ConfigError, Roles, Secret};

pub(super) const KEYS_ASKED_EVERY: Duration = Duration::from_secs(60);

/// Bytes of a secret that signs tokens: as many as the hash has.
const SHARED_BYTES_MIN: usize = 32;

/// How a gateway knows who is asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthConfig {
    /// Each browser is a user of its own.
    Anonymous,
    Login(LoginConfig),
}

/// At least one way to log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginConfig {
    /// With name and password.
    pub local: bool,
    /// By tokens of an issuer.
    pub jwt: Option<JwtConfig>,
    /// At a provider.
    pub oidc: Option<Box<OidcConfig>>,
    /// How long a login lasts.
    pub session: Duration,
}

/// Whose tokens are believed, and what they have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    pub issuer: String,
    pub audience: String,
    pub keys: JwtKeys,
    /// Whose `roles` hold this is an admin.
    pub admin_role: Option<String>,
    /// The issuer is asked for its keys at most so often, whatever tokens name.
    pub ask_every: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtKeys {
    /// HS256.
    Shared(Secret),
    /// RS256 and ES256, with the keys that this address lists.
    Published(String),
}

/// An address, or all that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
        (bits <= most).then_some(Self { address, bits })
    }

    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(self.bits),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits() ^ other.to_bits()).leading_zeros() >= u32::from(self.bits),
            _ => false,
        }
    }
}

pub(super) fn auth(section: &Section<'_>) -> Result<AuthConfig, ConfigError> {
    let text = section.text("mode")?;
    let session = section.ms("session_ms", MINUTE_MS..=400 * DAY_MS)?;
    let issued = jwt(&section.section("jwt"));
    let provider = oidc::oidc(&section.section("oidc"));
    let mut login = LoginConfig { local: false, jwt: None, oidc: None, session };
    if text == "none" {
        return Ok(AuthConfig::Anonymous);
    }
    for word in text.split(',') {
        match word.trim() {
            "local" => login.local = true,
            "jwt" => login.jwt = Some(issued.clone()?),
            "oidc" => login.oidc = Some(Box::new(provider.clone()?)),
            _ => {
                let problem = format_args!("must be none, or some of local,oidc,jwt, not {}", quote(&text));
                return Err(section.error("mode", problem));
            }
        }
    }
    Ok(AuthConfig::Login(login))
}

fn jwt(section: &Section<'_>) -> Result<JwtConfig, ConfigError> {
    let (issuer, audience) = (section.optional_text("issuer")?, section.optional_text("audience")?);
    let admin_role = section.optional_text("admin_role")?;
    let url = section.optional_text("jwks_url")?;
    let keys = match (secret(section, "secret", "secret_file")?, url) {
        (Some(secret), None) if secret.len() >= SHARED_BYTES_MIN => JwtKeys::Shared(Secret::new(secret)),
        (Some(_), None) => {
            return Err(section.error("secret", format_args!("must have at least {SHARED_BYTES_MIN} bytes")));
        }
        (None, Some(url)) => JwtKeys::Published(keys_address(section, url)?),
        (None, None) => return Err(section.error("jwks_url", "is missing, and so are secret and secret_file")),
        (Some(_), Some(_)) => return Err(section.error("jwks_url", "and a secret exclude each other: keep one of them")),
    };
    let issuer = issuer.ok_or_else(|| section.missing("issuer"))?;
    Ok(JwtConfig {
        issuer,
        audience: audience.ok_or_else(|| section.missing("audience"))?,
        keys,
        admin_role,
        ask_every: KEYS_ASKED_EVERY,
    })
}

fn keys_address(section: &Section<'_>, text: String) -> Result<String, ConfigError> {
    let problem = "must be an https address (http only on this machine)";
    if is_safe_address(&text) { Ok(text) } else { Err(section.error("jwks_url", problem)) }
}

/// Whether nobody on the way to an issuer can change what it says: or he could let in anybody.
#[must_use]
pub fn is_safe_address(text: &str) -> bool {
    let local = |url: &url::Url| matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    url::Url::parse(text).is_ok_and(|url| url.scheme() == "https" || (url.scheme() == "http" && local(&url)))
}

/// A gateway that other machines can reach, and where nobody has to say who they are, is refused unless the operator said so.
pub(super) fn refuse_open_house(
    auth: &Section<'_>,
    node: &Section<'_>,
    roles: Roles,
    listen: SocketAddr,
    config: &AuthConfig,
) -> Result<(), ConfigError> {
    let anywhere = auth.choice("anonymous", &[("loopback", false), ("anywhere", true)])?;
    let open = *config == AuthConfig::Anonymous && !anywhere;
    if !roles.gateway() || listen.ip().is_loopback() || !open {
        return Ok(());
    }
    let why = format_args!(
        "is {listen}, which other machines can reach, and nobody has to log in: write mode = \"local\" under [auth] and add \
         people with `chatnode user add`, or write anonymous = \"anywhere\" under [auth] (--anonymous anywhere) if everybody \
         who can reach it may use it"
    );
    Err(node.error("listen", why))
}

pub(super) fn public_url(gateway: &Section<'_>) -> Result<Option<String>, ConfigError> {
    let Some(text) = gateway.optional_text("public_url")? else { return Ok(None) };
    if is_origin(&text) {
        return Ok(Some(text));
    }
    let problem = format_args!("must be an address like \"https://chat.example.org\", without a path, not {}", quote(&text));
    Err(gateway.error("public_url", problem))
}

/// `scheme://host:port` and nothing behind it.
pub(super) fn is_origin(text: &str) -> bool {
    let url = url::Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.is_some_and(|url| url.origin().ascii_serialization() == text)
}

pub(super) fn trusted_proxies(gateway: &Section<'_>) -> Result<Vec<Network>, ConfigError> {
    let one = |text: &String| {
        Network::parse(text).ok_or_else(|| {
            let problem = format_args!("must hold addresses like \"10.0.0.7\" or \"10.0.0.0/8\", not {}", quote(text));
            gateway.error("trusted_proxies", problem)
        })
    };
    gateway.texts("trusted_proxies")?.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_what_begins_like_it() {
        let holds = |network: &str, address: &str| Network::parse(network).unwrap().contains(address.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("127.0.0.1", "::ffff:127.0.0.1"), "an IPv4 address behind a socket of IPv6");
        assert!(holds("fd00::/8", "fdff::1") && !holds("fd00::/8", "fe80::1") && !holds("::/0", "1.2.3.4"));
        assert!(holds("0.0.0.0/0", "1.2.3.4"));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "::1/129", "host", "10.0.0.0/-1", "10.0.0.0/"] {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
