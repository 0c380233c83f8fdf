//! Attempts: each with a time limit, the next after a growing pause, and all that is known of them at the end.

use super::client::Connected;
use super::fault::{Cause, Effect, Fault};
use super::meter::{Ended, Meter, Operation};
use super::settings::{Settings, keeps_asking};
use crate::failure::{Failure, Kind};
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use weir_protocol::retry::{Backoff, Pace};

/// Half of a pause is left to chance, so that many who failed together do not come back together.
const PACE: Pace = Pace { initial_ms: 100, max_ms: 5_000, multiplier: 2.0, jitter: 0.5 };
/// Time that an attempt has for each MiB that it moves.
const PER_MIB: Duration = Duration::from_secs(2);

/// What all requests to a bucket share.
pub(super) struct Requests {
    pub(super) settings: Settings,
    pub(super) connected: Connected,
    pub(super) meter: Arc<Meter>,
    permits: Semaphore,
    /// The store wants nothing before.
    not_before: Mutex<Option<Instant>>,
    /// By kind of request: one was answered, so what the user says about the bucket is right for it.
    answered: [AtomicBool; Operation::ALL.len()],
}

/// A request that was given up.
#[derive(Debug)]
pub(super) struct GivenUp {
    operation: Operation,
    /// Why the last attempt failed.
    pub(super) fault: Fault,
    /// What all attempts together may have done.
    pub(super) effect: Effect,
}

impl Requests {
    pub(super) fn new(settings: Settings, connected: Connected) -> Self {
        Self {
            permits: Semaphore::new(settings.limits.concurrency.max(1)),
            settings,
            connected,
            meter: Arc::default(),
            not_before: Mutex::new(None),
            answered: Default::default(),
        }
    }

    /// Attempts a request that moves this many bytes, until one succeeds or no other could.
    pub(super) async fn attempt<T, F>(
        &self,
        operation: Operation,
        bytes: usize,
        request: impl Fn() -> F,
    ) -> Result<T, GivenUp>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let limits = self.settings.limits;
        let began = Instant::now();
        let mut backoff = Backoff::new(PACE);
        let mut effect = Effect::None;
        for attempt in 1.. {
            let fault = match self.once(operation, bytes, request()).await {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            if fault.effect == Effect::Unknown {
                effect = Effect::Unknown;
            }
            let pause = Duration::from_millis(backoff.next_ms(chance()));
            if !fault.cause.may_pass() || attempt >= limits.attempts || began.elapsed() + pause > limits.patience {
                return Err(GivenUp { operation, fault, effect });
            }
            self.meter.retried(operation);
            tokio::time::sleep(pause).await;
        }
        unreachable!("the number of attempts is limited")
    }

    async fn once<T>(
        &self,
        operation: Operation,
        bytes: usize,
        request: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
        self.wait_for_the_store().await;
        let began = Instant::now();
        let limit = self.settings.limits.attempt + PER_MIB.mul_f64(bytes as f64 / f64::from(1 << 20));
        let outcome = match tokio::time::timeout(limit, request).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Fault::unknown(format!("no answer within {} s", limit.as_secs_f64()))),
        };
        let ended = outcome.as_ref().map_or_else(Fault::ended, |_| Ended::Answered);
        self.meter.attempted(operation, began.elapsed(), ended);
        match &outcome {
            Ok(_) => {
                self.meter.moved(operation, bytes);
                self.answered[operation as usize].store(true, Ordering::Relaxed);
            }
            Err(Fault { cause: Cause::Throttled(pause), .. }) => self.pause(*pause),
            Err(Fault { cause: Cause::Credentials, .. }) => self.connected.credentials.refused(),
            Err(_) => {}
        }
        outcome
    }

    /// All requests wait while the store wants none.
    async fn wait_for_the_store(&self) {
        loop {
            let until = *self.not_before.lock();
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(pause) if !pause.is_zero() => tokio::time::sleep(pause.mul_f64(1.0 + chance() / 4.0)).await,
                _ => return,
            }
        }
    }

    fn pause(&self, pause: Duration) {
        let mut not_before = self.not_before.lock();
        *not_before = (*not_before).max(Some(Instant::now() + pause));
    }

    /// A request that was given up, for those who read it. What has worked before is no mistake of the user's.
    pub(super) fn failure(&self, given_up: GivenUp, doing: &str) -> Failure {
        let answered = self.answered[given_up.operation as usize].load(Ordering::Relaxed);
        let Fault { cause, details, .. } = given_up.fault;
        let away = cause == Cause::Unreachable && keeps_asking();
        let kind = match cause.is_of_user() && !answered && !away {
            true => Kind::User,
            false => Kind::Transient,
        };
        Failure::new(kind, format!("{doing}: {}", self.told(&cause))).because(details)
    }

    fn told(&self, cause: &Cause) -> String {
        let Settings { bucket, authorities, credentials, .. } = &self.settings;
        let place = self.place();
        match cause {
            Cause::NotFound => "there is no such object".to_owned(),
            Cause::Condition => "the object has changed".to_owned(),
            Cause::Range => "the object is shorter".to_owned(),
            Cause::Bucket => format!("there is no bucket '{bucket}' at {place}: create it, or correct the name"),
            Cause::Credentials => {
                format!("there are no good credentials for {place} (they come from {})", credentials.origin())
            }
            Cause::Denied => format!(
                "the credentials may not do this in the bucket '{bucket}' at {place} (they come from {})",
                credentials.origin()
            ),
            Cause::Region => format!(
                "the bucket '{bucket}' is not in the region '{}' of {place}: set the right one",
                self.connected.region
            ),
            Cause::Unreachable => format!("nobody answers at {place}: check the address and the network"),
            Cause::Certificate => format!(
                "the certificate of {place} is not trusted: {}",
                match authorities {
                    Some(path) => format!("{} (AWS_CA_BUNDLE) has no authority that vouches for it", path.display()),
                    None => "name a file with its authority in AWS_CA_BUNDLE".to_owned(),
                }
            ),
            Cause::Clock => format!("the clocks of this machine and of {place} differ too much"),
            Cause::Unsupported => format!("{place} refuses the request"),
            Cause::Throttled(_) => format!("{place} has too much to do"),
            Cause::Conflict => "another write is under way".to_owned(),
            Cause::Trouble => format!("trouble with the bucket '{bucket}' at {place}"),
        }
    }

    /// The store's address.
    pub(super) fn place(&self) -> String {
        match &self.settings.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("AWS in {}", self.connected.region),
        }
    }
}

/// A number between 0 and 1.
fn chance() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX)
}
