//! The suite on the embedded world, in memory and on a file.

use std::time::Duration;

use chatnode::backend::embedded::{Options, open};
use chatnode::config::DataDir;
use chatnode::drain::Drain;

use super::{LEASE, Run, as_tests, every_case};

every_case!(as_tests memory crate::conformance::embedded::in_memory);
every_case!(as_tests file crate::conformance::embedded::on_a_file);

pub(crate) async fn in_memory(case: Run) {
    run(DataDir::Memory, case).await;
}

pub(crate) async fn on_a_file(case: Run) {
    let directory = tempfile::tempdir().expect("a directory");
    run(DataDir::Path(directory.path().to_owned()), case).await;
}

async fn run(data: DataDir, case: Run) {
    let drain = Drain::new();
    let backends = open(&Options::new(data, LEASE), &drain).expect("open");
    case(backends).await;
    let left = drain.stop(Duration::from_secs(5)).await;
    assert!(left.is_empty(), "still running: {left:?}");
}
