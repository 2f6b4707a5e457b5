//! Keys, their values, and where each value came from: defaults, file, environment, flags, laid over one another.
//! Must not know what a key means: readers ask for what they need, and what nobody asked for is an unknown key.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use super::ConfigError;

/// Longest piece of a bad value that an error repeats, in characters.
const QUOTE_CHARS_MAX: usize = 60;

/// Later ones win.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    Default,
    File(String),
    Environment(&'static str),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the built-in default"),
            Self::File(path) => f.write_str(path),
            Self::Environment(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// All layers, and what was asked for so far.
#[derive(Debug, Default)]
pub(super) struct Layers {
    leaves: BTreeMap<String, Leaf>,
    asked: RefCell<Vec<(String, Show)>>,
}

#[derive(Clone, Debug)]
struct Leaf {
    value: Value,
    origin: Origin,
}

/// How a value stands in a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    Plain,
    /// Without what stands before an `@`.
    Url,
    Secret,
    /// Another key of higher rank says the same thing.
    Overruled,
}

impl Layers {
    /// Lays the values of a TOML text over what is there.
    pub(super) fn add_toml(&mut self, text: &str, origin: &Origin) -> Result<(), ConfigError> {
        let table = text.parse::<Table>().map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            ConfigError::new(format!("{origin}: line {line}: {}", error.message().replace('\n', ", ")))
        })?;
        self.flatten("", Value::Table(table), origin);
        Ok(())
    }

    pub(super) fn set(&mut self, path: &str, text: &str, origin: Origin) {
        self.leaves.insert(path.to_owned(), Leaf { value: Value::String(text.to_owned()), origin });
    }

    pub(super) fn section(&self, name: &str) -> Section<'_> {
        Section { layers: self, path: name.to_owned() }
    }

    /// The sections `name[0]`, `name[1]` and so on.
    pub(super) fn items(&self, name: &str) -> Result<Vec<Section<'_>>, ConfigError> {
        if let Some(leaf) = self.ask(name, Show::Plain)
            && leaf.value != Value::Array(Vec::new())
        {
            return Err(self.error(name, format_args!("must be tables, as in [[{}]]", header(name))));
        }
        let items = (0..).map(|index| format!("{name}[{index}]"));
        Ok(items.take_while(|path| self.first_below(path).is_some()).map(|path| Section { layers: self, path }).collect())
    }

    /// An error about one key, which names where its value came from.
    pub(super) fn error(&self, path: &str, problem: impl fmt::Display) -> ConfigError {
        let origin =
            self.leaves.get(path).or_else(|| self.first_below(parent(path))).map_or(&Origin::Default, |leaf| &leaf.origin);
        ConfigError::new(format!("{origin}: {path} {problem}"))
    }

    /// An error about keys that don't fit together, which blames the one that was set last.
    pub(super) fn error_about(&self, paths: &[&str], sentence: &str) -> ConfigError {
        let origin = paths.iter().filter_map(|path| self.leaves.get(*path)).map(|leaf| &leaf.origin).max();
        ConfigError::new(format!("{}: {sentence}", origin.unwrap_or(&Origin::Default)))
    }

    /// To be called when everything was asked for: what is left is a key that doesn't exist.
    pub(super) fn refuse_unknown(&self) -> Result<(), ConfigError> {
        let asked = self.asked.borrow();
        let known = |path: &str| asked.iter().any(|(key, _)| key == path);
        let section =
            |path: &str| asked.iter().any(|(key, _)| key.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '['])));
        for (path, leaf) in &self.leaves {
            if known(path) || (section(path) && leaf.value.is_table()) {
                continue;
            }
            if section(path) {
                return Err(self.error(path, format_args!("must be a table, as in [{}]", header(path))));
            }
            let nearest = nearest(path, asked.iter().map(|(key, _)| key.as_str()));
            let sentence = format!("{}: there is no key {path}, the nearest is {nearest}", leaf.origin);
            return Err(ConfigError::new(sentence));
        }
        Ok(())
    }

    /// What was asked for and is set, as TOML, with the origin of all that is not the default.
    pub(super) fn dump(&self) -> String {
        let asked = self.asked.borrow();
        let mut sections: Vec<&str> = Vec::new();
        for (path, _) in asked.iter() {
            if !parent(path).is_empty() && !sections.contains(&parent(path)) {
                sections.push(parent(path));
            }
        }
        let mut text = String::new();
        for section in sections {
            let keys = asked.iter().filter(|(path, show)| parent(path) == section && *show != Show::Overruled);
            let lines: Vec<String> = keys.filter_map(|(path, show)| Some(line(path, *show, self.leaves.get(path)?))).collect();
            if !lines.is_empty() {
                let gap = if text.is_empty() { "" } else { "\n" };
                let bracket = if section.ends_with(']') { ("[[", "]]") } else { ("[", "]") };
                text += &format!("{gap}{}{}{}\n{}\n", bracket.0, header(section), bracket.1, lines.join("\n"));
            }
        }
        text
    }

    fn flatten(&mut self, path: &str, value: Value, origin: &Origin) {
        match value {
            // A file that says nothing is one, too.
            Value::Table(table) if !table.is_empty() || path.is_empty() => {
                for (key, value) in table {
                    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                    let key = if plain && !key.is_empty() { key } else { format!("{key:?}") };
                    let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                    self.flatten(&path, value, origin);
                }
            }
            Value::Array(items) if items.iter().any(Value::is_table) => {
                for (index, value) in items.into_iter().enumerate() {
                    self.flatten(&format!("{path}[{index}]"), value, origin);
                }
            }
            value => {
                self.leaves.insert(path.to_owned(), Leaf { value, origin: origin.clone() });
            }
        }
    }

    fn ask(&self, path: &str, show: Show) -> Option<&Leaf> {
        let mut asked = self.asked.borrow_mut();
        match asked.iter_mut().find(|(key, _)| key == path) {
            Some((_, before)) => *before = show,
            None => asked.push((path.to_owned(), show)),
        }
        self.leaves.get(path)
    }

    fn first_below(&self, path: &str) -> Option<&Leaf> {
        let below = |key: &str| key == path || key.strip_prefix(path).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.leaves.iter().find(|(key, _)| below(key)).map(|(_, leaf)| leaf)
    }
}

