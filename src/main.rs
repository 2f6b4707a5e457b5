//! The program: what it is told, one node, and how it ends. Exit codes: 0 clean, 64 bad configuration, 1 otherwise.

use std::io::Write;
use std::process::ExitCode;

use chatnode::config::{self, Command};
use chatnode::{node, telemetry};

fn main() -> ExitCode {
    match config::from_process() {
        Ok(Command::Run(config)) => {
            telemetry::init(&config.log);
            match node::block_on(*config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("chatnode: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        // Whoever reads may stop reading: that is no failure.
        Ok(Command::Print(text)) => {
            std::io::stdout().write_all(text.as_bytes()).map_or(ExitCode::SUCCESS, |()| ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("chatnode: {error}");
            ExitCode::from(64)
        }
    }
}
