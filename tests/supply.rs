//! What is built in: whose it is, under which licence, and from where. Needs what building needs, and the crates of other systems,
//! which cargo fetches once; advisories are for `cargo deny check` with
//! `deny.toml`, where there is one. Both read the same lists.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn deny() -> toml::Table {
    std::fs::read_to_string(Path::new(ROOT).join("deny.toml")).expect("deny.toml").parse().expect("TOML")
}

fn words(value: &toml::Value, field: Option<&str>) -> BTreeSet<String> {
    let word = |item: &toml::Value| field.map_or(Some(item), |field| item.get(field))?.as_str().map(str::to_owned);
    value.as_array().expect("a list").iter().map(|item| word(item).expect("a word")).collect()
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let args = ["metadata", "--locked", "--format-version", "1"];
    let output = Command::new(cargo).args(args).current_dir(ROOT).output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("packages").clone()
}

/// Whether an SPDX expression can be met with these licences. `/` is what older packages write for `OR`.
fn allowed(expression: &str, licences: &BTreeSet<String>) -> bool {
    let expression = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let one = |term: &str| licences.contains(term.trim());
    // `AND` binds closer; our lock has parentheses around alternatives only in `(A OR B) AND C`.
    let parts: Vec<&str> = expression.split(" AND ").collect();
    if parts.len() > 1 { parts.iter().all(|part| part.split(" OR ").any(one)) } else { expression.split(" OR ").any(one) }
}

#[test]
fn every_crate_is_from_the_registry_under_a_licence_that_we_accept_and_none_is_banned() {
    let deny = deny();
    let licences = words(&deny["licenses"]["allow"], None);
    let banned = words(&deny["bans"]["deny"], Some("crate"));
    let packages = packages();
    assert!(packages.len() > 100, "all of them");
    let mut complaints = Vec::new();
    for package in &packages {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let name = text("name");
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        if text("source") != REGISTRY {
            complaints.push(format!("{name} comes from {:?}", text("source")));
        }
        if !allowed(text("license"), &licences) {
            complaints.push(format!("{name} is under {:?}", text("license")));
        }
        if banned.contains(name) {
            complaints.push(format!("{name} is banned in deny.toml"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_package_of_the_page_is_sealed_and_runs_nothing_when_installed() {
    let lock = std::fs::read_to_string(Path::new(ROOT).join("web/package-lock.json")).expect("a lock file");
    let lock: Value = serde_json::from_str(&lock).expect("JSON");
    let packages = lock["packages"].as_object().expect("packages");
    assert!(packages.len() > 50, "all of them");
    let unsealed: Vec<&String> = packages
        .iter()
        .filter(|(path, package)| !path.is_empty() && package["link"] != true && !package["integrity"].is_string())
        .map(|(path, _)| path)
        .collect();
    assert!(unsealed.is_empty(), "without a checksum: {unsealed:?}");
    let script = std::fs::read_to_string(Path::new(ROOT).join("build.rs")).expect("build.rs");
    let tests = std::fs::read_to_string(Path::new(ROOT).join("scripts/test")).expect("scripts/test");
    assert!([script, tests].iter().all(|text| text.contains("--ignore-scripts")), "npm ci runs scripts of packages");
}

#[test]
fn expressions_are_understood() {
    let licences: BTreeSet<String> = ["MIT", "ISC"].map(str::to_owned).into();
    for good in ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "MIT AND ISC", "(MIT OR GPL-3.0) AND ISC"] {
        assert!(allowed(good, &licences), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", "GPL-3.0 OR AGPL-3.0", "MITX"] {
        assert!(!allowed(bad, &licences), "{bad}");
    }
}
