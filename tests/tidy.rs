//! Holds the rules of the house: who may import whom, how long things may be, what should not exist.
//!
//! Each rule is a function from a file to complaints, so that it can be shown bad samples: a rule that can't fail holds
//! nothing. It reads text, not meaning; what the compiler and clippy hold already is not repeated here.

use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const WEB_FILE_LINES_MAX: usize = 300;

/// Crates, and the only places of `src/` that may name them.
const DOORS: [(&str, &[&str]); 16] = [
    ("fred", &["src/backend/cluster"]),
    ("async_nats", &["src/backend/cluster"]),
    ("rusqlite", &["src/backend/embedded"]),
    ("tokio_postgres", &["src/backend/history"]),
    ("axum", &["src/gateway", "src/probes.rs", "src/serve"]),
    ("hyper", &["src/serve"]),
    ("hyper_util", &["src/serve"]),
    ("tokio_rustls", &["src/serve", "src/backend/history"]),
    ("rust_embed", &["src/gateway/ui.rs"]),
    // `chatnode status` and `chatnode bench` are clients of a gateway as curl is, in a process that runs no node.
    // The keys of an issuer come from its address, which only the operator names.
    (
        "reqwest",
        &[
            "src/ai/provider",
            "src/outgoing.rs",
            "src/gateway/auth/issuer.rs",
            "src/telemetry/otlp.rs",
            "src/status.rs",
            "src/bench",
        ],
    ),
    ("tokio_tungstenite", &["src/bench"]),
    ("hdrhistogram", &["src/bench"]),
    ("clap", &["src/config"]),
    ("toml", &["src/config"]),
    ("env", &["src/config"]),
    ("prometheus_client", &["src/telemetry"]),
];

/// Parts of `src/`, and the modules of the crate that each may see. `node.rs` and `main.rs` see everything.
const SIGHT: [(&str, &[&str]); 22] = [
    ("src/model.rs", &[]),
    ("src/log.rs", &["model"]),
    ("src/event.rs", &["model"]),
    ("src/drain.rs", &[]),
    ("src/protocol", &["backend", "log", "model"]),
    ("src/password.rs", &[]),
    ("src/config", &[]),
    ("src/outgoing.rs", &[]),
    ("src/telemetry", &["config", "drain", "model", "outgoing"]),
    ("src/probes.rs", &["backend", "config", "drain", "protocol", "telemetry"]),
    ("src/serve", &["config", "drain", "telemetry", "unwanted"]),
    ("src/backend/embedded", &["backend", "config", "drain", "event", "log", "model", "telemetry"]),
    ("src/backend/cluster", &["backend", "config", "drain", "event", "log", "model", "telemetry"]),
    ("src/backend/history", &["backend", "config", "drain", "log", "model", "telemetry"]),
    ("src/backend", &["backend", "event", "log", "model", "telemetry"]),
    (
        "src/gateway",
        &[
            "backend",
            "config",
            "drain",
            "event",
            "gateway",
            "log",
            "model",
            "outgoing",
            "password",
            "probes",
            "protocol",
            "telemetry",
            "tokens",
            "unwanted",
        ],
    ),
    (
        "src/ai",
        &["ai", "backend", "config", "drain", "event", "log", "model", "probes", "protocol", "stamp", "telemetry", "tokens"],
    ),
    ("src/status.rs", &["config", "model", "outgoing", "protocol"]),
    ("src/stamp.rs", &["model"]),
    ("src/tokens.rs", &[]),
    ("src/unwanted.rs", &[]),
    ("src/bench", &["bench", "config", "log", "model", "protocol", "stamp"]),
];

/// Parts that must not know one of the two worlds.
const BLIND: [(&str, &[&str]); 6] = [
    ("src/gateway", &["embedded", "cluster", "history"]),
    ("src/ai", &["embedded", "cluster", "history"]),
    ("src/probes.rs", &["embedded", "cluster", "history"]),
    ("src/backend/embedded", &["cluster", "history"]),
    ("src/backend/cluster", &["embedded", "history"]),
    // It stands behind a cluster, whose window it moves; Redis itself it does not know.
    ("src/backend/history", &["embedded"]),
];

const VAGUE_FILES: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "misc", "shared", "prelude"];
const VAGUE_TYPES: [&str; 5] = ["Manager", "Helper", "Service", "Impl", "Utils"];

/// What no Rust file of ours says, and why.
const FORBIDDEN: [(&str, &str); 5] = [
    ("#[ignore", "a test that is not run is none"),
    ("#[allow(", "say #[expect(lint, reason)]"),
    ("unbounded", "everything has a limit"),
    ("thread_local!", "no globals"),
    ("static mut", "no globals"),
];

