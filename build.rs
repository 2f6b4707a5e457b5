//! Builds the web UI when its sources are newer than what `npm run build` made last, and lays it where the binary
//! embeds it from. Must stay quick when nothing changed, and never needs Node for a debug build.
//!
//! `CHATNODE_UI=skip` leaves the UI out; so does a debug build without Node, with a warning. A release build is an error
//! then: whoever ships a binary wants to know.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

const HOW_TO_SKIP: &str = "or build without the UI: CHATNODE_UI=skip cargo build --release";

/// What Vite needs.
const NODE_LEAST: (u32, u32) = (20, 19);

/// How many of npm's last lines an error repeats.
const LINES_MAX: usize = 15;

const PLACEHOLDER: &str = include_str!("scripts/no-ui.html");

fn main() -> io::Result<()> {
    let web = Path::new("web");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?).join("ui");
    let release = std::env::var_os("PROFILE").is_some_and(|profile| profile == "release");
    let wish = std::env::var_os("CHATNODE_UI").unwrap_or_default();
    println!("cargo::rerun-if-env-changed=CHATNODE_UI");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=scripts/no-ui.html");
    let sources = sources(web)?;
    // Not the folders, which cargo would search for tests too: what comes new is named by a file that changes.
    for path in sources.iter().filter(|path| path.is_file()).chain([&web.join("public")]) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    if !wish.is_empty() && wish != "skip" {
        println!("cargo::error=CHATNODE_UI is {wish:?}, but only \"skip\" is known: unset it to build the UI");
        return Ok(());
    }
    let built = if wish == "skip" { Err(String::new()) } else { build(web, &sources) };
    match built {
        Ok(()) => copy(&web.join("dist"), &out),
        Err(why) if release && wish != "skip" => {
            why.lines().for_each(|line| println!("cargo::error={line}"));
            Ok(())
        }
        Err(why) => {
            why.lines().for_each(|line| println!("cargo::warning={line}"));
            if wish != "skip" {
                println!("cargo::warning=this debug build goes on without the UI; `touch build.rs` to try again");
            }
            clear(&out)?;
            fs::write(out.join("index.html"), PLACEHOLDER)
        }
    }
}

/// Every file that the built UI depends on. Tests don't change it, so they cause no build.
fn sources(web: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![PathBuf::from("scripts/precompress.mjs")];
    let files = [".npmrc", "index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];
    found.extend(files.iter().map(|name| web.join(name)).filter(|path| path.exists()));
    let mut folders = vec![web.join("src"), web.join("public")];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                folders.push(path);
            } else if !name.contains(".test.") {
                found.push(path);
            }
        }
        // Newer when a file came or went.
        found.push(folder);
    }
    found.sort();
    Ok(found)
}

/// Leaves a UI in `web/dist` that is as new as its sources, or says in a sentence why it can't.
fn build(web: &Path, sources: &[PathBuf]) -> Result<(), String> {
    let lock = File::create(web.join(".lock")).map_err(|error| format!("the web UI's folder can't be written: {error}"))?;
    // Two builds with target folders of their own share this one.
    lock.lock().map_err(|error| format!("the web UI's folder can't be locked: {error}"))?;
    let began = SystemTime::now();
    let newest = sources.iter().filter_map(|path| modified(path)).max();
    let page = web.join("dist/index.html");
    if modified(&page).is_some_and(|built| Some(built) >= newest) {
        return Ok(());
    }
    require_node()?;
    let installed = modified(&web.join("node_modules/.package-lock.json"));
    if installed.is_none() || installed < modified(&web.join("package-lock.json")) {
        npm(web, &["ci", "--ignore-scripts", "--include=dev", "--no-audit", "--no-fund"])?;
    }
    npm(web, &["run", "build"])?;
    run(Command::new("node").arg("scripts/precompress.mjs").arg(web.join("dist")), "precompressing the web UI")?;
    // What was edited meanwhile is newer than this.
    let stamp = File::options().write(true).open(&page).and_then(|page| page.set_modified(began));
    stamp.map_err(|error| format!("{} can't be written: {error}", page.display()))
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

fn require_node() -> Result<(), String> {
    let (major, minor) = NODE_LEAST;
    let install = format!("install Node.js {major}.{minor} or newer with npm from https://nodejs.org, {HOW_TO_SKIP}");
    let version = Command::new("node").arg("--version").output();
    let version = version.map_err(|_| format!("the web UI can't be built, because there is no Node.js: {install}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().trim_start_matches('v').to_owned();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
    let has = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if has < NODE_LEAST {
        return Err(format!("the web UI can't be built, because Node.js is {version}: {install}"));
    }
    if Command::new(npm_name()).arg("--version").output().is_err() {
        return Err(format!("the web UI can't be built, because there is no npm: {install}"));
    }
    Ok(())
}

fn npm(web: &Path, args: &[&str]) -> Result<(), String> {
    run(Command::new(npm_name()).args(args).current_dir(web), &format!("`npm {}` in web/", args.join(" ")))
}

fn npm_name() -> &'static str {
    if cfg!(windows) { "npm.cmd" } else { "npm" }
}

fn run(command: &mut Command, what: &str) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{what} can't be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with("at ")).collect();
    let last = lines[lines.len().saturating_sub(LINES_MAX)..].join("\n");
    Err(format!("{what} failed; mend it, {HOW_TO_SKIP}; it said:\n{last}"))
}

fn clear(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    clear(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