/// A table, to be read key by key.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) layers: &'a Layers,
    path: String,
}

impl Section<'_> {
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    pub(super) fn error(&self, key: &str, problem: impl fmt::Display) -> ConfigError {
        self.layers.error(&self.path(key), problem)
    }

    pub(super) fn section(&self, key: &str) -> Self {
        Self { layers: self.layers, path: self.path(key) }
    }

    pub(super) fn items(&self, key: &str) -> Result<Vec<Self>, ConfigError> {
        self.layers.items(&self.path(key))
    }

    /// A text that must be there.
    pub(super) fn text(&self, key: &str) -> Result<String, ConfigError> {
        self.optional_text(key)?.ok_or_else(|| self.missing(key))
    }

    /// A text; an empty one counts as unset.
    pub(super) fn optional_text(&self, key: &str) -> Result<Option<String>, ConfigError> {
        self.shown_text(key, Show::Plain)
    }

    /// Like [`Self::optional_text`], for addresses that may hold a password.
    pub(super) fn url(&self, key: &str) -> Result<Option<String>, ConfigError> {
        self.shown_text(key, Show::Url)
    }

    /// One of several keys that say the same thing in different ways: the one of the highest layer, as `(index, text)`.
    /// `secret` is the first key, whose text no dump shows whole.
    pub(super) fn one_of(&self, keys: &[&str], secret_is_url: bool) -> Result<Option<(usize, String)>, ConfigError> {
        let inline = if secret_is_url { Show::Url } else { Show::Secret };
        let mut found: Vec<(&Origin, Option<String>, usize)> = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let text = self.shown_text(key, if index == 0 { inline } else { Show::Plain })?;
            if let Some(leaf) = self.layers.leaves.get(&self.path(key)) {
                found.push((&leaf.origin, text, index));
            }
        }
        // An empty text unsets what lower layers say, in whichever way they say it.
        found.sort_by(|a, b| (b.0, b.1.is_some()).cmp(&(a.0, a.1.is_some())));
        if let [(first, Some(_), a), (second, Some(_), b), ..] = &found[..]
            && std::mem::discriminant(*first) == std::mem::discriminant(*second)
        {
            return Err(self.error(keys[*a], format_args!("and {} say the same thing: keep one of them", self.path(keys[*b]))));
        }
        for (_, _, index) in found.iter().skip(1) {
            self.layers.ask(&self.path(keys[*index]), Show::Overruled);
        }
        Ok(found.into_iter().next().and_then(|(_, text, index)| Some((index, text?))))
    }

    pub(super) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        self.optional_choice(key, choices)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn optional_choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.optional_text(key)? else { return Ok(None) };
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
        found.map(Some).ok_or_else(|| self.error(key, format_args!("must be {}, not {}", words.join(" or "), quote(&text))))
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, ConfigError> {
        let Some(leaf) = self.layers.ask(&self.path(key), Show::Plain) else { return Err(self.missing(key)) };
        let items = leaf.value.as_array().map(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        items.flatten().ok_or_else(|| self.error(key, "must be a list of texts"))
    }

    /// False where it isn't set.
    pub(super) fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        let Some(leaf) = self.layers.ask(&self.path(key), Show::Plain) else { return Ok(false) };
        leaf.value.as_bool().ok_or_else(|| self.error(key, "must be true or false"))
    }

    pub(super) fn number(&self, key: &str, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        self.optional_number(key, range)?.ok_or_else(|| self.missing(key))
    }

    pub(super) fn optional_number(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ConfigError> {
        let Some(leaf) = self.layers.ask(&self.path(key), Show::Plain) else { return Ok(None) };
        let number =
            leaf.value.as_integer().and_then(|number| u64::try_from(number).ok()).filter(|number| range.contains(number));
        let bad = || {
            let (least, most, is) = (range.start(), range.end(), quote(&leaf.value.to_string()));
            self.error(key, format_args!("must be a whole number from {least} to {most}, not {is}"))
        };
        number.map(Some).ok_or_else(bad)
    }

    /// For sizes and counts. The range keeps them within the type on every platform.
    pub(super) fn size(&self, key: &str, range: RangeInclusive<u64>) -> Result<usize, ConfigError> {
        self.number(key, range).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    pub(super) fn count(&self, key: &str, range: RangeInclusive<u64>) -> Result<u32, ConfigError> {
        self.number(key, range).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
    }

    pub(super) fn ms(&self, key: &str, range: RangeInclusive<u64>) -> Result<Duration, ConfigError> {
        self.number(key, range).map(Duration::from_millis)
    }

    pub(super) fn optional_ms(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<Duration>, ConfigError> {
        Ok(self.optional_number(key, range)?.map(Duration::from_millis))
    }

    pub(super) fn missing(&self, key: &str) -> ConfigError {
        self.error(key, "is missing")
    }

    fn shown_text(&self, key: &str, show: Show) -> Result<Option<String>, ConfigError> {
        match self.layers.ask(&self.path(key), show).map(|leaf| &leaf.value) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)),
            Some(_) => Err(self.error(key, "must be a text in quotes")),
        }
    }
}

