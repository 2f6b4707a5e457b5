//! Requests made from the schemas of an API: as they should be, and a little or far beside it. It must not know what the API does
//! with them.

use std::collections::{BTreeMap, VecDeque};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use reqwest::Method;
use serde_json::Value;

use super::odd::{Json, bite, change, odd_text};
use super::schema::{Document, Operation, Parameter, types};

/// Things of one kind that are remembered.
const KEPT: usize = 24;
/// Bytes of an answer that is sent back.
const SAMPLE_BYTES_MAX: usize = 60_000;

/// What earlier answers named: ids by their kind, and the fields of bodies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    texts: BTreeMap<String, VecDeque<String>>,
    /// Whole answers, by the schema that they have.
    samples: BTreeMap<String, VecDeque<Value>>,
}

/// A request as it goes out.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Option<Vec<u8>>,
    /// False for somebody whom nobody knows.
    pub(crate) known: bool,
}

impl Pool {
    /// Things that no answer names.
    pub(crate) fn know(&mut self, field: &str, texts: &[&str]) {
        self.texts.entry(field.to_owned()).or_default().extend(texts.iter().map(|text| (*text).to_owned()));
    }

    /// Learns from an answer.
    pub(crate) fn learn(&mut self, schema: Option<&str>, answer: &Value) {
        self.walk(answer);
        if let Some(schema) = schema
            && answer.to_string().len() < SAMPLE_BYTES_MAX
        {
            let samples = self.samples.entry(schema.to_owned()).or_default();
            samples.push_back(answer.clone());
            samples.drain(..samples.len().saturating_sub(KEPT / 6));
        }
    }

    fn walk(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.walk(field);
                    let Some(text) = field.as_str() else { continue };
                    let kind = match (text.get(..4), name.as_str()) {
                        (Some(kind @ ("cnv_" | "msg_" | "gen_")), _) => kind,
                        (_, "id" | "next" | "position") => name,
                        _ => continue,
                    };
                    let texts = self.texts.entry(kind.to_owned()).or_default();
                    if !texts.iter().any(|old| old == text) {
                        texts.push_back(text.to_owned());
                        texts.drain(..texts.len().saturating_sub(KEPT));
                    }
                }
            }
            _ => {}
        }
    }

    /// What may stand in a field of this name (of an address, with what stands before it).
    fn of(&self, field: &str) -> Vec<String> {
        let kinds: &[&str] = match field {
            "conversations/id" | "conversation" => &["cnv_"],
            "generations/id" | "generation" => &["gen_"],
            "keys/id" => &["id"],
            "id" => &["cnv_", "msg_", "gen_", "id"],
            "parent" | "leaf" | "before" | "through" | "siblings" => &["msg_"],
            "after" | "last-event-id" | "position" => &["position"],
            "cursor" => &["next", "msg_"],
            _ => &[],
        };
        let known = kinds.iter().chain([&field]).filter_map(|kind| self.texts.get(*kind)).flatten();
        known.cloned().collect()
    }
}

/// Requests for one operation, with what is known by now.
pub(crate) fn cases(document: &Document, operation: &Operation, pool: &Pool) -> BoxedStrategy<Case> {
    let method = prop_oneof![
        24 => Just(operation.method.clone()),
        1 => select(vec![Method::PUT, Method::PATCH, Method::DELETE, Method::POST, Method::GET, Method::OPTIONS])
    ];
    let of = |place: &str| -> Vec<&Parameter> { operation.parameters.iter().filter(|p| p.place == place).collect() };
    let named: Vec<_> = of("header").into_iter().map(|p| named_header(p, pool)).collect();
    let headers = (named, vec(odd_header(), 0..3)).prop_map(|(named, odd)| named.into_iter().flatten().chain(odd).collect());
    let body = match &operation.body {
        Some(schema) => body(document, schema, pool),
        None => prop_oneof![9 => Just(None), 1 => Just(Some(b"{}".to_vec()))].boxed(),
    };
    let kind = select(vec!["text/plain", "", "application/json; charset=utf-16", "application/jsonx", "multipart/form-data"]);
    let kind = prop_oneof![19 => Just("application/json"), 1 => kind];
    let target = (path(operation, pool), query(&of("query"), pool)).prop_map(|(path, query)| path + &query);
    let parts = (method, target, headers, body, kind, prop::bool::weighted(0.95));
    parts
        .prop_map(|(method, target, headers, body, kind, known)| {
            let mut headers: Vec<(String, Vec<u8>)> = headers;
            headers.extend(body.iter().map(|_| ("content-type".to_owned(), kind.as_bytes().to_vec())));
            Case { method, target, headers, body, known }
        })
        .boxed()
}

