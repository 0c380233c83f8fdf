//! What is known of each job, as numbers for alerts.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

/// Numbers of one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobNumbers {
    /// What it does, as in its status.
    pub state: String,
    /// Whether it is Ready.
    pub ready: bool,
    /// Why it is Stalled.
    pub stalled: Option<String>,
    /// Parallelism that it should have.
    pub parallelism: u32,
    /// Workers that it should have, and those that have joined.
    pub workers: (u32, u32),
    /// Restarts since it was created.
    pub restarts: u64,
    /// When its last checkpoint was complete, in seconds since 1970.
    pub last_checkpoint_unix_s: Option<f64>,
    /// Size of that checkpoint's state, in bytes.
    pub state_bytes: Option<u64>,
}

/// Numbers of all jobs of this controller.
#[derive(Default)]
pub struct Jobs {
    known: Mutex<BTreeMap<(String, String), JobNumbers>>,
}

const JOB: [&str; 2] = ["namespace", "name"];

impl Jobs {
    /// What is known of a job now.
    pub fn set(&self, namespace: &str, name: &str, numbers: JobNumbers) {
        self.known.lock().insert((namespace.to_owned(), name.to_owned()), numbers);
    }

    /// A job is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.known.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn gauges() -> Vec<GaugeVec> {
        let gauge = |name: &str, help: &str, more: &[&str]| {
            let labels: Vec<&str> = JOB.iter().chain(more).copied().collect();
            GaugeVec::new(Opts::new(name, help), &labels).expect("names of metrics and labels are sound")
        };
        vec![
            gauge("weir_streamjob_state", "1 for the state that a StreamJob is in.", &["state"]),
            gauge("weir_streamjob_ready", "1 while a StreamJob is Ready.", &[]),
            gauge("weir_streamjob_stalled", "1 while a StreamJob is Stalled, with the reason.", &["reason"]),
            gauge("weir_streamjob_parallelism", "Parallelism that a StreamJob should have.", &[]),
            gauge("weir_streamjob_workers", "Workers that a StreamJob should have.", &[]),
            gauge("weir_streamjob_ready_workers", "Workers that have joined a StreamJob.", &[]),
            gauge("weir_streamjob_restarts", "Restarts of a StreamJob since it was created.", &[]),
            gauge(
                "weir_streamjob_last_checkpoint_timestamp_seconds",
                "When a StreamJob's last checkpoint was complete, in seconds since 1970.",
                &[],
            ),
            gauge("weir_streamjob_state_bytes", "Size of the state in a StreamJob's last checkpoint, in bytes.", &[]),
        ]
    }
}

impl Jobs {
    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        let gauges = Self::gauges();
        for ((namespace, name), numbers) in &*self.known.lock() {
            let job = [namespace.as_str(), name.as_str()];
            let flag = |set: bool| f64::from(u8::from(set));
            gauges[0].with_label_values(&[job[0], job[1], &numbers.state]).set(1.0);
            gauges[1].with_label_values(&job).set(flag(numbers.ready));
            if let Some(reason) = &numbers.stalled {
                gauges[2].with_label_values(&[job[0], job[1], reason]).set(1.0);
            }
            gauges[3].with_label_values(&job).set(f64::from(numbers.parallelism));
            gauges[4].with_label_values(&job).set(f64::from(numbers.workers.0));
            gauges[5].with_label_values(&job).set(f64::from(numbers.workers.1));
            gauges[6].with_label_values(&job).set(numbers.restarts as f64);
            if let Some(seconds) = numbers.last_checkpoint_unix_s {
                gauges[7].with_label_values(&job).set(seconds);
            }
            if let Some(bytes) = numbers.state_bytes {
                gauges[8].with_label_values(&job).set(bytes as f64);
            }
        }
        gauges.iter().flat_map(GaugeVec::collect).filter(|family| !family.get_metric().is_empty()).collect()
    }
}
