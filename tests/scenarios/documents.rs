//! What the documents say is true: their examples parse, their commands run, their links lead somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use chatnode::protocol::{ClientFrame, ServerFrame};
use serde_json::Value;

use crate::harness::node::{Node, world};
use crate::harness::servers::needed;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn every_frame_in_the_protocol_is_one_of_ours_with_no_field_too_many() {
    let document = std::fs::read_to_string(Path::new(ROOT).join("docs/protocol.md")).expect("the protocol");
    let mut seen = BTreeSet::new();
    for line in blocks(&document, "json").iter().flat_map(|block| block.lines()) {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let client = serde_json::from_str::<ClientFrame>(line).map(|frame| serde_json::to_value(frame).expect("JSON"));
        let server = serde_json::from_str::<ServerFrame>(line).map(|frame| serde_json::to_value(frame).expect("JSON"));
        assert!(client.is_ok() || server.is_ok(), "{line}");
        assert_eq!(client.or(server).expect("a frame"), value);
        seen.insert(value["type"].to_string());
        if value["type"] == "finished" {
            let content = value["message"]["content"].as_str().expect("a text");
            assert_eq!((value["length"].as_u64(), value["crc32"].as_u64()), (Some(content.len() as u64), Some(crc(content))));
        }
    }
    assert!(seen.len() > 10, "{seen:?}");
}

fn crc(text: &str) -> u64 {
    u64::from(crc32fast::hash(text.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_minute_in_the_protocol_runs_as_it_stands() {
    let world = world();
    let node = Node::start("node", &world).await;
    let document = std::fs::read_to_string(Path::new(ROOT).join("docs/protocol.md")).expect("the protocol");
    let scripts = blocks(&document, "sh");
    assert!(!scripts.is_empty());
    if needed("curl").is_none() {
        return;
    }
    for script in scripts {
        let dir = tempfile::tempdir().expect("a directory");
        let mut shell = tokio::process::Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", &script]).env("CHATNODE", format!("http://{}", node.address));
        let output = shell.env("dir", dir.path()).output().await.expect("a shell");
        assert!(output.status.success(), "{script}\n{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("\"type\":\"finished\""), "{output:?}");
    }
}

#[test]
fn scripts_subcommands_and_files_that_documents_name_are_there() {
    let mut complaints = Vec::new();
    let mut commands = BTreeSet::new();
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("a document");
        let folder = path.parent().expect("a folder");
        let said = |what: &str| format!("{}: {what} is not there", path.strip_prefix(ROOT).unwrap_or(&path).display());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                complaints.push(said(link));
            }
        }
        for code in code(&text) {
            for (before, word) in words_after(&code, "scripts/") {
                if !before && !Path::new(ROOT).join("scripts").join(&word).exists() {
                    complaints.push(said(&format!("scripts/{word}")));
                }
            }
            commands.extend(words_after(&code, "chatnode ").into_iter().filter(|(inside, _)| !inside).map(|(_, word)| word));
        }
    }
    commands
        .retain(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-') && !word.is_empty());
    assert!(commands.contains("status") && commands.contains("check-config"), "{commands:?}");
    for command in commands {
        let known = Command::new(env!("CARGO_BIN_EXE_chatnode")).args([&command, "--help"]).output().expect("the program");
        if !known.status.success() {
            complaints.push(format!("chatnode knows no command {command}"));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// Every place where `code` says `what`: is it the end of a longer word, and the word behind it.
fn words_after(code: &str, what: &str) -> Vec<(bool, String)> {
    let inside = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | ':' | '.'));
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | '_')).collect::<String>();
    code.match_indices(what)
        .map(|(at, _)| (inside(&code[..at]), word(&code[at + what.len()..]).trim_end_matches('.').to_owned()))
        .collect()
}

fn documents() -> Vec<PathBuf> {
    let mut found = vec![Path::new(ROOT).join("README.md"), Path::new(ROOT).join("CHANGELOG.md")];
    let mut folders = vec![Path::new(ROOT).join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            match path.extension() {
                None if path.is_dir() => folders.push(path),
                Some(kind) if kind == "md" => found.push(path),
                _ => {}
            }
        }
    }
    found
}

/// The fenced blocks of one language.
pub(super) fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    document.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next()).map(str::to_owned).collect()
}

/// What stands between backticks, one or three.
fn code(document: &str) -> Vec<String> {
    document
        .split("```")
        .enumerate()
        .flat_map(|(at, part)| match at % 2 {
            1 => vec![part.to_owned()],
            _ => part.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
        })
        .collect()
}
