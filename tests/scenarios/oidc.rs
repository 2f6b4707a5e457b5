//! Logging in at an OpenID Connect provider: a browser that leaves by one gateway and comes back to another, and all that must
//! let nobody in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use chatnode::backend::Backends;
use chatnode::backend::accounts::AccountChange;
use chatnode::config::{AuthConfig, Config, OidcConfig, Secret};
use chatnode::model::UserId;
use chatnode::protocol::ServerFrame;
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};

use super::login::cluster;
use crate::harness::issuer::SigningKey;
use crate::harness::node::{Node, world};
use crate::harness::people;
use crate::harness::provider::{CLIENT, CLIENT_SECRET, Provider};
use crate::harness::rest::{read, unled_client};

/// The address under which people know all gateways; something before them sends each request to one of them.
const OUTSIDE: &str = "https://chat.example";

fn config(name: &str, provider: &Provider) -> Config {
    let mut config = people::config(name);
    config.gateway.public_url = Some(OUTSIDE.to_owned());
    let AuthConfig::Login(login) = &mut config.gateway.auth else { panic!() };
    login.oidc = Some(Box::new(OidcConfig {
        issuer: provider.name(),
        client_id: CLIENT.to_owned(),
        client_secret: Some(Secret::new(CLIENT_SECRET)),
        scopes: "openid profile".to_owned(),
        name: Some("Example".to_owned()),
        admin_role: None,
        roles_claim: "realm_access.roles".to_owned(),
        ask_every: Duration::ZERO,
    }));
    config
}

fn with_roles(name: &str, provider: &Provider) -> Config {
    let mut config = config(name, provider);
    let AuthConfig::Login(login) = &mut config.gateway.auth else { panic!() };
    login.oidc.as_mut().expect("a provider").admin_role = Some("boss".to_owned());
    config
}

/// Follows no address by itself, and keeps cookies by their name, as the gateways share a host.
struct Browser {
    client: Client,
    jar: BTreeMap<String, String>,
}

impl Browser {
    fn new() -> Self {
        Self { client: unled_client(), jar: BTreeMap::new() }
    }

