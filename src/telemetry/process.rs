//! Figures of the process and of its runtime, read when somebody asks. What a platform doesn't tell is left out.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::model::Time;

/// The unit of times in `/proc/self/stat`, the same on every Linux that people run.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub(super) struct Process {
    started: Time,
}

impl Process {
    pub(super) fn started_now() -> Self {
        Self { started: Time::now() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            None => Ok(()),
            Some(value) => {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into 53 bits")]
        let started = self.started.0 as f64 / 1_000.0;
        gauge("process_start_time_seconds", "Seconds since 1970", Some(started))?;
        gauge("process_resident_memory_bytes", "Memory in use", resident_bytes())?;
        gauge("process_open_fds", "Open files and sockets", open_files())?;
        let runtime = tokio::runtime::Handle::try_current().ok().map(|handle| handle.metrics());
        let tasks = runtime.as_ref().map(|runtime| count(runtime.num_alive_tasks()));
        gauge("tokio_alive_tasks", "Tasks that have not ended", tasks)?;
        let queued = runtime.as_ref().map(|runtime| count(runtime.global_queue_depth()));
        gauge("tokio_queued_tasks", "Tasks that wait for a thread", queued)?;
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let descriptor = encoder.encode_descriptor("process_cpu_seconds", "Processor time", None, counter.metric_type())?;
            counter.encode(descriptor)?;
        }
        Ok(())
    }
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in parentheses and may hold anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn open_files() -> Option<f64> {
    // Listing them opens one more.
    Some(count(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)))
}
