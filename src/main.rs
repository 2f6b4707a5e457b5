//! The program: what it is told, one node, and how it ends. Exit codes: 0 clean, 64 bad configuration, 1 otherwise.

use std::io::Write;
use std::process::ExitCode;

use chatnode::config::{self, Command};
use chatnode::{node, status, telemetry};

fn main() -> ExitCode {
    let outcome = match config::from_process() {
        Ok(Command::Run(config)) => {
            telemetry::init(&config.log);
            node::block_on(*config).map_err(|error| (error.to_string(), ExitCode::FAILURE))
        }
        Ok(Command::Print(text)) => Ok(print(&text)),
        Ok(Command::Status(url)) => {
            status::block_on(&url).map(|text| print(&text)).map_err(|error| (error.to_string(), ExitCode::FAILURE))
        }
        Err(error) => Err((error.to_string(), ExitCode::from(64))),
    };
    outcome.map_or_else(
        |(error, code)| {
            eprintln!("chatnode: {error}");
            code
        },
        |()| ExitCode::SUCCESS,
    )
}

/// Whoever reads may stop reading: that is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