/// A bad value as an error repeats it: never a long one, and without the password of an address that came to the wrong place.
pub(super) fn quote(text: &str) -> String {
    let text = redact(text);
    let short: String = text.trim_matches('"').chars().take(QUOTE_CHARS_MAX).collect();
    if short.len() + 2 < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

/// An address without what could be a password: everything between `://` and the last `@` of each part.
pub(super) fn redact(text: &str) -> String {
    let hide = |part: &str| part.rsplit_once('@').map_or_else(|| part.to_owned(), |(_, host)| format!("***@{host}"));
    let mut parts = text.split("://");
    let Some(first) = parts.next() else { return String::new() };
    let shown = if text.contains("://") { first.to_owned() } else { hide(first) };
    let shown = parts.fold(shown, |shown, part| format!("{shown}://{}", hide(part)));
    hide_parameters(&shown)
}

/// Sentinel URLs may carry a second password as a parameter.
fn hide_parameters(text: &str) -> String {
    let Some((address, query)) = text.split_once('?') else { return text.to_owned() };
    let hide = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if ["pass", "token", "secret", "key"].iter().any(|word| name.to_lowercase().contains(word)) => {
            format!("{name}=***")
        }
        _ => pair.to_owned(),
    };
    format!("{address}?{}", query.split('&').map(hide).collect::<Vec<_>>().join("&"))
}

/// The valid word that was most probably meant.
pub(super) fn nearest<'a>(word: &str, valid: impl Iterator<Item = &'a str>) -> &'a str {
    fn last(path: &str) -> &str {
        path.rsplit_once('.').map_or(path, |(_, key)| key)
    }
    // The key itself counts as much as the way to it, which people leave out.
    let same_key = |key: &str| if last(key) == last(word) { 1.0 } else { 0.0 };
    let score = |key: &str| strsim::jaro_winkler(key, word) + strsim::jaro_winkler(last(key), last(word)) + same_key(key);
    valid.max_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or_default()
}

fn line(path: &str, show: Show, leaf: &Leaf) -> String {
    let key = path.rsplit_once('.').map_or(path, |(_, key)| key);
    let value = match (&leaf.value, show) {
        (Value::String(text), Show::Secret) if !text.is_empty() => Value::String("***".to_owned()),
        (Value::String(text), Show::Url) => Value::String(redact(text)),
        (value, _) => value.clone(),
    };
    match &leaf.origin {
        Origin::Default => format!("{key} = {value}"),
        origin => format!("{key} = {value}  # {origin}"),
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(section, _)| section)
}

/// `models[0].fallbacks[1]` as it stands between brackets: `models.fallbacks`.
fn header(path: &str) -> String {
    path.split('.').map(|part| part.split_once('[').map_or(part, |(name, _)| name)).collect::<Vec<_>>().join(".")
}