/// Roots of machines that built or wrote this. In two parts, so that this file may be read too.
const MACHINE_PATHS: [&str; 4] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp", "/wt"), concat!("/Us", "ers/")];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(root, &mut files);
    assert!(files.len() > 20, "the walk finds the house");
    let mut complaints = Vec::new();
    for path in files {
        // What is not text has no lines.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
        complaints.extend(judge(&name, &text).into_iter().map(|complaint| format!("{name}: {complaint}")));
        if name.ends_with(".md") {
            complaints.extend(broken_links(&path, &text).into_iter().map(|complaint| format!("{name}: {complaint}")));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// All complaints about one file, named by its path from the root.
fn judge(name: &str, text: &str) -> Vec<String> {
    let mut complaints = vague_file(name);
    complaints.extend(machine_paths(name, text));
    if ["web/src/", "web/e2e/", "web/perf/"].iter().any(|folder| name.starts_with(folder)) {
        complaints.extend(web(name, text));
    }
    if name.ends_with(".rs") {
        let code = code_only(text);
        complaints.extend(head(text));
        complaints.extend(too_long(text, FILE_LINES_MAX));
        complaints.extend(long_functions(&code));
        complaints.extend(FORBIDDEN.iter().filter(|(word, _)| code.contains(word)).map(|(word, why)| format!("{word}: {why}")));
        complaints.extend(vague_types(&code));
        if name.starts_with("src/") {
            let code = without_tests(name, &code);
            complaints.extend(doors(name, code));
            complaints.extend(sight(name, code));
            complaints.extend(globals(code));
        }
    }
    complaints
}

fn head(text: &str) -> Option<String> {
    (!text.starts_with("//! ")).then(|| "opens with `//! `: what it is, what it must not know".to_owned())
}

fn too_long(text: &str, most: usize) -> Option<String> {
    let lines = text.lines().count();
    (lines > most).then(|| format!("{lines} lines, at most {most}"))
}

fn long_functions(code: &str) -> Vec<String> {
    functions(code)
        .into_iter()
        .filter(|(_, lines)| *lines > FUNCTION_LINES_MAX)
        .map(|(name, lines)| format!("fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}"))
        .collect()
}

fn doors(name: &str, code: &str) -> Vec<String> {
    let named = |krate: &str| {
        words(code, krate).any(|at| {
            let before = code[..at].trim_end();
            // `std::env::var` and `use std::env` count; a field or a variable called `env` doesn't.
            let inside =
                if krate == "env" { before.ends_with("std::") || before.ends_with("std::{") } else { !before.ends_with("::") };
            inside && (code[at + krate.len()..].starts_with("::") || before.ends_with("use") || krate == "env")
        })
    };
    let closed = DOORS.iter().filter(|(_, doors)| !doors.iter().any(|door| within(name, door)));
    closed.filter(|(krate, _)| named(krate)).map(|(krate, doors)| format!("{krate} is only for {}", doors.join(", "))).collect()
}

fn sight(name: &str, code: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if let Some((part, seen)) = SIGHT.iter().find(|(part, _)| within(name, part)) {
        let unseen = imports(code).into_iter().filter(|module| !seen.contains(&module.as_str()));
        complaints.extend(unseen.map(|module| format!("{part} must not know crate::{module}")));
    }
    for (part, worlds) in BLIND.iter().filter(|(part, _)| within(name, part)) {
        let known = |world: &&&str| words(code, world).any(|at| code[at + world.len()..].starts_with("::"));
        complaints.extend(worlds.iter().filter(known).map(|world| format!("{part} must not know {world}")));
    }
    complaints
}

fn globals(code: &str) -> Option<String> {
    let is_item = |line: &str| line.trim_start().trim_start_matches("pub ").starts_with("static ");
    code.lines().find(|line| is_item(line)).map(|line| format!("no globals: {}", line.trim()))
}

fn vague_file(name: &str) -> Vec<String> {
    let vague = name.split('/').filter(|part| VAGUE_FILES.contains(&part.split('.').next().unwrap_or_default()));
    vague.map(|part| format!("{part} says nothing about what is in it")).collect()
}

fn vague_types(code: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for keyword in ["struct", "enum", "trait", "type"] {
        for at in words(code, keyword) {
            let name: String =
                code[at + keyword.len()..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if VAGUE_TYPES.iter().any(|vague| name.ends_with(vague)) {
                complaints.push(format!("{name} says nothing about what it is"));
            }
        }
    }
    complaints
}

fn web(name: &str, text: &str) -> Vec<String> {
    let generated = name.ends_with(".gen.ts");
    let most = if name.contains(".test.") { FILE_LINES_MAX } else { WEB_FILE_LINES_MAX };
    let mut complaints: Vec<String> = too_long(text, most).into_iter().filter(|_| !generated).collect();
    if [".only(", ".skip("].iter().any(|word| text.contains(word)) && name.contains(".test.") {
        complaints.push("no test is left out".to_owned());
    }
    if name.ends_with("/index.ts") && text.contains("export * from") {
        complaints.push("no barrels: import from where it is".to_owned());
    }
    complaints
}

fn machine_paths(name: &str, text: &str) -> Vec<String> {
    let found = MACHINE_PATHS.iter().filter(|path| text.contains(**path)).map(|path| format!("{path} is somebody's machine"));
    let resolved = name.ends_with("package-lock.json") && text.contains("\"resolved\"");
    found.chain(resolved.then(|| "download addresses belong into no lock file".to_owned())).collect()
}

/// Links of a Markdown file to files of ours that are not there.
fn broken_links(path: &Path, text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let ours = targets.filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"));
    let folder = path.parent().unwrap_or(path);
    ours.filter(|target| !folder.join(target).exists()).map(|target| format!("{target} is not there")).collect()
}

/// Every file that is ours: nothing built, fetched or hidden, but `.ci`.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if ["target", "node_modules", "dist", "data"].contains(&name) || (name.starts_with('.') && name != ".ci") {
            continue;
        }
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn within(name: &str, part: &str) -> bool {
    name.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.'])) && !part.is_empty()
}

/// The code before the tests of the file; nothing of a file that holds only tests.
fn without_tests<'a>(name: &str, code: &'a str) -> &'a str {
    let tests = name.ends_with("/tests.rs") || name.contains("/tests/");
    if tests { "" } else { code.split("#[cfg(test)]\nmod ").next().unwrap_or_default() }
}

