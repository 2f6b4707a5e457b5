//! The program as a process of its own: started, listened to, killed. It must not know what is tested.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::client::PATIENCE;

pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts it with nothing of this environment, and answers where it listens.
    pub(crate) fn start(args: &[&str]) -> (Self, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_chatnode"))
            .env_clear()
            .args(["--log-format", "json"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let errors = child.stderr.take().expect("its log");
        let (told, address) = std::sync::mpsc::channel();
        let log = Arc::<Mutex<String>>::default();
        let lines = Arc::clone(&log);
        // Reads on, so that the program never waits for its log.
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let found = line.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next()?.parse().ok());
                if let Some(address) = found {
                    let _ = told.send(address);
                }
                let mut log = lines.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        let process = Self { child, log };
        let address = address.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it says where it listens: {}", process.log()));
        (process, address)
    }

    /// Everything that it has said so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Process {
    /// `kill -9`.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
