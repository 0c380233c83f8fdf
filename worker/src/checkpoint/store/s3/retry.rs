//! Attempts: each with a time limit, the next after a growing pause, and all that is known of them at the end.
//!
//! A store that has answered before and now does not is away. What the attempts of a request then come to is up to who
//! asks: to give up, or to go on until it is back.

use super::client::Connected;
use super::fault::{Cause, Effect, Fault};
use super::meter::{Direction, Ended, Meter, Operation};
use super::settings::{Limits, Settings, keeps_asking};
use crate::failure::{Failure, Kind};
use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use weir_protocol::retry::{Backoff, Pace};

/// What is logged under this name is seen unless somebody chooses otherwise: the job stands still, and this says why.
pub const AWAY: &str = "weir_worker::away";
/// Half of a pause is left to chance, so that many who failed together do not come back together.
const PACE: Pace = Pace { initial_ms: 100, max_ms: 5_000, multiplier: 2.0, jitter: 0.5 };
/// Time that an attempt has for each MiB that it moves.
const PER_MIB: Duration = Duration::from_secs(2);

/// How long a request is tried while the store is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as the limits allow for any other trouble.
    Limited,
    /// Until the store is back. All else has its limits.
    Endless,
}

/// Requests to a bucket.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) settings: Settings,
    pub(super) connected: Connected,
    pub(super) meter: Arc<Meter>,
    patience: Patience,
    shared: Arc<Shared>,
}

/// What all requests to a bucket share, however patient they are.
struct Shared {
    permits: Semaphore,
    /// The store wants nothing before.
    not_before: Mutex<Option<Instant>>,
    /// By kind of request: one was answered, so what the user says about the bucket is right for it.
    answered: [AtomicBool; Operation::ALL.len()],
    away: Mutex<Away>,
}

/// Since when the store does not read, or write.
#[derive(Debug, Default)]
struct Away {
    read: Option<Instant>,
    write: Option<Instant>,
}

/// The attempts of a request that count together against the limits.
struct Row {
    began: Instant,
    attempts: u32,
    backoff: Backoff,
    /// They have come to their limits, and the store is away.
    missed: bool,
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
    pub(super) fn new(settings: Settings, connected: Connected, meter: Arc<Meter>) -> Self {
        let shared = Shared {
            permits: Semaphore::new(settings.limits.concurrency.max(1)),
            not_before: Mutex::new(None),
            answered: Default::default(),
            away: Mutex::default(),
        };
        Self { settings, connected, meter, patience: Patience::Limited, shared: Arc::new(shared) }
    }

    /// The same, for one who is so patient.
    pub(super) fn with(&self, patience: Patience) -> Self {
        Self { patience, ..self.clone() }
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
        let mut row = Row::begin();
        let mut effect = Effect::None;
        loop {
            let fault = match self.once(operation, bytes, request()).await {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            if fault.effect == Effect::Unknown {
                effect = Effect::Unknown;
            }
            let away = self.is_away(&fault.cause);
            if row.missed && !away {
                // It is back, with something else to say.
                row = Row::begin();
            }
            let pause = Duration::from_millis(row.backoff.next_ms(chance()));
            row.attempts += 1;
            let is_over = row.is_over(self.settings.limits, pause);
            if is_over && away && !row.missed {
                row.missed = true;
                self.missed(operation, &fault, row.attempts);
            }
            let goes_on = !is_over || (away && self.patience == Patience::Endless);
            if !fault.cause.may_pass() || !goes_on {
                return Err(GivenUp { operation, fault, effect });
            }
            self.meter.retried(operation);
            tokio::time::sleep(pause).await;
        }
    }

    async fn once<T>(
        &self,
        operation: Operation,
        bytes: usize,
        request: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let _permit = self.shared.permits.acquire().await.expect("the semaphore is never closed");
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
                self.shared.answered[operation as usize].store(true, Ordering::Relaxed);
                self.answers(operation);
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
            let until = *self.shared.not_before.lock();
            match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(pause) if !pause.is_zero() => tokio::time::sleep(pause.mul_f64(1.0 + chance() / 4.0)).await,
                _ => return,
            }
        }
    }

    fn pause(&self, pause: Duration) {
        let mut not_before = self.shared.not_before.lock();
        *not_before = (*not_before).max(Some(Instant::now() + pause));
    }

    /// A request that was given up, for those who read it. What has worked before is no mistake of the user's.
    pub(super) fn failure(&self, given_up: GivenUp, doing: &str) -> Failure {
        let answered = self.shared.answered[given_up.operation as usize].load(Ordering::Relaxed);
        let Fault { cause, details, .. } = given_up.fault;
        let away = self.is_away(&cause);
        let kind = match cause.is_of_user() && !answered && !away {
            true => Kind::User,
            false => Kind::Transient,
        };
        let mut failure = Failure::new(kind, format!("{doing}: {}", self.told(&cause))).because(details);
        failure.away = away;
        failure
    }

    /// Whether the store is only away: its address is known to be right, and what it does or does not do passes.
    fn is_away(&self, cause: &Cause) -> bool {
        let has_answered = || self.shared.answered.iter().any(|answered| answered.load(Ordering::Relaxed));
        cause.is_absence() && (keeps_asking() || has_answered())
    }

    /// Says once that the store is away.
    fn missed(&self, operation: Operation, fault: &Fault, attempts: u32) {
        let mut away = self.shared.away.lock();
        let is_known = away.read.is_some() || away.write.is_some();
        away.since(operation).get_or_insert_with(Instant::now);
        drop(away);
        if !is_known {
            let (bucket, request) = (&self.settings.bucket, operation.name());
            let why = format!("{}: {}", self.told(&fault.cause), fault.details);
            tracing::warn!(target: AWAY, bucket, request, attempts, why, "the store is away; what needs it waits");
        }
    }

    /// Says once that the store is back.
    fn answers(&self, operation: Operation) {
        let mut away = self.shared.away.lock();
        let since = away.since(operation).take();
        let is_back = away.read.is_none() && away.write.is_none();
        drop(away);
        if let Some(since) = since.filter(|_| is_back) {
            let (bucket, seconds) = (&self.settings.bucket, since.elapsed().as_secs());
            tracing::warn!(target: AWAY, bucket, seconds, "the store is back; what waited for it goes on");
        }
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

impl Away {
    fn since(&mut self, operation: Operation) -> &mut Option<Instant> {
        match operation.direction() {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

impl Row {
    fn begin() -> Self {
        Self { began: Instant::now(), attempts: 0, backoff: Backoff::new(PACE), missed: false }
    }

    fn is_over(&self, limits: Limits, pause: Duration) -> bool {
        self.attempts >= limits.attempts || self.began.elapsed() + pause > limits.patience
    }
}

/// A number between 0 and 1.
fn chance() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX)
}
