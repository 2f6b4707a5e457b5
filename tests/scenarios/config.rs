//! The program's front door: what it prints and how it exits when it is told well, or badly.

use std::process::{Command, Output};

/// Runs the program with nothing of our own environment in it.
fn chatnode(args: &[&str], env: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chatnode"));
    command.env_clear().envs(env.iter().copied()).current_dir(dir.path()).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn refused(output: &Output, sentence: &str) {
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(stdout(output), "");
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "one sentence, not:\n{said}");
    assert!(said.starts_with("chatnode: ") && said.contains(sentence), "{said}");
}

#[test]
fn check_config_prints_what_holds_without_secrets() {
    let env = [("CHATNODE_LISTEN", "127.0.0.1:9"), ("OPENAI_API_KEY", "topsecret")];
    let urls = [
        "--redis-url",
        "redis://u:topsecret@r",
        "--nats-url",
        "nats://topsecret@n",
        "--history-url",
        "postgres://u:topsecret@h/d",
    ];
    let output = chatnode(&[["check-config"].as_slice(), urls.as_slice()].concat(), &env);
    let text = stdout(&output);
    assert!(output.status.success(), "{output:?}");
    assert!(!text.contains("topsecret"), "{text}");
    for line in [
        "listen = \"127.0.0.1:9\"  # CHATNODE_LISTEN",
        "redis_url = \"redis://***@r\"  # --redis-url",
        "url = \"postgres://***@h/d\"  # --history-url",
        "[ai.retry]",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[test]
fn help_names_every_flag_with_its_variable() {
    let text = stdout(&chatnode(&["--help"], &[]));
    for (flag, variable) in [("--role", "ROLE"), ("--listen", "LISTEN"), ("--config", "CONFIG"), ("--data-dir", "DATA_DIR")] {
        assert!(text.contains(flag) && text.contains(&format!("[CHATNODE_{variable}]")), "{text}");
    }
    assert!(stdout(&chatnode(&["--version"], &[])).starts_with("chatnode "));
}

#[test]
fn bad_configuration_exits_64_with_one_sentence() {
    refused(&chatnode(&["--role", "both"], &[]), "--role: node.role must be gateway, ai, all or gateway,ai, not \"both\"");
    refused(&chatnode(&["--port", "80"], &[]), "unexpected argument '--port'");
    refused(&chatnode(&["--listen"], &[]), "--listen");
    refused(&chatnode(&["check-config", "--config", "no.toml"], &[]), "no.toml can't be read");
    refused(&chatnode(&[], &[("CHATNODE_LISTEN", "0.0.0.0:8080")]), "anonymous = \"anywhere\" under [auth]");
    refused(&chatnode(&[], &[("CHATNODE_NATS_URL", "nats://n")]), "CHATNODE_NATS_URL: cluster.nats_url is set, but");
    for url in [
        "mysql://u:topsecret@h/d",
        "postgres://u:topsecret@/d",
        "postgres://u:topsecret@h:x/d",
        "postgres://u:topsecret@h?sslmode=prefer",
    ] {
        let output = chatnode(&["--redis-url", "redis://r", "--nats-url", "nats://n"], &[("CHATNODE_HISTORY_URL", url)]);
        refused(&output, "CHATNODE_HISTORY_URL: history.url ");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("topsecret"), "{output:?}");
    }
    refused(
        &chatnode(&["--history-url", "postgres://h/d"], &[]),
        "--history-url: history.url is set, but cluster.redis_url is not",
    );
    let (redis, nats) = (["--redis-url", "redis://r"], ["--nats-url", "nats://n?certificate=x"]);
    // A node has said that it starts; a command for accounts says nothing else.
    refused(&chatnode(&[&["user", "list"][..], &redis, &nats].concat(), &[]), "the nats address can't be used");
    assert_eq!(chatnode(&[redis, nats].concat(), &[]).status.code(), Some(64));
    refused(&chatnode(&[], &[("OPENAI_BASE_URL", "localhost:1234")]), "OPENAI_BASE_URL must be an http or https address");
}
