//! What the controller counts.

use std::time::Duration;

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use super::Jobs;

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done,
    /// Somebody else wrote first, or what was seen is old: it is looked at again.
    Conflict,
    /// It failed.
    Failed,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

/// Everything that is counted, and the numbers of the jobs.
pub struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    reconcile_seconds: Histogram,
    writes: IntCounterVec,
    leader_requests: IntCounterVec,
    watch_errors: IntCounterVec,
    holding: IntGauge,
    memory: IntGauge,
    /// The jobs.
    pub jobs: Jobs,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels).expect("sound names"))
        };
        let gauge = |name: &str, help: &str| register(&registry, IntGauge::new(name, help).expect("sound names"));
        let seconds = HistogramOpts::new("weir_operator_reconcile_seconds", "How long one look at a resource took.")
            .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]);
        Self {
            reconciles: counters("weir_operator_reconciles_total", "Looks at resources.", &["kind", "outcome"]),
            reconcile_seconds: register(&registry, Histogram::with_opts(seconds).expect("sound names")),
            writes: counters(
                "weir_operator_writes_total",
                "Writes to the Kubernetes API.",
                &["verb", "kind", "outcome"],
            ),
            leader_requests: counters(
                "weir_operator_leader_requests_total",
                "Requests to the leaders of jobs.",
                &["request", "outcome"],
            ),
            watch_errors: counters("weir_operator_watch_errors_total", "Watches that broke.", &["kind"]),
            holding: gauge("weir_operator_holding", "1 while this replica holds the lease and acts."),
            memory: gauge("process_resident_memory_bytes", "Memory of this process that is resident, in bytes."),
            registry,
            jobs: Jobs::default(),
        }
    }

    /// A look at a resource ended.
    pub fn reconciled(&self, kind: &str, outcome: Outcome, took: Duration) {
        self.reconciles.with_label_values(&[kind, outcome.name()]).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// A write to the API ended.
    pub fn wrote(&self, verb: &str, kind: &str, outcome: Outcome) {
        self.writes.with_label_values(&[verb, kind, outcome.name()]).inc();
    }

    /// A request to a leader ended.
    pub fn asked_leader(&self, request: &str, outcome: Outcome) {
        self.leader_requests.with_label_values(&[request, outcome.name()]).inc();
    }

    /// A watch broke; it is taken up again.
    pub fn watch_broke(&self, kind: &str) {
        self.watch_errors.with_label_values(&[kind]).inc();
    }

    /// Whether this replica acts.
    pub fn set_holding(&self, holding: bool) {
        self.holding.set(i64::from(holding));
    }

    /// Everything in the text format of Prometheus.
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        self.memory.set(resident_bytes().unwrap_or_default());
        let mut families = self.registry.gather();
        families.extend(self.jobs.collect());
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
            tracing::warn!(error = %error, "metrics could not be written");
        }
        text
    }
}

/// Memory of this process, from the kernel.
#[must_use]
pub fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry.register(Box::new(collector.clone())).expect("each metric is registered once");
    collector
}

#[cfg(test)]
mod tests {
    use super::super::JobNumbers;
    use super::*;

    #[test]
    fn numbers_of_a_job_are_told_until_it_is_gone() {
        let metrics = Metrics::new();
        metrics.reconciled("StreamJob", Outcome::Done, Duration::from_millis(3));
        let numbers = JobNumbers {
            state: "Running".to_owned(),
            stalled: Some("BadSql".to_owned()),
            restarts: 2,
            ..JobNumbers::default()
        };
        metrics.jobs.set("shop", "bids", numbers);
        let text = String::from_utf8(metrics.text()).expect("text");
        for line in [
            r#"weir_operator_reconciles_total{kind="StreamJob",outcome="done"} 1"#,
            r#"weir_streamjob_state{name="bids",namespace="shop",state="Running"} 1"#,
            r#"weir_streamjob_stalled{name="bids",namespace="shop",reason="BadSql"} 1"#,
            r#"weir_streamjob_restarts{name="bids",namespace="shop"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        metrics.jobs.forget("shop", "bids");
        assert!(!String::from_utf8(metrics.text()).expect("text").contains("weir_streamjob"));
    }
}
