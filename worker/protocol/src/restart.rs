//! Whether, and when, a failed job starts again: Flink's restart strategies.
//!
//! One failure is the end of one generation. What else fails until the restart is due belongs to the same failure and
//! is answered with the time that is left; so a crash that is seen from many sides costs one attempt. After a job was
//! given up, it stays so. The semantics are those of Flink's page "Task Failure Recovery"; where it says that an
//! amount must be exceeded, that amount of restarts is still made.

use crate::ids::Now;
use crate::retry::{Backoff, Pace};
use std::collections::VecDeque;

/// What a user chooses under `spec.restart`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// Without an end, after growing delays.
    ExponentialDelay {
        /// The delays.
        pace: Pace,
        /// Having run this long without a failure, in milliseconds, the job begins with the first delay again.
        reset_after_ms: u64,
    },
    /// After the same delay, a number of times in the job's life.
    FixedDelay {
        /// Restarts before the job is given up.
        attempts: u32,
        /// Milliseconds before each restart.
        delay_ms: u64,
    },
    /// After the same delay, as long as failures are rare enough.
    FailureRate {
        /// Failures within the window after which the job is still restarted.
        max_failures: u32,
        /// The window's length in milliseconds.
        window_ms: u64,
        /// Milliseconds before each restart.
        delay_ms: u64,
    },
    /// The first failure is the last.
    None,
}

/// The history of a job's failures, as far as its strategy needs it.
#[derive(Debug, Clone)]
pub struct Restart {
    course: Course,
    /// Restarts since the beginning, or since the delays were reset.
    attempt: u32,
    last: Option<Last>,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Start the next generation.
    RetryAfter {
        /// Milliseconds from now.
        delay_ms: u64,
        /// The number of the restart, from 1; it begins anew when the delays do.
        attempt: u32,
    },
    /// The job has failed for good.
    GiveUp {
        /// For the user, beside the failure itself.
        reason: Reason,
    },
}

/// Why a job is not started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// By [`Strategy::None`].
    #[error("spec.restart is none: a failed job is not started again")]
    NoRestarts,
    /// By [`Strategy::FixedDelay`].
    #[error("all {attempts} attempts of spec.restart.fixedDelay are used")]
    AttemptsUsed {
        /// Restarts made.
        attempts: u32,
    },
    /// By [`Strategy::FailureRate`].
    #[error("more than {max_failures} failures within {window_ms} ms, the limit of spec.restart.failureRate")]
    TooManyFailures {
        /// The limit.
        max_failures: u32,
        /// The window's length in milliseconds.
        window_ms: u64,
    },
}

#[derive(Debug, Clone)]
enum Course {
    Exponential {
        backoff: Backoff,
        reset_after_ms: u64,
    },
    Fixed {
        attempts: u32,
        delay_ms: u64,
    },
    Rate {
        max_failures: u32,
        window_ms: u64,
        delay_ms: u64,
        /// The failures within the window, oldest first; at most `max_failures`.
        failures: VecDeque<Now>,
    },
    None,
}

#[derive(Debug, Clone, Copy)]
enum Last {
    Due(Now),
    GivenUp(Reason),
}

impl Restart {
    /// A job that has not failed yet.
    #[must_use]
    pub fn new(strategy: Strategy) -> Self {
        let course = match strategy {
            Strategy::ExponentialDelay { pace, reset_after_ms } => {
                Course::Exponential { backoff: Backoff::new(pace), reset_after_ms }
            }
            Strategy::FixedDelay { attempts, delay_ms } => Course::Fixed { attempts, delay_ms },
            Strategy::FailureRate { max_failures, window_ms, delay_ms } => {
                Course::Rate { max_failures, window_ms, delay_ms, failures: VecDeque::new() }
            }
            Strategy::None => Course::None,
        };
        Self { course, attempt: 0, last: None }
    }

