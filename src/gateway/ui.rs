//! The web UI, out of the binary.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

use super::error::Refusal;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/ui"]
struct Assets;

/// Names with a hash in them never change what they hold.
const FOREVER: &str = "public, max-age=31536000, immutable";
const ASK_AGAIN: &str = "no-cache";

/// Everything that is no other route: a file of the UI, or its page, since the page makes its own addresses.
pub(super) async fn serve(request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Refusal::not_found().into_response();
    }
    let path = request.uri().path().trim_start_matches('/');
    // Programs ask there, and a page would be no answer to them.
    if matches!(path.split('/').next(), Some("api" | "v1")) {
        return Refusal::not_found().into_response();
    }
    let encodings = request.headers().get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(response) = file(path, encodings) {
        return response;
    }
    // A missing asset is missing; any other address is the page's own.
    let is_asset = path.starts_with("assets/") || path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    match file("index.html", encodings) {
        Some(page) if !is_asset => page,
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn file(path: &str, encodings: &str) -> Option<Response> {
    let (encoding, file) = [("br", ".br"), ("gzip", ".gz")]
        .iter()
        .filter(|(name, _)| encodings.contains(name))
        .find_map(|(name, suffix)| Some((Some(*name), Assets::get(&format!("{path}{suffix}"))?)))
        .or_else(|| Some((None, Assets::get(path)?)))?;
    let kind =
        Assets::get(path).map_or_else(|| "application/octet-stream".to_owned(), |plain| plain.metadata.mimetype().to_owned());
    let mut response = Response::new(Body::from(file.data));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&kind).ok()?);
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    let cache = if path.starts_with("assets/") { FOREVER } else { ASK_AGAIN };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    Some(response)
}
