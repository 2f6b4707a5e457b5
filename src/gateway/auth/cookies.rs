//! Cookies in and out: always for this host alone, out of reach of scripts, and not sent along by other sites' forms.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::backend::Error;

/// Every value that came under this name.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|all| all.split(';'));
    all.filter_map(move |cookie| cookie.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Sets a cookie for so many seconds; for none it goes.
pub(super) fn set(name: &str, value: &str, seconds: u64, secure: bool) -> Result<HeaderValue, Error> {
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    HeaderValue::from_str(&cookie).map_err(|_| Error::Corrupt("a cookie with characters that headers can't hold".to_owned()))
}
