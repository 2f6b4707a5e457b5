//! JSON that needs not be any, and what is done to it and to bytes: what parsers stumble over. It must not know what it is for.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;

/// JSON that needs not be any.
#[derive(Clone, Debug)]
pub(super) enum Json {
    /// As it stands.
    Raw(String),
    List(Vec<Self>),
    Fields(Vec<(String, Self)>),
}

/// What is done to a value, at one of its places.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Replace(Json),
    Add(String, Json),
    Remove(usize),
    Double(usize),
}

/// What is done to bytes.
#[derive(Clone, Debug)]
pub(super) enum Bite {
    Cut(usize),
    Set(usize, u8),
    Insert(usize, &'static [u8]),
}

impl Json {
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(fields) => Self::Fields(fields.iter().map(|(name, field)| (name.clone(), Self::of(field))).collect()),
            other => Self::Raw(other.to_string()),
        }
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Raw(Value::from(text).to_string())
    }

    pub(super) fn write(&self, to: &mut String) {
        match self {
            Self::Raw(text) => to.push_str(text),
            Self::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    to.push(if n == 0 { '[' } else { ',' });
                    item.write(to);
                }
                to.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Self::Fields(fields) => {
                for (n, (name, field)) in fields.iter().enumerate() {
                    to.push(if n == 0 { '{' } else { ',' });
                    to.push_str(&Value::from(name.as_str()).to_string());
                    to.push(':');
                    field.write(to);
                }
                to.push_str(if fields.is_empty() { "{}" } else { "}" });
            }
        }
    }

    pub(super) fn places(&self) -> usize {
        1 + match self {
            Self::Raw(_) => 0,
            Self::List(items) => items.iter().map(Self::places).sum(),
            Self::Fields(fields) => fields.iter().map(|(_, field)| field.places()).sum(),
        }
    }

    /// Changes the place with this number, counted from the outside in.
    pub(super) fn change(&mut self, mut place: usize, change: &Change) {
        if place == 0 {
            return self.change_here(change);
        }
        place -= 1;
        let inner: Vec<&mut Self> = match self {
            Self::Raw(_) => Vec::new(),
            Self::List(items) => items.iter_mut().collect(),
            Self::Fields(fields) => fields.iter_mut().map(|(_, field)| field).collect(),
        };
        for one in inner {
            let places = one.places();
            if place < places {
                return one.change(place, change);
            }
            place -= places;
        }
    }

    fn change_here(&mut self, change: &Change) {
        match (self, change) {
            (Self::Fields(fields), Change::Add(name, json)) => fields.push((name.clone(), json.clone())),
            (Self::Fields(fields), Change::Remove(at)) if !fields.is_empty() => drop(fields.remove(at % fields.len())),
            (Self::Fields(fields), Change::Double(at)) if !fields.is_empty() => fields.push(fields[at % fields.len()].clone()),
            (Self::List(items), Change::Remove(at)) if !items.is_empty() => drop(items.remove(at % items.len())),
            (Self::List(items), Change::Double(at)) if !items.is_empty() => items.push(items[at % items.len()].clone()),
            (json, Change::Replace(other)) => *json = other.clone(),
            (json, Change::Add(..) | Change::Remove(_) | Change::Double(_)) => *json = Self::Raw("null".to_owned()),
        }
    }
}

pub(super) fn odd_text() -> BoxedStrategy<String> {
    let long = |piece: &'static str, most: usize| (1..most).prop_map(move |count| piece.repeat(count));
    let odd = select(vec![
        "",
        " ",
        "\0",
        "a\0b",
        "\n\r\n",
        "\u{feff}",
        "\u{202e}abc\u{2066}",
        "\u{200d}👩‍👩‍👧‍👦",
        "🇻🇳",
        "e\u{301}\u{323}\u{302}",
        "\u{10ffff}",
        "\u{fffe}",
        "ﷺ",
        "İıẞß",
        "null",
        "undefined",
        "NaN",
        "true",
        "0",
        "-0",
        "1e999",
        "%s%n",
        "${x}",
        "{{x}}",
        "' OR 1=1 --",
        "\" * NEAR(a b)",
        "a* AND (",
        "<script>",
        "../../etc/passwd",
        "\\",
        "\u{7f}\u{80}\u{9f}",
        "*",
        "?[a-z]",
        "\u{2028}",
        "/demo",
        "/demo tokens=-1 rate=1e9 fail=1",
    ]);
    prop_oneof![6 => odd.prop_map(str::to_owned), 2 => any::<String>(), 1 => long("x", 700), 1 => long("ệ", 200), 1 => long("e\u{301}\u{323}", 150)]
        .boxed()
}

fn odd_json() -> BoxedStrategy<Json> {
    let odd = select(vec![
        "null",
        "true",
        "0",
        "-1",
        "1.5",
        "-0",
        "1e999",
        "-1e400",
        "NaN",
        "Infinity",
        "18446744073709551616",
        "-9223372036854775809",
        "4294967296",
        "1e-400",
        "[]",
        "{}",
        "\"\"",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\u0000\"",
        "{\"\":{}}",
        "[null]",
        "\"\\x\"",
        "01",
        "",
    ]);
    let deep = (1..400_usize, any::<bool>()).prop_map(|(depth, list)| {
        let (open, close) = if list { ("[", "]") } else { ("{\"a\":", "}") };
        format!("{}1{}", open.repeat(depth), close.repeat(depth))
    });
    let long = (1..60_000_usize).prop_map(|count| format!("\"{}\"", "y".repeat(count)));
    prop_oneof![
        8 => odd.prop_map(|text| Json::Raw(text.to_owned())),
        4 => odd_text().prop_map(|text| Json::text(&text)),
        1 => deep.prop_map(Json::Raw),
        1 => long.prop_map(Json::Raw),
    ]
    .boxed()
}

pub(super) fn change() -> BoxedStrategy<Change> {
    let name = select(vec!["", "extra", "id", "__proto__", "type", "content", "parent", "title", "\0", "status", "options"]);
    prop_oneof![
        4 => odd_json().prop_map(Change::Replace),
        2 => (name, odd_json()).prop_map(|(name, json)| Change::Add(name.to_owned(), json)),
        2 => any::<usize>().prop_map(Change::Remove),
        1 => any::<usize>().prop_map(Change::Double),
    ]
    .boxed()
}

pub(super) fn bite() -> BoxedStrategy<Bite> {
    let shards: [&[u8]; 9] = [b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud800", b"\"", b"[[[[[[", b"}", b"/**/"];
    prop_oneof![
        any::<usize>().prop_map(Bite::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Bite::Set(at, byte)),
        (any::<usize>(), select(shards.to_vec())).prop_map(|(at, shard)| Bite::Insert(at, shard)),
    ]
    .boxed()
}

impl Bite {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |at: usize| at % (bytes.len() + 1);
        match *self {
            Self::Cut(at) => bytes.truncate(place(at)),
            Self::Set(at, byte) => {
                let at = place(at);
                bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
            }
            Self::Insert(at, shard) => {
                let at = place(at);
                bytes.splice(at..at, shard.iter().copied());
            }
        }
    }
}