    fn cookies(&self) -> String {
        let pairs: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    /// Where this address sends us.
    async fn sent(&mut self, address: &str) -> String {
        let response = self.client.get(address).header("cookie", self.cookies()).send().await.expect("an answer");
        for cookie in response.headers().get_all("set-cookie") {
            let text = cookie.to_str().expect("text");
            assert!(text.contains("; HttpOnly; SameSite=Lax; Secure"), "{text}");
            let (name, value) = text.split(';').next().and_then(|pair| pair.split_once('=')).expect("a cookie");
            if value.is_empty() {
                self.jar.remove(name)
            } else {
                self.jar.insert(name.to_owned(), value.to_owned())
            };
        }
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{address}");
        response.headers()["location"].to_str().expect("text").to_owned()
    }

    /// To the provider and back: the address that it sends us to.
    async fn answer(&mut self, by: &Node, back: &str) -> String {
        let place: String = url::form_urlencoded::byte_serialize(back.as_bytes()).collect();
        let provider = self.sent(&format!("http://{}/api/login/oidc?back={place}", by.address)).await;
        let answer = self.sent(&provider).await;
        assert!(answer.starts_with(&format!("{OUTSIDE}/api/login/oidc/callback?")), "{answer}");
        answer
    }

    /// Goes to an address of [`OUTSIDE`], which is this gateway today.
    async fn at(&mut self, node: &Node, address: &str) -> String {
        let path = address.strip_prefix(OUTSIDE).expect("an address of ours");
        self.sent(&format!("http://{}{path}", node.address)).await
    }

    /// All of it: where it ends.
    async fn log_in(&mut self, by: &Node, to: &Node) -> String {
        let answer = self.answer(by, "/").await;
        self.at(to, &answer).await
    }

    fn is_in(&self) -> bool {
        self.jar.contains_key("chatnode_session")
    }

    async fn me(&self, address: SocketAddr) -> (StatusCode, Value) {
        read(self.client.get(format!("http://{address}/api/me")).header("cookie", self.cookies())).await
    }
}

/// Where one ends who came from the page's beginning.
fn end(word: &str) -> String {
    format!("{OUTSIDE}/?login={word}#/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_by_one_gateway_comes_back_to_another() {
    let world = world();
    there_and_back(&world, &world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_by_one_gateway_comes_back_to_another_in_a_cluster() {
    let Some((a, b)) = cluster().await else { return };
    there_and_back(&a.backends, &b.backends).await;
    a.end().await;
    b.end().await;
}

async fn there_and_back(one: &Backends, two: &Backends) {
    let provider = Provider::start().await;
    let (a, b) = (Node::with(config("a", &provider), one).await, Node::with(config("b", &provider), two).await);
    let methods = read(unled_client().get(format!("http://{}/api/login", a.address))).await.1;
    assert_eq!(methods, json!({"methods": ["local", "oidc"], "provider": "Example"}));

    let mut browser = Browser::new();
    let answer = browser.answer(&a, "/c/cnv_1").await;
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["chatnode_oidc"]);
    assert_eq!(browser.at(&b, &answer).await, format!("{OUTSIDE}/?login=done#/c/cnv_1"), "back where one was");
    assert_eq!(browser.jar.keys().collect::<Vec<_>>(), ["chatnode_session"], "the try is over");
    let user = UserId::for_subject(&provider.name(), "1001");
    let me = json!({"user": user, "name": "mai@127.0.0.1", "admin": false});
    for node in [&a, &b] {
        assert_eq!(browser.me(node.address).await, (StatusCode::OK, me.clone()));
    }
    let tab = crate::harness::client::Tab { cookie: Some(browser.cookies()), page: true, ..Default::default() };
    let mut socket = tab.connect(a.address).await;
    assert!(matches!(&socket.welcome, ServerFrame::Welcome { user: there, .. } if *there == user));

    // Another browser, another name at the provider: the same person.
    provider.person(json!({"sub": "1001", "preferred_username": "mai.renamed"}));
    let mut other = Browser::new();
    assert_eq!(other.log_in(&b, &a).await, end("done"));
    assert_eq!(other.me(b.address).await.1, me);
    // Somebody else of the same name is somebody else.
    provider.person(json!({"sub": "1002", "preferred_username": "mai"}));
    let mut else_where = Browser::new();
    else_where.log_in(&b, &b).await;
    let (status, they) = else_where.me(a.address).await;
    assert!(status == StatusCode::OK && they["user"] != me["user"] && they["name"] != me["name"], "{they}");

    let out = browser.client.request(Method::POST, format!("http://{}/api/logout", b.address));
    assert_eq!(read(out.header("cookie", browser.cookies())).await.0, StatusCode::NO_CONTENT);
    assert_eq!(socket.closed().await, Some(4401));
    assert_eq!(browser.me(a.address).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(other.me(a.address).await.0, StatusCode::OK);
}

#[tokio::test]
async fn keys_that_rotate_lock_nobody_out() {
    let (world, provider) = (world(), Provider::start().await);
    let a = Node::with(config("a", &provider), &world).await;
    let mut browser = Browser::new();
    browser.log_in(&a, &a).await;
    assert!(browser.is_in());
    provider.rotate(SigningKey::generate("two"));
    let mut browser = Browser::new();
    assert_eq!(browser.log_in(&a, &a).await, end("done"));
    assert!(browser.is_in());
    // The old one is good for nothing any more.
    let old = SigningKey::generate("one");
    provider.forge(move |_, claims| json!({"id_token": old.token(&claims)}));
    assert_eq!(Browser::new().log_in(&a, &a).await, end("refused"));
}

/// One way in which an answer of the provider is wrong.
type Wrong = (&'static str, fn(&SigningKey, Value) -> Value);

fn changed(key: &SigningKey, mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    json!({"id_token": key.token(&claims)})
}

fn hmac(secret: &[u8], kid: &str, claims: &Value) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{KeyInit, Mac};
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "kid": kid})), part(claims));
    let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(secret).expect("a key").chain_update(&signed).finalize();
    json!({"id_token": format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.into_bytes()))})
}

