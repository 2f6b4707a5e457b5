//! The provider at which people log in: `[auth.oidc]`.

use std::time::Duration;

use super::auth::{KEYS_ASKED_EVERY, is_safe_address};
use super::layers::Section;
use super::read::secret;
use super::{ConfigError, Secret};

const NAME_CHARS_MAX: usize = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcConfig {
    /// As it calls itself; where it describes itself is below that.
    pub issuer: String,
    pub client_id: String,
    /// Absent: a public client, which PKCE alone protects.
    pub client_secret: Option<Secret>,
    /// What is asked for, separated by spaces.
    pub scopes: String,
    /// What the page calls the provider.
    pub name: Option<String>,
    /// Whose roles hold this is an admin, and nobody else of this provider.
    pub admin_role: Option<String>,
    /// The claim with the roles; dots lead into what is inside.
    pub roles_claim: String,
    /// The provider is asked for its keys at most so often, whatever tokens name.
    pub ask_every: Duration,
}

pub(super) fn oidc(section: &Section<'_>) -> Result<OidcConfig, ConfigError> {
    let (issuer, client_id) = (section.optional_text("issuer")?, section.optional_text("client_id")?);
    let client_secret = secret(section, "client_secret", "client_secret_file")?.map(Secret::new);
    let (scopes, name) = (section.text("scopes")?, section.optional_text("name")?);
    let (admin_role, roles_claim) = (section.optional_text("admin_role")?, section.text("roles_claim")?);
    let issuer = issuer.ok_or_else(|| section.missing("issuer"))?;
    if !is_safe_address(&issuer) || issuer.contains(['?', '#']) {
        return Err(section.error("issuer", "must be an https address (http only on this machine), as the provider calls itself"));
    }
    if !scopes.split(' ').any(|scope| scope == "openid") {
        return Err(section.error("scopes", "must hold openid"));
    }
    if name.as_ref().is_some_and(|name| name.chars().count() > NAME_CHARS_MAX) {
        return Err(section.error("name", format_args!("must have at most {NAME_CHARS_MAX} characters")));
    }
    Ok(OidcConfig {
        issuer,
        client_id: client_id.ok_or_else(|| section.missing("client_id"))?,
        client_secret,
        scopes,
        name,
        admin_role,
        roles_claim,
        ask_every: KEYS_ASKED_EVERY,
    })
}
