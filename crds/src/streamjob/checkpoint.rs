//! `spec.checkpoint`: when and how state is made durable.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, rule};

/// When and how the job's state is made durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rule::list(&[
    &rule::INTERVAL,
    &rule::TIMEOUT,
    &rule::UNALIGNED_BEFORE_TIMEOUT,
])))]
pub struct CheckpointSpec {
    /// Time from the start of one checkpoint to the start of the next, at least 10ms. Results of an exactly-once sink
    /// become visible with a checkpoint, so this is also their delay.
    pub interval: Duration,
    /// A checkpoint that takes longer is given up, and counts as failed. At least 10ms.
    pub timeout: Duration,
    /// Least time between the end of one checkpoint and the start of the next.
    pub min_pause: Duration,
    /// What a checkpoint guarantees.
    pub mode: CheckpointMode,
    /// Lets a checkpoint overtake the data that waits in channels when it takes too long, for jobs under long
    /// backpressure. The waiting data is stored with the checkpoint. Absent: checkpoints always wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unaligned: Option<UnalignedSpec>,
    /// Failed checkpoints in a row before the job itself fails and restarts. 0: the first failure does.
    #[schemars(range(max = 1_000_000))]
    pub tolerable_failures: u32,
    /// Completed checkpoints to keep.
    #[schemars(range(min = 1, max = 1_000))]
    pub retain: u32,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(600),
            min_pause: Duration::from_secs(0),
            mode: CheckpointMode::ExactlyOnce,
            unaligned: None,
            tolerable_failures: 3,
            retain: 3,
        }
    }
}

/// What a checkpoint guarantees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CheckpointMode {
    /// After a failure every record counts exactly once in state and in exactly-once sinks.
    #[default]
    ExactlyOnce,
}

/// When a checkpoint overtakes waiting data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UnalignedSpec {
    /// How long a checkpoint waits for the data before it; must be shorter than `timeout`. 0s: it never waits.
    pub after: Duration,
}

impl Default for UnalignedSpec {
    fn default() -> Self {
        Self { after: Duration::from_secs(30) }
    }
}
