//! `spec.restart`: what happens after a failure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, rule};

/// What happens after a failure: exactly one of `exponentialDelay`, `fixedDelay`, `failureRate` and `none`. Errors that
/// only the user can cure (bad SQL, a missing topic) are not retried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule::list(&[&rule::ONE_RESTART])))]
pub struct RestartSpec {
    /// Restarts for ever, waiting longer each time. The default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponential_delay: Option<ExponentialDelaySpec>,
    /// Restarts a number of times, with the same wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_delay: Option<FixedDelaySpec>,
    /// Restarts until failures come too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_rate: Option<FailureRateSpec>,
    /// Never restarts: the first failure ends the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<NoRestartSpec>,
}

impl Default for RestartSpec {
    fn default() -> Self {
        Self {
            exponential_delay: Some(ExponentialDelaySpec::default()),
            fixed_delay: None,
            failure_rate: None,
            none: None,
        }
    }
}

/// Restarts for ever, waiting longer each time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rule::list(&[&rule::DELAY_STARTS, &rule::DELAY_GROWS])))]
pub struct ExponentialDelaySpec {
    /// Wait before the first restart; longer than 0s.
    pub initial: Duration,
    /// Longest wait.
    pub max: Duration,
    /// What each wait is multiplied with to give the next.
    #[schemars(range(min = 1.0, max = 100.0))]
    pub multiplier: f64,
    /// Share of the wait that is added or taken away at random, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: f64,
    /// After this long without a failure the wait begins at `initial` again.
    pub reset_after: Duration,
}

impl Default for ExponentialDelaySpec {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(60),
            multiplier: 2.0,
            jitter: 0.1,
            reset_after: Duration::from_secs(600),
        }
    }
}

/// Restarts a number of times, with the same wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FixedDelaySpec {
    /// Restarts before the job is failed.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub attempts: u32,
    /// Wait before each restart.
    pub delay: Duration,
}

impl Default for FixedDelaySpec {
    fn default() -> Self {
        Self { attempts: 3, delay: Duration::from_secs(10) }
    }
}

/// Restarts until failures come too often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rule::list(&[&rule::WINDOW])))]
pub struct FailureRateSpec {
    /// Failures within `window` that are still restarted; one more fails the job.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_failures: u32,
    /// Time over which failures are counted; longer than 0s.
    pub window: Duration,
    /// Wait before each restart.
    pub delay: Duration,
}

impl Default for FailureRateSpec {
    fn default() -> Self {
        Self { max_failures: 3, window: Duration::from_secs(300), delay: Duration::from_secs(10) }
    }
}

/// Never restarts. Written as `none: {}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoRestartSpec {}