fn path(operation: &Operation, pool: &Pool) -> BoxedStrategy<String> {
    let Some((before, after)) = operation.path.split_once("{id}") else { return Just(operation.path.clone()).boxed() };
    let kind = before.rsplit('/').nth(1).unwrap_or_default();
    let own = pool.of(&format!("{kind}/id"));
    let own = if own.is_empty() { pool.of("id") } else { own };
    let id = prop_oneof![
        14 => one_of(own),
        1 => one_of(pool.of("id")),
        2 => well_formed(),
        1 => odd_text().prop_map(|text| percent(&text)),
        1 => select(vec!["%00", "%ff%fe", "..%2f..%2fetc", "%", "%zz", "a%2fb", "", "%25%30%30", "%e2%80%ae", ";", "*", "a%0d%0ab"])
            .prop_map(str::to_owned),
    ];
    let (before, after) = (before.to_owned(), after.to_owned());
    // Dots alone are taken for a way up before anything is sent: that would be another operation.
    id.prop_map(move |id| format!("{before}{}{after}", if id == "." || id == ".." { "x" } else { &id })).boxed()
}

fn query(parameters: &[&Parameter], pool: &Pool) -> BoxedStrategy<String> {
    let one = |p: &Parameter| {
        let (name, known) = (p.name.clone(), pool.of(&p.name));
        let value = prop_oneof![
            4 => scalar(&p.schema, &known).prop_map(|text| percent(&text)),
            1 => odd_text().prop_map(|text| percent(&text)),
            1 => select(vec!["%ff", "%00", "%", "%zz", "", "&&", "=", "a&a=b", "+%2b", "[]", "-1", "1e3"]).prop_map(str::to_owned),
        ];
        let value = value.prop_map(move |value| format!("{name}={value}"));
        let value = prop_oneof![19 => value.clone(), 1 => value.prop_map(|value| format!("{value}&{value}"))];
        let some = if p.required { 0.95 } else { 0.4 };
        option::weighted(some, value).boxed()
    };
    let pairs: Vec<_> = parameters.iter().map(|p| one(p)).collect();
    let extra = option::weighted(0.05, select(vec!["extra=1", "%ff=%fe", "limit", "?", "a[]=1&a[]=2"]).prop_map(str::to_owned));
    (pairs, extra)
        .prop_map(|(pairs, extra)| {
            let pairs: Vec<String> = pairs.into_iter().flatten().chain(extra).collect();
            if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
        })
        .boxed()
}

fn named_header(parameter: &Parameter, pool: &Pool) -> BoxedStrategy<Option<(String, Vec<u8>)>> {
    let name = parameter.name.to_lowercase();
    let value = prop_oneof![
        3 => scalar(&parameter.schema, &pool.of(&name)).prop_map(String::into_bytes),
        1 => header_bytes(),
    ];
    let value = value.prop_map(move |value| (name.clone(), value.into_iter().filter(|b| *b >= 32 && *b != 127).collect()));
    option::weighted(0.4, value).boxed()
}

fn odd_header() -> BoxedStrategy<(String, Vec<u8>)> {
    let name = select(vec![
        "accept",
        "accept-language",
        "if-none-match",
        "if-modified-since",
        "if-match",
        "range",
        "origin",
        "x-forwarded-for",
        "te",
        "authorization",
        "content-encoding",
        "accept-encoding",
        "traceparent",
        "x-http-method-override",
        "referer",
    ]);
    let value = select(vec![
        "",
        "*",
        "*/*",
        "text/event-stream",
        "application/json, text/event-stream;q=0.1",
        "bytes=0-1,5-,-9",
        "\"x\"",
        "null",
        "gzip",
        "https://evil.example",
        "::1, 10.0.0.1",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Bearer x",
        "Basic eDp5",
        "identity;q=-1",
    ]);
    let value = prop_oneof![4 => value.prop_map(|value| value.as_bytes().to_vec()), 1 => header_bytes()];
    let value = value.prop_map(|value| value.into_iter().filter(|b| *b >= 32 && *b != 127).collect());
    prop_oneof![
        3 => (name, value),
        1 => Just(("accept".to_owned(), b"text/event-stream".to_vec())).prop_map(|(_, value)| ("accept", value)),
    ]
    .prop_map(|(name, value)| (name.to_owned(), value))
    .boxed()
}

fn header_bytes() -> BoxedStrategy<Vec<u8>> {
    vec(any::<u8>(), 0..40).boxed()
}

