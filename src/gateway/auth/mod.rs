//! Who is asking, and by what right. Handlers get a [`Caller`]; how it was found out is nobody else's business.

mod anonymous;
pub(super) mod bearer;
mod cookies;
mod issuer;
mod jwt;
pub(super) mod oidc;
pub(super) mod origin;
pub(super) mod right;
mod secret;
pub(super) mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use self::anonymous::Signed;
use self::bearer::Trusted;
use self::oidc::{Answer, Fault, Oidc};
use self::origin::Origin;
use self::right::{Standing, Watchlist};
use self::token::Token;
use super::allowance::Asker;
use super::error::Refusal;
use crate::backend::accounts::{Account, AccountChange, Pass, PassKind};
use crate::backend::{Backends, Error, Hint, Subject};
use crate::config::{AuthConfig, GatewayConfig};
use crate::drain::Drain;
use crate::model::{Time, UserId};
use crate::password;
use crate::protocol::ErrorCode;
use crate::telemetry::Metrics;

const SESSION_COOKIE: &str = "chatnode_session";
/// Passwords checked at once; each takes about 19 MiB and a processor.
const HASHING_MAX: usize = 2;
/// Those that are checked or wait for it: a second or two of work.
const HASHING_QUEUE_MAX: usize = 32;
const HASHING_RETRY_MS: u64 = 2_000;

/// Somebody who may be here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    /// Absent where nobody logs in.
    pub name: Option<String>,
    /// May see how the cluster stands. Where nobody logs in, everybody may who reaches the operators' listener.
    pub admin: bool,
    pub(super) expires_at: Option<Time>,
    proof: Proof,
}

#[derive(Clone, PartialEq, Eq)]
enum Proof {
    Anonymous,
    /// A pass of this digest, in a cookie.
    Session(String),
    /// A pass of this digest, in a header.
    Key(String),
    /// A token of a trusted issuer, which can't be taken back; its account can be disabled.
    Issued,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Session(_) => "Session(***)",
            Self::Key(_) => "Key(***)",
            Self::Issued => "Issued",
        })
    }
}

impl Caller {
    fn anonymous(user: UserId, admin: bool) -> Self {
        Self { user, name: None, admin, expires_at: None, proof: Proof::Anonymous }
    }

    fn of(account: Account, pass: &Pass, proof: Proof) -> Self {
        Self { user: account.id, name: Some(account.name), admin: account.admin, expires_at: pass.expires_at, proof }
    }

    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.proof == Proof::Anonymous
    }

    /// True when a browser says who this is without being asked to: then the page that made it do so counts.
    #[must_use]
    pub fn came_by_cookie(&self) -> bool {
        matches!(self.proof, Proof::Session(_) | Proof::Anonymous)
    }
}

/// Knows callers, and lets people in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Auth {
    backends: Backends,
    config: Arc<GatewayConfig>,
    signed: Signed,
    watchlist: Watchlist,
    trusted: Option<Trusted>,
    oidc: Option<Oidc>,
    metrics: Metrics,
    hashing: Arc<Semaphore>,
    hashing_queue: Arc<Semaphore>,
    /// Where nobody logs in.
    everybody_is_admin: bool,
}

impl Auth {
    #[must_use]
    pub fn new(backends: Backends, config: Arc<GatewayConfig>, drain: &Drain, metrics: Metrics) -> Self {
        let watchlist = Watchlist::default();
        if config.auth != AuthConfig::Anonymous {
            watchlist.clone().run(Arc::clone(&backends.accounts), drain);
        }
        let login = match &config.auth {
            AuthConfig::Login(login) => Some(login),
            AuthConfig::Anonymous => None,
        };
        let trusted = login.and_then(|login| login.jwt.as_ref()).map(|jwt| Trusted::new(jwt, drain));
        let oidc = login.and_then(|login| login.oidc.as_ref()).map(|oidc| Oidc::new(oidc, backends.clone(), drain));
        let signed = Signed::new(&backends, drain);
        let hashing = Arc::new(Semaphore::new(HASHING_MAX));
        let hashing_queue = Arc::new(Semaphore::new(HASHING_QUEUE_MAX));
        let everybody_is_admin = !config.admin_apart;
        Self { backends, config, signed, watchlist, trusted, oidc, metrics, hashing, hashing_queue, everybody_is_admin }
    }

    /// For the operators' listener.
    pub(super) fn of_operators(&self) -> Self {
        Self { everybody_is_admin: true, ..self.clone() }
    }