const WRONG: [Wrong; 18] = [
    ("expired", |key, claims| changed(key, claims, "exp", json!(chatnode::model::Time::now().0 / 1_000 - 31))),
    ("not yet", |key, claims| changed(key, claims, "nbf", json!(chatnode::model::Time::now().0 / 1_000 + 90))),
    ("no end", |key, claims| changed(key, claims, "exp", Value::Null)),
    ("for others", |key, claims| changed(key, claims, "aud", json!("other"))),
    ("asked for by others", |key, claims| changed(key, claims, "azp", json!("other"))),
    ("for several, asked for by nobody", |key, claims| changed(key, claims, "aud", json!(["other", CLIENT]))),
    ("from others", |key, claims| changed(key, claims, "iss", json!("https://issuer.example"))),
    ("for another try", |key, claims| changed(key, claims, "nonce", json!("x"))),
    ("for no try", |key, claims| changed(key, claims, "nonce", Value::Null)),
    ("for nobody", |key, claims| changed(key, claims, "sub", json!(""))),
    ("unsigned", |key, claims| {
        let token = key.token_as(&json!({"alg": "none"}), &claims);
        json!({"id_token": format!("{}.", token.rsplit_once('.').expect("a signature").0)})
    }),
    ("said to be unsigned", |key, claims| json!({"id_token": key.token_as(&json!({"alg": "none", "kid": key.kid}), &claims)})),
    ("signed with the public key", |key, claims| hmac(key.jwk()["x"].as_str().expect("a key").as_bytes(), &key.kid, &claims)),
    ("signed with the key as it is published", |key, claims| hmac(key.jwk().to_string().as_bytes(), &key.kid, &claims)),
    ("signed by a key of the same name", |key, claims| json!({"id_token": SigningKey::generate(&key.kid).token(&claims)})),
    ("signed by a key that nobody has", |_, claims| json!({"id_token": SigningKey::generate("no such").token(&claims)})),
    ("no token", |_, _| json!({"access_token": "x"})),
    ("something else", |_, _| json!({"id_token": "a.b.c"})),
];

#[tokio::test]
async fn a_token_that_is_wrong_in_any_way_lets_nobody_in() {
    let (world, provider) = (world(), Provider::start().await);
    let a = Node::with(config("a", &provider), &world).await;
    for (what, forge) in WRONG {
        provider.forge(forge);
        let mut browser = Browser::new();
        assert_eq!(browser.log_in(&a, &a).await, end("refused"), "{what}");
        assert!(browser.jar.is_empty(), "{what}: {:?}", browser.jar);
    }
    let user = UserId::for_subject(&provider.name(), "1001");
    assert!(world.accounts.account(&user).await.is_err(), "nobody was made of it");
    provider.forge(|key, claims| json!({"id_token": key.token(&claims)}));
    assert_eq!(Browser::new().log_in(&a, &a).await, end("done"), "and it is the token that counted");
}

#[tokio::test]
async fn an_answer_to_another_try_is_not_even_looked_at() {
    let (world, provider) = (world(), Provider::start().await);
    let (a, b) = (Node::with(config("a", &provider), &world).await, Node::with(config("b", &provider), &world).await);
    let (mut browser, mut evil) = (Browser::new(), Browser::new());
    let (own, foreign) = (browser.answer(&a, "/").await, evil.answer(&a, "/").await);
    // Logged in as somebody else, without knowing it: what a foreign page could try.
    let cookie = browser.jar.clone();
    assert_eq!(browser.at(&b, &foreign).await, end("expired"));
    assert_eq!(Browser::new().at(&b, &own).await, format!("{OUTSIDE}/?login=expired"), "without the cookie");
    browser.jar = cookie.iter().map(|(name, value)| (name.clone(), format!("{value}x"))).collect();
    assert_eq!(browser.at(&b, &own).await, format!("{OUTSIDE}/?login=expired"), "with a forged one");
    browser.jar = cookie.clone();
    assert_eq!(browser.at(&b, &format!("{OUTSIDE}/api/login/oidc/callback?code=a&code=b")).await, end("expired"));
    browser.jar = cookie.clone();
    assert_eq!(browser.at(&b, &format!("{OUTSIDE}/api/login/oidc/callback?error=access_denied")).await, end("expired"));
    assert_eq!(provider.exchanges(), 0);
    // None of it used up what is good.
    browser.jar = cookie.clone();
    let mixed_up = own.replace("realm", "other");
    assert_ne!(mixed_up, own);
    assert_eq!(browser.at(&a, &mixed_up).await, end("refused"), "another provider's answer");
    browser.jar = cookie;
    assert_eq!(browser.at(&b, &own).await, end("expired"), "of one try one answer is taken");
    assert_eq!(provider.exchanges(), 0);
    assert!(!browser.is_in());
}

