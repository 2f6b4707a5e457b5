//! The document that describes an API: its operations, and whether a value is what a schema of it says. It knows the part of JSON
//! Schema that our document is written in, and panics at the rest: a rule that nobody looks at holds nothing. It must not know what
//! is asked of the API.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::Value;

/// What says nothing about a value.
const WORDS: [&str; 6] = ["description", "title", "default", "example", "examples", "deprecated"];
const RULES: [&str; 13] = [
    "$ref",
    "type",
    "enum",
    "format",
    "minimum",
    "maximum",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "allOf",
    "oneOf",
    "anyOf",
];

#[derive(Clone, Debug)]
pub(crate) struct Document(Value);

#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) parameters: Vec<Parameter>,
    /// The schema of the JSON that it takes.
    pub(crate) body: Option<Value>,
    pub(crate) responses: Value,
}

#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) place: String,
    pub(crate) required: bool,
    pub(crate) schema: Value,
}

impl Operation {
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

impl Document {
    pub(crate) fn new(document: Value) -> Self {
        Self(document)
    }

    pub(crate) fn operations(&self) -> Vec<Operation> {
        let paths = self.0["paths"].as_object().expect("paths");
        let all = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").iter();
            methods.map(move |(method, operation)| Operation {
                method: Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method"),
                path: path.clone(),
                parameters: operation["parameters"].as_array().into_iter().flatten().map(parameter).collect(),
                body: operation.pointer("/requestBody/content/application~1json/schema").cloned(),
                responses: operation["responses"].clone(),
            })
        });
        all.collect()
    }

    /// What stands where a schema points to.
    pub(crate) fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        while let Some(place) = schema["$ref"].as_str() {
            let found = place.strip_prefix('#').and_then(|place| self.0.pointer(place));
            schema = found.unwrap_or_else(|| panic!("{place} is not in the document"));
        }
        schema
    }

    /// Why a value is not what the schema says. A field that the schema does not have is a reason, too.
    pub(crate) fn misfit(&self, schema: &Value, value: &Value) -> Option<String> {
        self.check(schema, value, "$", true).err()
    }

    /// `whole`: what has no name in this schema has none at all.
    fn check(&self, schema: &Value, value: &Value, at: &str, whole: bool) -> Result<(), String> {
        let schema = self.resolved(schema);
        let rules = schema.as_object().expect("a schema is an object");
        let strange = rules.keys().find(|key| !RULES.contains(&key.as_str()) && !WORDS.contains(&key.as_str()));
        assert!(strange.is_none(), "{at}: nobody here looks at {strange:?}");
        self.check_parts(schema, value, at)?;
        if !types(schema).is_empty() && !types(schema).iter().any(|name| is(name, value)) {
            return Err(format!("{at} is not {}", schema["type"]));
        }
        if let Some(all) = schema["enum"].as_array()
            && !all.contains(value)
        {
            return Err(format!("{at} is none of {}", schema["enum"]));
        }
        check_scalar(schema, value).map_err(|problem| format!("{at} {problem}"))?;
        for (n, item) in value.as_array().into_iter().flatten().enumerate() {
            if let Some(items) = schema.get("items") {
                self.check(items, item, &format!("{at}[{n}]"), true)?;
            }
        }
        let Some(fields) = value.as_object() else { return Ok(()) };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return Err(format!("{at}.{name} is missing"));
            }
        }
        for (name, field) in fields {
            if let Some(schema) = schema["properties"].get(name) {
                self.check(schema, field, &format!("{at}.{name}"), true)?;
            }
        }
        let names = self.names(schema);
        match fields.keys().find(|name| whole && !names.is_empty() && !names.contains(name.as_str())) {
            Some(name) => Err(format!("{at}.{name} is not in the document")),
            None => Ok(()),
        }
    }

    fn check_parts(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.check(part, value, at, false)?;
        }
        for (key, most) in [("oneOf", 1), ("anyOf", usize::MAX)] {
            let Some(parts) = schema[key].as_array() else { continue };
            let outcomes: Vec<_> = parts.iter().map(|part| self.check(part, value, at, true)).collect();
            let fitting = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            if fitting == 0 || fitting > most {
                let reasons: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
                return Err(format!("{at} fits {fitting} of {key}: {}", reasons.join("; ")));
            }
        }
        Ok(())
    }

    /// All that an object of this schema may have.
    fn names<'a>(&'a self, schema: &'a Value) -> BTreeSet<&'a str> {
        let schema = self.resolved(schema);
        let own = schema["properties"].as_object().into_iter().flat_map(|fields| fields.keys().map(String::as_str));
        let parts = ["allOf", "oneOf", "anyOf"].into_iter().flat_map(|key| schema[key].as_array().into_iter().flatten());
        own.chain(parts.flat_map(|part| self.names(part))).collect()
    }
}

fn parameter(parameter: &Value) -> Parameter {
    let text = |key: &str| parameter[key].as_str().expect("a text").to_owned();
    Parameter {
        name: text("name"),
        place: text("in"),
        required: parameter["required"] == true,
        schema: parameter["schema"].clone(),
    }
}

/// One type, several, or none that is said.
pub(crate) fn types(schema: &Value) -> Vec<&str> {
    let several = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str);
    schema["type"].as_str().into_iter().chain(several).collect()
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("no type is called {name}"),
    }
}

fn check_scalar(schema: &Value, value: &Value) -> Result<(), String> {
    let number = value.as_f64();
    let beyond = |key: &str, outside: fn(f64, f64) -> bool| match (number, schema[key].as_f64()) {
        (Some(number), Some(limit)) if outside(number, limit) => Err(format!("is beyond its {key} {limit}")),
        _ => Ok(()),
    };
    beyond("minimum", |number, limit| number < limit)?;
    beyond("maximum", |number, limit| number > limit)?;
    match (schema["format"].as_str(), value) {
        // Numbers without a sign have a bit more.
        (Some("int32"), Value::Number(_))
            if number.is_some_and(|n| !(f64::from(i32::MIN)..=f64::from(u32::MAX)).contains(&n)) =>
        {
            Err("is no number of 32 bits".to_owned())
        }
        (Some("date-time"), Value::String(text)) if text.parse::<jiff::Timestamp>().is_err() => {
            Err(format!("is no time: {text}"))
        }
        (None | Some("int32" | "int64" | "double" | "date-time"), _) => Ok(()),
        (Some(format), _) => panic!("nobody here looks at the format {format}"),
    }
}
