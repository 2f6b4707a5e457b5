//! The program: what it is told, one node, and how it ends. Exit codes: 0 clean, 64 bad configuration, 1 otherwise.

use std::{io::Write, process::ExitCode};

use chatnode::config::{self, Command};
use chatnode::{bench, node, status, telemetry, user};

fn main() -> ExitCode {
    match config::from_process() {
        Ok(Command::Run(config)) => {
            telemetry::init(&config.log);
            node::block_on(*config).map_or_else(|error| say(&error, failure(error.is_of_configuration())), |()| ExitCode::SUCCESS)
        }
        Ok(Command::Print(text)) => print(&text),
        Ok(Command::Status(url, key)) => {
            status::block_on(&url, key.as_ref()).map_or_else(|error| say(error, ExitCode::FAILURE), |text| print(&text))
        }
        Ok(Command::Bench(plan)) => {
            bench::block_on(*plan).map_or_else(|error| say(error, ExitCode::FAILURE), |text| print(&text))
        }
        Ok(Command::User(config, command)) => {
            telemetry::init(&config.log);
            user::block_on(*config, command)
                .map_or_else(|error| say(&error, failure(error.is_of_configuration())), |text| print(&text))
        }
        Err(error) => say(error, failure(true)),
    }
}

fn failure(of_configuration: bool) -> ExitCode {
    if of_configuration { ExitCode::from(64) } else { ExitCode::FAILURE }
}

fn say(error: impl std::fmt::Display, code: ExitCode) -> ExitCode {
    eprintln!("chatnode: {error}");
    code
}

fn print(text: &str) -> ExitCode {
    // Whoever reads may stop reading: that is no failure.
    std::io::stdout().write_all(text.as_bytes()).map_or(ExitCode::SUCCESS, |()| ExitCode::SUCCESS)
}