    /// The provider at which people log in, if there is one.
    pub(super) fn oidc(&self) -> Option<&Oidc> {
        self.oidc.as_ref()
    }

    /// True when cookies are for encrypted connections alone.
    pub(super) fn secure(&self) -> bool {
        self.config.encrypted()
    }

    /// [`Self::caller`], reported.
    async fn counted(&self, headers: &HeaderMap) -> Result<Option<Caller>, Error> {
        let outcome = self.caller(headers).await;
        let brought = match bearer::of(headers) {
            Some(token) => Some(bearer::method(token)),
            None => cookies::values(headers, SESSION_COOKIE).next().map(|_| "session"),
        };
        // Who brings nothing did not try.
        if let Some(method) = brought {
            let result = match &outcome {
                Ok(Some(_)) => "accepted",
                Ok(None) => "refused",
                Err(_) => "unavailable",
            };
            self.metrics.authenticated(method, result);
        }
        outcome
    }

    /// Whoever these headers name, where people log in. `None`: nobody whom we let in.
    async fn caller(&self, headers: &HeaderMap) -> Result<Option<Caller>, Error> {
        // Who brings a token means it: a cookie does not stand in for one that is not good.
        if let Some(token) = bearer::of(headers) {
            return self.bearer(token).await;
        }
        for token in cookies::values(headers, SESSION_COOKIE).filter_map(Token::parse) {
            let digest = token.digest();
            match self.backends.accounts.admit(&token.user, &digest, Time::now()).await {
                Ok((account, pass)) if pass.kind == PassKind::Session => {
                    return Ok(Some(Caller::of(account, &pass, Proof::Session(digest))));
                }
                Ok(_) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Whether a caller would be let in again.
    async fn still(&self, caller: &Caller) -> Result<Standing, Error> {
        let account = match &caller.proof {
            Proof::Anonymous => return Ok(Standing::Same),
            // As what it comes, its token says.
            Proof::Issued => self.backends.accounts.account(&caller.user).await.map(|account| (account.disabled, false)),
            Proof::Session(digest) | Proof::Key(digest) => {
                let admitted = self.backends.accounts.admit(&caller.user, digest, Time::now()).await;
                admitted.map(|(account, _)| (account.disabled, caller.admin && !account.admin))
            }
        };
        match account {
            Ok((false, false)) => Ok(Standing::Same),
            Ok((false, true)) => Ok(Standing::Less),
            Ok((true, _)) | Err(Error::NotFound) => Ok(Standing::Gone),
            Err(error) => Err(error),
        }
    }

    /// The account of this name, if this is its password: the same answer, after the same work, for whoever isn't there, has
    /// another password, or is disabled.
    ///
    /// # Errors
    /// `overloaded` when too many wait to be checked, `unavailable` while the store is away.
    pub(super) async fn check_password(&self, name: Option<&str>, password: String) -> Result<Option<Account>, Refusal> {
        let Ok(_place) = self.hashing_queue.try_acquire() else {
            return Err(Refusal::new(ErrorCode::Overloaded, "too many are logging in").retry_after(HASHING_RETRY_MS));
        };
        let account = match name {
            Some(name) => match self.backends.accounts.named(name).await {
                Ok(account) => Some(account),
                Err(Error::NotFound) => None,
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        let gone = || Error::Unavailable("the node is stopping".to_owned());
        let turn = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| gone())?;
        let hash = account.as_ref().and_then(|account| account.password.clone());
        let fits = tokio::task::spawn_blocking(move || {
            let fits = password::verify(&password, hash.as_deref());
            drop(turn);
            fits
        });
        let fits = fits.await.map_err(|_| gone())?;
        Ok(account.filter(|account| fits && !account.disabled))
    }

    /// Begins a session, and answers the cookie that is it.
    pub(super) async fn log_in(&self, account: &Account) -> Result<HeaderValue, Error> {
        let lasts = match &self.config.auth {
            AuthConfig::Login(login) => login.session,
            AuthConfig::Anonymous => Duration::ZERO,
        };
        let (token, now) = (Token::generate(&account.id), Time::now());
        let lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
        let pass = Pass {
            user: account.id.clone(),
            digest: token.digest(),
            kind: PassKind::Session,
            label: String::new(),
            created_at: now,
            expires_at: Some(Time(now.0.saturating_add(lasts_ms))),
            era: account.era,
        };
        self.backends.accounts.issue(&pass).await?;
        cookies::set(SESSION_COOKIE, token.reveal(), lasts.as_secs(), self.secure())
    }

    /// The account of somebody who comes back from the provider; as an admin if the provider says so, where it has a say in it.
    pub(super) async fn admitted(
        &self,
        oidc: &Oidc,
        headers: &HeaderMap,
        answer: Answer,
        redirect: &str,
    ) -> Result<Account, Fault> {
        let bearer = oidc.finish(headers, answer, redirect).await?;
        let config = oidc.config();
        let account = self.enrol(&config.issuer, &bearer.subject, bearer.name.as_deref()).await?;
        if account.disabled {
            return Err(Fault::Refused);
        }
        if config.admin_role.is_none() || account.admin == bearer.admin {
            return Ok(account);
        }
        let change = AccountChange { admin: Some(bearer.admin), ..AccountChange::default() };
        tracing::info!(target: "audit", user = %account.id, admin = bearer.admin, "role changed by the provider");
        Ok(self.backends.accounts.change(&account.id, &change).await?)
    }

    /// A key's text, for its owner alone, and what is stored of it.
    pub(super) fn new_key(&self, user: &UserId, label: String) -> (String, Pass) {
        let token = Token::generate(user);
        let pass = Pass {
            user: user.clone(),
            digest: token.digest(),
            kind: PassKind::Key,
            label,
            created_at: Time::now(),
            expires_at: None,
            era: 0,
        };
        (bearer::key_text(&token), pass)
    }

    /// Ends the session that a caller came with; its sockets close on every node. Answers the cookie that takes it away.
    pub(super) async fn log_out(&self, caller: &Caller) -> Result<HeaderValue, Error> {
        if let Proof::Session(digest) = &caller.proof {
            self.backends.accounts.revoke(&caller.user, digest).await?;
            self.backends.backplane.publish(&Subject::User(caller.user.clone()), Hint::Access).await;
        }
        cookies::set(SESSION_COOKIE, "", 0, self.secure())
    }
}

/// Puts the [`Caller`] and its [`UserId`] into the request's extensions. Without a login, whoever comes without our cookie
/// gets one. With a login, whoever isn't known is refused, but for the socket's address: browsers don't tell pages why
/// an upgrade failed, so there it is the socket's task to say.
pub async fn identify(State(auth): State<Auth>, request: Request, next: Next) -> Response {
    match &auth.config.auth {
        AuthConfig::Anonymous => identify_browser(&auth, request, next).await,
        AuthConfig::Login(_) => match auth.counted(request.headers()).await {
            Ok(Some(caller)) => let_through(&auth, caller, request, next).await,
            Ok(None) if request.uri().path() == super::SOCKET_PATH => next.run(request).await,
            Ok(None) => Refusal::unauthorized().into_response(),
            Err(error) => Refusal::from(error).into_response(),
        },
    }
}

async fn let_through(auth: &Auth, caller: Caller, mut request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    // Another site's page may make a browser send our cookie along.
    if changes && caller.came_by_cookie() && origin::of(request.headers(), &auth.config) == Origin::Foreign {
        return Refusal::forbidden("this origin is not allowed").into_response();
    }
    let from = origin::address(request.headers(), request.extensions(), &auth.config.trusted_proxies);
    let asker = Asker { user: caller.user.clone(), near: origin::neighbourhood(from).into(), admin: caller.admin };
    request.extensions_mut().insert(asker);
    request.extensions_mut().insert(caller.user.clone());
    request.extensions_mut().insert(caller);
    next.run(request).await
}

async fn identify_browser(auth: &Auth, request: Request, next: Next) -> Response {
    let user = match auth.signed.known(request.headers()).await {
        Ok(Some(user)) => {
            auth.metrics.authenticated("anonymous", "accepted");
            return let_through(auth, Caller::anonymous(user, auth.everybody_is_admin), request, next).await;
        }
        Ok(None) => UserId::generate(),
        Err(error) => return Refusal::from(error).into_response(),
    };
    let cookie = match auth.signed.cookie(&user, auth.secure()).await {
        Ok(cookie) => cookie,
        Err(error) => return Refusal::from(error).into_response(),
    };
    auth.metrics.authenticated("anonymous", "new");
    let mut response = let_through(auth, Caller::anonymous(user, auth.everybody_is_admin), request, next).await;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}