#[tokio::test]
async fn a_code_lets_in_once() {
    let (world, provider) = (world(), Provider::start().await);
    let (a, b) = (Node::with(config("a", &provider), &world).await, Node::with(config("b", &provider), &world).await);
    let mut browser = Browser::new();
    let answer = browser.answer(&a, "/").await;
    let thief = browser.jar.clone();
    assert_eq!(browser.at(&a, &answer).await, end("done"));
    for node in [&a, &b] {
        let mut replay = Browser { jar: thief.clone(), ..Browser::new() };
        assert_eq!(replay.at(node, &answer).await, end("expired"));
        assert!(!replay.is_in());
    }
    assert_eq!(provider.exchanges(), 1);
    // A code of another's try, used or not, in an answer to one's own.
    let unused = Browser::new().answer(&a, "/").await;
    for code in [&answer, &unused] {
        let mut evil = Browser::new();
        let mut own = Url::parse(&evil.answer(&a, "/").await).expect("an address");
        let code = Url::parse(code).expect("an address");
        let code = code.query_pairs().find(|(name, _)| name == "code").expect("a code").1.into_owned();
        let pairs: Vec<(String, String)> = own.query_pairs().into_owned().filter(|(name, _)| name != "code").collect();
        own.query_pairs_mut().clear().extend_pairs(pairs).append_pair("code", &code);
        assert_eq!(evil.at(&b, own.as_str()).await, end("refused"));
        assert!(!evil.is_in());
    }
    assert_eq!(provider.exchanges(), 3);
}