fn body(document: &Document, schema: &Value, pool: &Pool) -> BoxedStrategy<Option<Vec<u8>>> {
    let made = json(document, schema, "", pool);
    let samples = schema["$ref"].as_str().and_then(|name| pool.samples.get(name));
    let value = match samples.map(|samples| samples.iter().map(Json::of).collect::<Vec<_>>()) {
        Some(samples) if !samples.is_empty() => prop_oneof![1 => made, 1 => select(samples)].boxed(),
        _ => made,
    };
    let text = |json: &Json| {
        let mut text = String::new();
        json.write(&mut text);
        text.into_bytes()
    };
    let changed = (value.clone(), vec((any::<usize>(), change()), 1..4)).prop_map(|(mut json, changes)| {
        for (place, change) in changes {
            json.change(place % json.places(), &change);
        }
        json
    });
    let bitten = (prop_oneof![value.clone(), changed.clone()], vec(bite(), 1..4)).prop_map(move |(json, bites)| {
        let mut bytes = text(&json);
        bites.iter().for_each(|one| one.apply(&mut bytes));
        bytes
    });
    prop_oneof![
        10 => value.prop_map(move |json| text(&json)),
        6 => changed.prop_map(move |json| text(&json)),
        3 => bitten,
        1 => vec(any::<u8>(), 0..64),
    ]
    .prop_map(Some)
    .boxed()
}

/// Values as the schema wants them.
fn json(document: &Document, schema: &Value, field: &str, pool: &Pool) -> BoxedStrategy<Json> {
    let schema = document.resolved(schema);
    for key in ["oneOf", "anyOf"] {
        if let Some(parts) = schema[key].as_array() {
            return proptest::strategy::Union::new(parts.iter().map(|part| json(document, part, field, pool))).boxed();
        }
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts: Vec<_> = parts.iter().map(|part| json(document, part, field, pool)).collect();
        let fields = |json| if let Json::Fields(fields) = json { fields } else { Vec::new() };
        return parts.prop_map(move |parts| Json::Fields(parts.into_iter().flat_map(fields).collect())).boxed();
    }
    let of_type = |name: &str| match name {
        "null" => Just(Json::Raw("null".to_owned())).boxed(),
        "object" => object(document, schema, pool),
        "array" => vec(json(document, &schema["items"], field, pool), 0..4).prop_map(Json::List).boxed(),
        "string" => scalar(schema, &pool.of(field)).prop_map(|text| Json::text(&text)).boxed(),
        _ => scalar(schema, &[]).prop_map(Json::Raw).boxed(),
    };
    proptest::strategy::Union::new(types(schema).into_iter().map(of_type)).boxed()
}

fn object(document: &Document, schema: &Value, pool: &Pool) -> BoxedStrategy<Json> {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let fields: Vec<_> = properties
        .map(|(name, property)| {
            let (needed, own) = (required.contains(&name.as_str()), name.clone());
            let value = json(document, property, name, pool).prop_map(move |value| (own.clone(), value));
            if needed { value.prop_map(Some).boxed() } else { option::weighted(0.4, value).boxed() }
        })
        .collect();
    fields.prop_map(|fields| Json::Fields(fields.into_iter().flatten().collect())).boxed()
}

/// A text that stands for a value without parts: what is known, and what the schema allows.
fn scalar(schema: &Value, known: &[String]) -> BoxedStrategy<String> {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| word.as_str().expect("a word").to_owned()).collect();
        return select(words).boxed();
    }
    let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
    let names = types(schema);
    if names.contains(&"integer") {
        let widest = if schema["format"] == "int32" { i64::from(i32::MAX) } else { i64::MAX };
        return prop_oneof![4 => 0..60_i64, 1 => least..=widest, 1 => select(vec![least, widest])]
            .prop_map(|n| n.to_string())
            .boxed();
    }
    if names.contains(&"number") {
        return prop_oneof![(0..20).prop_map(|n| f64::from(n) / 10.0), -1e9..1e9_f64].prop_map(|n| n.to_string()).boxed();
    }
    if names.contains(&"boolean") {
        return any::<bool>().prop_map(|b| b.to_string()).boxed();
    }
    if schema["format"] == "date-time" {
        let times = ["2026-01-02T03:04:05Z", "1970-01-01T00:00:00Z", "1582-10-15T00:00:00+23:59", "9999-12-30T21:59:59.999Z"];
        return select(times.to_vec()).prop_map(str::to_owned).boxed();
    }
    let text = prop_oneof![3 => "[a-zA-Zà-ỹ0-9 ]{0,30}", 1 => odd_text(), 1 => well_formed()];
    if known.is_empty() { text.boxed() } else { prop_oneof![7 => one_of(known.to_vec()), 1 => text].boxed() }
}

fn one_of(known: Vec<String>) -> BoxedStrategy<String> {
    if known.is_empty() { well_formed() } else { select(known).boxed() }
}

/// Ids that nobody gave.
fn well_formed() -> BoxedStrategy<String> {
    prop_oneof!["(cnv|usr)_[0-9a-z]{26}", "(msg|gen)_[0-9a-z]{42}", "[0-9a-f]{32}", "[0-9]{1,20}-[0-9]{1,20}"].boxed()
}

fn percent(text: &str) -> String {
    let byte =
        |b: u8| if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) { char::from(b).to_string() } else { format!("%{b:02x}") };
    text.bytes().map(byte).collect()
}