/// Where a word stands on its own.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !code[..*at].ends_with(part) && !code[at + word.len()..].starts_with(part))
}

/// The modules of the crate that are named: `crate::a` and `crate::{a::b, c}`.
fn imports(code: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for at in words(code, "crate") {
        let Some(rest) = code[at..].strip_prefix("crate::") else { continue };
        let mut depth = 0_usize;
        let mut name = String::new();
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                c if depth <= 1 && (c.is_alphanumeric() || c == '_') => name.push(c),
                ',' if depth == 1 => found.push(std::mem::take(&mut name)),
                // Deeper parts of a path: up to the next comma.
                ':' if depth == 1 && !name.is_empty() && !name.ends_with('.') => name.push('.'),
                _ if depth == 0 => break,
                _ => {}
            }
            if depth == 0 && c == '}' {
                break;
            }
        }
        found.push(name);
    }
    found.iter_mut().for_each(|name| *name = name.split('.').next().unwrap_or_default().to_owned());
    found.retain(|name| !name.is_empty() && name.starts_with(char::is_lowercase));
    found.sort();
    found.dedup();
    found
}

/// Name and lines of every function with a body, from its `fn` to its closing brace.
fn functions(code: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for at in words(code, "fn") {
        let name: String = code[at + 2..].trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let (mut depth, mut nested) = (0_usize, 0_i32);
        for (offset, c) in code[at..].char_indices() {
            match c {
                '(' | '[' => nested += 1,
                ')' | ']' => nested -= 1,
                // Without a body: a trait's method, or the type of a function.
                ';' | ',' | '=' if depth == 0 && nested <= 0 => break,
                '{' => depth += 1,
                '}' if depth <= 1 => {
                    if depth == 1 && !name.is_empty() {
                        found.push((name, code[at..=at + offset].lines().count()));
                    }
                    break;
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    found
}

/// The text with comments and the insides of literals blanked out, line by line as before.
fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = skipped(rest, out.chars().last()).unwrap_or(0);
        if taken == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..taken].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[taken..];
        }
    }
    out
}

/// How many bytes of comment or literal stand here.
fn skipped(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |at| at + 2));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if let Some(raw) = rest.strip_prefix('r').filter(|_| !in_word || before == Some('b')) {
        let marks = raw.len() - raw.trim_start_matches('#').len();
        if raw[marks..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(marks));
            let start = 1 + marks + 1;
            return Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()));
        }
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    // A lifetime has no second mark close by.
    let mut chars = rest.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\''), Some('\\'), _) | (Some('\''), Some(_), Some('\'')) => Some(quoted(rest, '\'')),
        _ => None,
    }
}