#[tokio::test]
async fn a_provider_that_is_away_is_said_to_be_and_comes_back() {
    let (world, provider) = (world(), Provider::start().await);
    provider.away(true);
    let a = Node::with(config("a", &provider), &world).await;
    let start = format!("http://{}/api/login/oidc?back=/", a.address);
    assert_eq!(Browser::new().sent(&start).await, end("unavailable"));
    let metrics = unled_client().get(format!("http://{}/metrics", a.address)).send().await.expect("an answer");
    let counted = "chatnode_auth_total{method=\"oidc\",result=\"unavailable\"} 1";
    assert!(metrics.text().await.expect("text").contains(counted), "operators see it");
    people::add(&world, "binh", false).await;
    // Who needs no provider needs none.
    let body = json!({"name": "binh", "password": people::PASSWORD});
    let local = unled_client().post(format!("http://{}/api/login", a.address)).json(&body);
    assert_eq!(read(local).await.0, StatusCode::OK);
    provider.away(false);
    let mut browser = Browser::new();
    let answer = browser.answer(&a, "/").await;
    provider.away(true);
    assert_eq!(browser.at(&a, &answer).await, end("unavailable"), "it went while somebody was there");
    provider.away(false);
    assert_eq!(browser.log_in(&a, &a).await, end("done"));
    // Sessions don't need it.
    provider.away(true);
    assert_eq!(browser.me(a.address).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_provider_that_nobody_can_reach_or_that_is_another_lets_nobody_in() {
    let (world, provider) = (world(), Provider::start().await);
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address");
    for issuer in [format!("http://{closed}/realm"), format!("{}/", provider.name())] {
        let mut config = config("a", &provider);
        let AuthConfig::Login(login) = &mut config.gateway.auth else { panic!() };
        login.oidc.as_mut().expect("a provider").issuer = issuer;
        let a = Node::with(config, &world).await;
        assert_eq!(Browser::new().sent(&format!("http://{}/api/login/oidc?back=/", a.address)).await, end("unavailable"));
    }
}

#[tokio::test]
async fn what_the_provider_says_instead_of_a_code_leads_back_to_the_page() {
    let (world, provider) = (world(), Provider::start().await);
    let a = Node::with(config("a", &provider), &world).await;
    for (error, word) in [("access_denied", "denied"), ("server_error", "unavailable"), ("<script>", "refused")] {
        provider.refuse(Some(error));
        let mut browser = Browser::new();
        assert_eq!(browser.log_in(&a, &a).await, end(word), "{error}");
        assert!(browser.jar.is_empty());
    }
    provider.refuse(None);
    // Nothing of what is said to us is an address.
    for evil in ["https://evil.example", "//evil.example", "/\\evil.example", "/a?b=c", "/a\r\nb", ""] {
        let mut browser = Browser::new();
        let answer = browser.answer(&a, evil).await;
        assert_eq!(browser.at(&a, &answer).await, format!("{OUTSIDE}/?login=done"), "{evil}");
    }
}

#[tokio::test]
async fn who_is_disabled_stays_out() {
    let (world, provider) = (world(), Provider::start().await);
    let a = Node::with(config("a", &provider), &world).await;
    let mut browser = Browser::new();
    browser.log_in(&a, &a).await;
    let account = world.accounts.account(&UserId::for_subject(&provider.name(), "1001")).await.expect("an account");
    people::disable(&world, &account).await;
    assert_eq!(browser.me(a.address).await.0, StatusCode::UNAUTHORIZED);
    let mut again = Browser::new();
    assert_eq!(again.log_in(&a, &a).await, end("refused"));
    assert!(again.jar.is_empty());
    let change = AccountChange { disabled: Some(false), ..AccountChange::default() };
    world.accounts.change(&account.id, &change).await.expect("a change");
    again.log_in(&a, &a).await;
    assert_eq!(again.me(a.address).await.0, StatusCode::OK);
}

#[tokio::test]
async fn an_admin_is_who_the_provider_says_where_it_has_a_say() {
    let (world, provider) = (world(), Provider::start().await);
    let (a, b) = (Node::with(with_roles("a", &provider), &world).await, Node::with(config("b", &provider), &world).await);
    let person = |roles: Value| json!({"sub": "1001", "preferred_username": "mai", "realm_access": {"roles": roles}});
    let mut first = Browser::new();
    for (roles, node, admin) in
        [(json!(["boss"]), &b, false), (json!(["other", "boss"]), &a, true), (json!([]), &b, true), (json!("bosses"), &a, false)]
    {
        provider.person(person(roles.clone()));
        let mut browser = Browser::new();
        browser.log_in(node, node).await;
        assert_eq!(browser.me(a.address).await.1["admin"], json!(admin), "{roles}");
        if !first.is_in() {
            first = browser;
        }
    }
    // Who has logged in before is no more than that either.
    assert_eq!(first.me(b.address).await.1["admin"], json!(false));
}

/// As the standard has it (OpenID Connect Core, section 5.4), and as some providers do.
#[tokio::test]
async fn what_the_id_token_leaves_out_is_asked_for() {
    let (world, provider) = (world(), Provider::start().await);
    let told = |sub: &str| json!({"sub": sub, "preferred_username": "Lan", "realm_access": {"roles": ["boss"]}});
    provider.tell(StatusCode::OK, told("1002"));
    let a = Node::with(with_roles("a", &provider), &world).await;
    for (sub, status, answer, name, admin) in [
        ("1002", StatusCode::OK, told("1002"), "lan@127.0.0.1", true),
        // Somebody else's, nothing at all, and nonsense tell nothing.
        ("1003", StatusCode::OK, told("1002"), "1003@127.0.0.1", false),
        ("1004", StatusCode::FORBIDDEN, told("1004"), "1004@127.0.0.1", false),
        ("1005", StatusCode::OK, json!(["lan"]), "1005@127.0.0.1", false),
    ] {
        provider.person(json!({"sub": sub}));
        provider.tell(status, answer);
        let mut browser = Browser::new();
        assert_eq!(browser.log_in(&a, &a).await, end("done"), "{sub}");
        let me = browser.me(a.address).await.1;
        assert_eq!((&me["name"], &me["admin"]), (&json!(name), &json!(admin)), "{sub}");
    }
    // Who can't be asked now lets nobody in as less than he is.
    provider.tell(StatusCode::BAD_GATEWAY, Value::Null);
    assert_eq!(Browser::new().log_in(&a, &a).await, end("unavailable"));
}

#[tokio::test]
async fn tries_that_nobody_began_are_slowed_down() {
    let (world, provider) = (world(), Provider::start().await);
    let (a, b) = (Node::with(config("a", &provider), &world).await, Node::with(config("b", &provider), &world).await);
    let mut ends = BTreeMap::<String, usize>::new();
    for node in [&a, &b].into_iter().cycle().take(40) {
        let end = Browser::new().at(node, &format!("{OUTSIDE}/api/login/oidc/callback?code=x&state=y")).await;
        *ends.entry(end).or_default() += 1;
    }
    let expired = ends[&format!("{OUTSIDE}/?login=expired")];
    assert!((30..=32).contains(&expired) && ends[&format!("{OUTSIDE}/?login=throttled")] == 40 - expired, "{ends:?}");
    assert_eq!(provider.exchanges(), 0);
}

/// Without an address of its own a node is known by the one that the browser names.
#[tokio::test]
async fn a_node_alone_is_come_back_to_where_it_was_left() {
    let (world, provider) = (world(), Provider::start().await);
    let mut alone = config("a", &provider);
    alone.gateway.public_url = None;
    let a = Node::with(alone, &world).await;
    let asked = unled_client().get(format!("http://{}/api/login/oidc", a.address)).send().await.expect("an answer");
    let url = Url::parse(asked.headers()["location"].to_str().expect("text")).expect("an address");
    let asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    assert_eq!(asked["redirect_uri"], format!("http://{}/api/login/oidc/callback", a.address));
    assert_eq!((asked["code_challenge_method"].as_str(), asked["tenant"].as_str()), ("S256", "a"));
    assert!(!url.as_str().contains("s3cret") && asked["state"].len() == 43 && asked["nonce"].len() == 43, "{url}");
}
