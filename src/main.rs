//! The program: what it is told, one node, and how it ends. Exit codes: 0 clean, 64 bad configuration, 1 otherwise.

use std::process::ExitCode;

use chatnode::config::{self, Command};

fn main() -> ExitCode {
    match config::from_process() {
        Ok(Command::Run(config)) => run(*config),
        Ok(Command::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("chatnode: {error}");
            ExitCode::from(64)
        }
    }
}

fn run(_config: config::Config) -> ExitCode {
    ExitCode::SUCCESS
}