    /// The job failed at `now`. `draw` is a random number between 0 and 1, which spreads growing delays.
    pub fn on_failure(&mut self, now: Now, draw: f64) -> Decision {
        match self.last {
            Some(Last::GivenUp(reason)) => return Decision::GiveUp { reason },
            Some(Last::Due(due)) if now < due => {
                return Decision::RetryAfter { delay_ms: due.ms_since(now), attempt: self.attempt };
            }
            Some(Last::Due(due)) => self.forget_after_quiet(now.ms_since(due)),
            None => {}
        }
        match self.delay_ms(now, draw) {
            Ok(delay_ms) => {
                self.attempt = self.attempt.saturating_add(1);
                self.last = Some(Last::Due(now.after_ms(delay_ms)));
                Decision::RetryAfter { delay_ms, attempt: self.attempt }
            }
            Err(reason) => {
                self.last = Some(Last::GivenUp(reason));
                Decision::GiveUp { reason }
            }
        }
    }

    fn forget_after_quiet(&mut self, ran_ms: u64) {
        if let Course::Exponential { backoff, reset_after_ms } = &mut self.course
            && ran_ms >= *reset_after_ms
        {
            backoff.reset();
            self.attempt = 0;
        }
    }

    fn delay_ms(&mut self, now: Now, draw: f64) -> Result<u64, Reason> {
        match &mut self.course {
            Course::Exponential { backoff, .. } => Ok(backoff.next_ms(draw)),
            Course::Fixed { attempts, delay_ms } if self.attempt < *attempts => Ok(*delay_ms),
            Course::Fixed { attempts, .. } => Err(Reason::AttemptsUsed { attempts: *attempts }),
            Course::Rate { max_failures, window_ms, delay_ms, failures } => {
                while failures.front().is_some_and(|oldest| now.ms_since(*oldest) > *window_ms) {
                    failures.pop_front();
                }
                if failures.len() >= *max_failures as usize {
                    return Err(Reason::TooManyFailures { max_failures: *max_failures, window_ms: *window_ms });
                }
                failures.push_back(now);
                Ok(*delay_ms)
            }
            Course::None => Err(Reason::NoRestarts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Decision, Pace, Reason, Restart, Strategy};
    use crate::ids::Now;
    use proptest::prelude::{Strategy as Values, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

    const PACE: Pace = Pace { initial_ms: 100, max_ms: 1000, multiplier: 2.0, jitter: 0.1 };
    const EXPONENTIAL: Strategy = Strategy::ExponentialDelay { pace: PACE, reset_after_ms: 5000 };

    fn retry(delay_ms: u64, attempt: u32) -> Decision {
        Decision::RetryAfter { delay_ms, attempt }
    }

    fn give_up(reason: Reason) -> Decision {
        Decision::GiveUp { reason }
    }

    /// Failures at the given milliseconds, with the draw in the middle: no jitter.
    fn check(strategy: Strategy, failures: &[(u64, Decision)]) {
        let mut restart = Restart::new(strategy);
        for (at, expected) in failures {
            assert_eq!(restart.on_failure(Now(*at), 0.5), *expected, "{strategy:?} at {at}");
        }
    }

    #[test]
    fn exponential_delay_grows_until_the_job_has_run_for_a_while() {
        check(EXPONENTIAL, &[(0, retry(100, 1)), (100, retry(200, 2)), (400, retry(400, 3)), (900, retry(800, 4))]);
        check(EXPONENTIAL, &[(0, retry(100, 1)), (5099, retry(200, 2)), (10_299, retry(100, 1))]);
        check(EXPONENTIAL, &[(0, retry(100, 1)), (5100, retry(100, 1)), (5200, retry(200, 2))]);
        let mut restart = Restart::new(EXPONENTIAL);
        assert_eq!(restart.on_failure(Now(0), 0.0), retry(90, 1));
        assert_eq!(restart.on_failure(Now(90), 1.0), retry(220, 2));
    }

    #[test]
    fn fixed_delay_uses_up_its_attempts() {
        let used = |attempts| give_up(Reason::AttemptsUsed { attempts });
        let twice = Strategy::FixedDelay { attempts: 2, delay_ms: 10 };
        check(twice, &[(0, retry(10, 1)), (1_000_000, retry(10, 2)), (9_000_000, used(2)), (99_000_000, used(2))]);
        check(Strategy::FixedDelay { attempts: 0, delay_ms: 10 }, &[(0, used(0))]);
        let at_once = Strategy::FixedDelay { attempts: 2, delay_ms: 0 };
        check(at_once, &[(7, retry(0, 1)), (7, retry(0, 2)), (7, used(2))]);
    }

    #[test]
    fn failure_rate_counts_within_its_window() {
        let rate = |max_failures| Strategy::FailureRate { max_failures, window_ms: 100, delay_ms: 10 };
        let exceeded = |max_failures| give_up(Reason::TooManyFailures { max_failures, window_ms: 100 });
        check(rate(2), &[(0, retry(10, 1)), (50, retry(10, 2)), (100, exceeded(2)), (999, exceeded(2))]);
        check(rate(2), &[(0, retry(10, 1)), (50, retry(10, 2)), (101, retry(10, 3)), (150, exceeded(2))]);
        check(rate(1), &[(0, retry(10, 1)), (101, retry(10, 2)), (202, retry(10, 3))]);
        check(rate(0), &[(0, exceeded(0))]);
    }

    #[test]
    fn none_gives_up_at_once() {
        check(Strategy::None, &[(0, give_up(Reason::NoRestarts)), (9, give_up(Reason::NoRestarts))]);
    }

    #[test]
    fn failures_before_the_restart_are_one_failure() {
        check(EXPONENTIAL, &[(0, retry(100, 1)), (1, retry(99, 1)), (99, retry(1, 1)), (100, retry(200, 2))]);
        let once = Strategy::FixedDelay { attempts: 1, delay_ms: 10 };
        let used = give_up(Reason::AttemptsUsed { attempts: 1 });
        check(once, &[(0, retry(10, 1)), (9, retry(1, 1)), (10, used)]);
        let rate = Strategy::FailureRate { max_failures: 1, window_ms: 5, delay_ms: 10 };
        check(rate, &[(0, retry(10, 1)), (4, retry(6, 1)), (10, retry(10, 2))]);
    }

    fn strategies() -> impl Values<Value = Strategy> {
        prop_oneof![
            (0..5_u32, 0..50_u64).prop_map(|(attempts, delay_ms)| Strategy::FixedDelay { attempts, delay_ms }),
            (0..5_u32, 0..500_u64, 0..50_u64).prop_map(|(max_failures, window_ms, delay_ms)| {
                Strategy::FailureRate { max_failures, window_ms, delay_ms }
            }),
        ]
    }

    proptest! {
        /// Compares with a count over the list of all restarts that were made.
        #[test]
        fn limits_hold_over_any_history(strategy in strategies(), pauses in prop::collection::vec(0..200_u64, 0..30)) {
            let mut restart = Restart::new(strategy);
            let (mut now, mut restarts, mut due) = (0_u64, Vec::new(), 0_u64);
            for pause in pauses {
                now += pause;
                let decision = restart.on_failure(Now(now), 0.5);
                if now < due {
                    prop_assert_eq!(decision, retry(due - now, restarts.len() as u32));
                    continue;
                }
                let (allowed, delay_ms) = match strategy {
                    Strategy::FixedDelay { attempts, delay_ms } => (restarts.len() < attempts as usize, delay_ms),
                    Strategy::FailureRate { max_failures, window_ms, delay_ms } => {
                        let recent = restarts.iter().filter(|at| now - **at <= window_ms).count();
                        (recent < max_failures as usize, delay_ms)
                    }
                    _ => unreachable!("only strategies with a limit"),
                };
                if !allowed {
                    prop_assert!(matches!(decision, Decision::GiveUp { .. }), "{:?}", decision);
                    break;
                }
                restarts.push(now);
                due = now + delay_ms;
                prop_assert_eq!(decision, retry(delay_ms, restarts.len() as u32));
            }
        }
    }
}