fn quoted(rest: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == mark => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

mod samples {
    //! Bad samples, and good ones that look bad: each rule can fail, and only where it should.

    use super::*;

    #[track_caller]
    fn bad(name: &str, text: &str, complaint: &str) {
        let complaints = judge(name, &format!("//! x\n{text}"));
        assert!(complaints.iter().any(|found| found.contains(complaint)), "{complaint} in {complaints:?}");
    }

    #[track_caller]
    fn good(name: &str, text: &str) {
        assert_eq!(judge(name, &format!("//! x\n{text}")), Vec::<String>::new());
    }

    #[test]
    fn doors_are_held() {
        bad("src/gateway/x.rs", "use fred::prelude::*;", "fred is only for src/backend/cluster");
        bad("src/backend/embedded/x.rs", "fn a() { async_nats::connect(x); }", "async_nats");
        bad("src/ai/x.rs", "use axum;", "axum");
        bad("src/ai/run.rs", "use reqwest::Client;", "reqwest");
        bad("src/node.rs", "let x = std::env::args();", "env is only");
        bad("src/drain.rs", "use std::{env, fs};", "env is only");
        bad("src/probes.rs", "use clap::Parser;", "clap");
        bad("src/gateway/x.rs", "use hyper::body::Incoming;", "hyper is only for src/serve");
        good("src/status.rs", "use reqwest::Client;");
        good("src/ai/provider/x.rs", "use reqwest::Client;\n// axum::Router\nconst A: &str = \"fred::x\";");
        good("src/ai/x.rs", "fn a(env: u8) -> u8 { self.toml + env }\n#[cfg(test)]\nmod tests { use axum::Router; }");
    }

    #[test]
    fn sight_is_held() {
        bad("src/model.rs", "use crate::log::Entry;", "must not know crate::log");
        bad("src/gateway/x.rs", "use crate::ai::Worker;", "must not know crate::ai");
        bad("src/serve/x.rs", "use crate::gateway::Gateway;", "must not know crate::gateway");
        bad("src/ai/x.rs", "use crate::{backend::Store, gateway::{Hub, log}};", "must not know crate::gateway");
        bad("src/gateway/x.rs", "fn a() { crate::backend::embedded::open() }", "must not know embedded");
        bad("src/backend/cluster/x.rs", "use super::super::embedded::Log;", "must not know embedded");
        bad("src/backend/mod.rs", "use crate::config::Config;", "must not know crate::config");
        good("src/node.rs", "use crate::{ai, backend::{cluster, embedded}, gateway};");
        good("src/ai/x.rs", "use crate::{backend::{self, Store}, log::Entry, model::Status};\npub(in crate::ai) fn a() {}");
    }

    #[test]
    fn sizes_are_held() {
        bad("src/x.rs", &"\n".repeat(500), "501 lines, at most 500");
        let long = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(69));
        bad("tests/x.rs", &long, "fn a has 71 lines");
        bad(
            "src/x.rs",
            &format!("impl X {{\n    pub(crate) async fn a<'b>(x: [u8; 3]) -> B {{ let c = '{{';\n{}}}\n}}", "\n".repeat(70)),
            "fn a has 72",
        );
        good("src/x.rs", &format!("fn a() {{\n{}}}\nfn b();\nfn c() {{}}\n{}", "    b();\n".repeat(68), "\n".repeat(300)));
        bad("web/src/a.ts", &"\n".repeat(300), "301 lines, at most 300");
        bad("web/perf/a.ts", &"\n".repeat(300), "301 lines, at most 300");
        good("web/src/a.gen.ts", &"\n".repeat(400));
        assert_eq!(judge("src/x.rs", "// x\n").len(), 1, "a head is wanted");
    }

    #[test]
    fn names_and_words_are_held() {
        bad("src/utils.rs", "", "utils.rs says nothing");
        bad("web/src/helpers/a.ts", "", "helpers says nothing");
        bad("src/x.rs", "pub struct HubManager;", "HubManager says nothing");
        bad("src/x.rs", "#[ignore]\nfn a() {}", "not run is none");
        bad("src/x.rs", "#[allow(dead_code)]", "#[expect(");
        bad("src/x.rs", "pub static A: u8 = 1;", "no globals");
        bad("web/src/a.test.ts", "it.only(", "left out");
        good("src/x.rs", "fn a(b: &'static str) {} // struct Manager, #[ignore]");
    }

    #[test]
    fn machines_are_not_named() {
        bad("docs/x.md", MACHINE_PATHS[0], "somebody's machine");
        bad("web/package-lock.json", "\"resolved\": \"https://x\"", "download addresses");
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        assert_eq!(broken_links(&here, "[a](nowhere.md) [b](LICENSE#top) [c](https://x.y) [d](#e)"), ["nowhere.md is not there"]);
    }
}
