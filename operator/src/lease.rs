//! Which replica acts: the one that holds a Lease of `coordination.k8s.io`.
//!
//! [`Election`] decides, [`Candidate`] performs. What keeps two holders apart:
//!
//! - A Lease is written only over the `resourceVersion` that was read, so of two writers one is refused.
//! - Nobody compares clocks. A rival waits for [`Terms::duration`] from the moment *it* saw the record change; the holder
//!   gives up [`Terms::give_up_after`] from the moment it *sent* its last successful write, which is earlier and shorter.
//! - A holder that cannot renew ends the process, and with it every write that is under way. What a frozen process still
//!   sends when it wakes is refused by name, uid or `resourceVersion` (see [`crate::apply`]).
//!
//! On SIGTERM the Lease is given back, so that the next holder need not wait.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// How long a Lease lasts. `give_up_after` is well below `duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A rival takes the Lease over when it saw no renewal for this long.
    pub duration: Duration,
    /// The holder ends when it could not renew for this long.
    pub give_up_after: Duration,
    /// Time between two renewals, and between two looks of a rival.
    pub interval: Duration,
}

impl Default for Terms {
    /// After a crash another replica acts within duration + interval: 14 seconds. An API server that is overloaded answers
    /// late: to end because of that would load it more.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(12),
            give_up_after: Duration::from_secs(10),
            interval: Duration::from_secs(2),
        }
    }
}

/// What this process may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The Lease was not read yet.
    Unknown,
    /// Another replica acts.
    Waiting,
    /// This replica acts.
    Holding,
}

/// Why an election ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The Lease was given back, or never held.
    Released,
    /// The Lease could not be renewed, or another replica has it: the process must end at once.
    Lost(String),
}

/// What a Lease says, as far as rivals care: it changes with every renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty when nobody does.
    pub holder: String,
    /// When the holder says that it renewed: compared, never read as a time.
    pub renewed: Option<Timestamp>,
    /// How often the holder changed.
    pub transitions: i32,
}

/// What to do about the Lease now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Write this record over what was read.
    Write(Record),
    /// Another replica has it.
    Wait,
}

/// The decisions of one candidate; times are since an arbitrary moment of its own clock.
#[derive(Debug)]
pub struct Election {
    identity: String,
    terms: Terms,
    seen: Option<(Record, Duration)>,
    held_since: Option<Duration>,
}

impl Election {
    /// A candidate that holds nothing. `identity` differs between any two processes.
    #[must_use]
    pub fn new(identity: impl Into<String>, terms: Terms) -> Self {
        Self { identity: identity.into(), terms, seen: None, held_since: None }
    }

    /// What to do, given the Lease as it was just read; none: there is none. `wall` is what a new record says.
    pub fn turn(&mut self, now: Duration, read: Option<&Record>, wall: Timestamp) -> Turn {
        let Some(read) = read else { return Turn::Write(self.record(wall, 0)) };
        if self.seen.as_ref().is_none_or(|(seen, _)| seen != read) {
            self.seen = Some((read.clone(), now));
        }
        let since = self.seen.as_ref().map_or(now, |(_, since)| *since);
        if read.holder == self.identity {
            return Turn::Write(self.record(wall, read.transitions));
        }
        self.held_since = None;
        let expired = now.saturating_sub(since) >= self.terms.duration;
        if read.holder.is_empty() || expired {
            return Turn::Write(self.record(wall, read.transitions.saturating_add(1)));
        }
        Turn::Wait
    }

    /// A write that was sent at `sent` was accepted.
    pub fn wrote(&mut self, sent: Duration) {
        self.held_since = Some(sent);
    }

    /// Until when this process may act; none: it may not.
    #[must_use]
    pub fn until(&self) -> Option<Duration> {
        self.held_since.map(|since| since + self.terms.give_up_after)
    }

    fn record(&self, wall: Timestamp, transitions: i32) -> Record {
        Record { holder: self.identity.clone(), renewed: Some(wall), transitions }
    }
}

/// One replica of the controller, as a candidate for the Lease.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    terms: Terms,
    identity: String,
    election: Election,
    began: Instant,
}

impl Candidate {
    /// A candidate for the Lease `name` in `namespace`. `identity` differs between any two processes.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, terms: Terms) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            terms,
            identity: identity.to_owned(),
            election: Election::new(identity, terms),
            began: Instant::now(),
        }
    }

    /// Takes the Lease when it can be had and keeps it, until `release` is sent or dropped, or the Lease is lost.
    /// `standing` is told what this process may do.
    pub async fn run(mut self, standing: watch::Sender<Standing>, mut release: oneshot::Receiver<()>) -> End {
        loop {
            let before = *standing.borrow();
            match self.attempt().await {
                Ok(Standing::Waiting) if before == Standing::Holding => {
                    return End::Lost("another replica has taken the lease over".to_owned());
                }
                Ok(Standing::Unknown) => {}
                Ok(now) => set(&standing, now),
                Err(error) => {
                    tracing::warn!(error = %error, lease = self.name, "the lease could not be read or written");
                }
            }
            if self.election.until().is_some_and(|until| self.began.elapsed() >= until) {
                return End::Lost(format!("the lease was not renewed for {:?}", self.terms.give_up_after));
            }
            tokio::select! {
                biased;
                _ = &mut release => break,
                () = tokio::time::sleep(self.pause()) => {}
            }
        }
        if *standing.borrow() == Standing::Holding {
            self.release().await;
        }
        End::Released
    }

    /// One look at the Lease and, if it is due, one write. Unknown: somebody else wrote meanwhile, the next look says who.
    async fn attempt(&mut self) -> kube::Result<Standing> {
        let limit = self.limit();
        let read = within(limit, self.api.get_opt(&self.name)).await?;
        let record = read.as_ref().map(record);
        let sent = self.began.elapsed();
        let Turn::Write(next) = self.election.turn(sent, record.as_ref(), Timestamp::now()) else {
            return Ok(Standing::Waiting);
        };
        let lease = self.lease(read, &next);
        let written = match lease.metadata.resource_version {
            Some(_) => within(limit, self.api.replace(&self.name, &PostParams::default(), &lease)).await,
            None => within(limit, self.api.create(&PostParams::default(), &lease)).await,
        };
        match written {
            Ok(_) => {
                self.election.wrote(sent);
                Ok(Standing::Holding)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Standing::Unknown),
            Err(error) => Err(error),
        }
    }

    /// Until the next look: sooner when the time to act ends before.
    fn pause(&self) -> Duration {
        self.remaining().map_or(self.terms.interval, |left| left.min(self.terms.interval))
    }

    /// No request outlives the time to act.
    fn limit(&self) -> Duration {
        let limit = self.terms.give_up_after / 2;
        self.remaining().map_or(limit, |left| left.min(limit)).max(Duration::from_millis(1))
    }

    fn remaining(&self) -> Option<Duration> {
        self.election.until().map(|until| until.saturating_sub(self.began.elapsed()))
    }

    fn lease(&self, read: Option<Lease>, record: &Record) -> Lease {
        let mut lease = read.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        let renewed = record.renewed.map(MicroTime);
        if spec.holder_identity.as_ref() != Some(&record.holder) {
            spec.acquire_time.clone_from(&renewed);
        }
        spec.holder_identity = Some(record.holder.clone());
        spec.lease_duration_seconds = Some(i32::try_from(self.terms.duration.as_secs()).unwrap_or(i32::MAX));
        spec.lease_transitions = Some(record.transitions);
        spec.renew_time = renewed;
        lease
    }

    /// Gives the Lease back; if that fails, it runs out by itself.
    async fn release(&self) {
        let limit = self.limit();
        let released = async {
            let Some(mut lease) = within(limit, self.api.get_opt(&self.name)).await? else { return Ok(()) };
            if record(&lease).holder != self.identity {
                return Ok(());
            }
            if let Some(spec) = lease.spec.as_mut() {
                spec.holder_identity = Some(String::new());
            }
            within(limit, self.api.replace(&self.name, &PostParams::default(), &lease)).await.map(drop)
        };
        match released.await {
            Ok(()) => tracing::info!(lease = self.name, "the lease was given back"),
            Err(error) => tracing::warn!(error = %error, lease = self.name, "the lease could not be given back"),
        }
    }
}

fn set(standing: &watch::Sender<Standing>, to: Standing) {
    let changed = standing.send_if_modified(|now| {
        let changed = *now != to;
        *now = to;
        changed
    });
    if changed {
        tracing::info!(standing = ?to, "the standing of this replica changed");
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

async fn within<T>(limit: Duration, request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time that can be told")
    }

    /// A Lease, and candidates whose clocks differ: `began` and `skew` are seconds of each.
    struct Field {
        lease: Option<Record>,
        candidates: Vec<(Election, u64, i64)>,
    }

    impl Field {
        fn of(clocks: &[(u64, i64)]) -> Self {
            let candidates = clocks.iter().enumerate();
            let candidates = candidates
                .map(|(n, (began, skew))| (Election::new(format!("replica-{n}"), Terms::default()), *began, *skew));
            Self { lease: None, candidates: candidates.collect() }
        }

        /// A candidate looks and writes at a true time; whether it holds the Lease then.
        fn acts(&mut self, candidate: usize, now: u64) -> bool {
            let (election, began, skew) = &mut self.candidates[candidate];
            let own = at(now + *began);
            match election.turn(own, self.lease.as_ref(), wall(now as i64 + *skew)) {
                Turn::Write(record) => {
                    self.lease = Some(record);
                    election.wrote(own);
                    true
                }
                Turn::Wait => false,
            }
        }

        /// Who may act at a true time.
        fn holders(&self, now: u64) -> Vec<usize> {
            let holds =
                |(election, began, _): &(Election, u64, i64)| election.until().is_some_and(|u| at(now + began) < u);
            (0..self.candidates.len()).filter(|n| holds(&self.candidates[*n])).collect()
        }
    }

    #[test]
    fn a_rival_waits_while_the_holder_renews() {
        let mut field = Field::of(&[(0, 0), (1_000, 0)]);
        assert!(field.acts(0, 0));
        for now in (2..60).step_by(2) {
            assert!(field.acts(0, now));
            assert!(!field.acts(1, now + 1));
            assert_eq!(field.holders(now + 1), [0]);
        }
    }

    #[test]
    fn a_lost_holder_gives_up_before_a_rival_takes_over() {
        // The rival looks at every moment it likes; the holder renewed last at 10.
        for offset in 0..4 {
            let mut field = Field::of(&[(0, 0), (5, 0)]);
            field.acts(0, 0);
            field.acts(1, offset);
            field.acts(0, 10);
            let takeover = (10 + offset..100).step_by(2).find(|now| field.acts(1, *now)).expect("somebody takes over");
            assert!(takeover >= 22, "took over at {takeover}");
            assert!(takeover <= 10 + 2 + 14, "took over as late as {takeover}");
            assert_eq!(field.holders(takeover), [1], "the old holder gave up at 18");
        }
    }

    #[test]
    fn clocks_that_are_hours_apart_change_nothing() {
        for skew in [-7_200, -13, 13, 7_200] {
            let mut field = Field::of(&[(0, 0), (99, skew)]);
            field.acts(0, 0);
            for now in (1..40).step_by(2) {
                assert!(!field.acts(1, now), "skew {skew}: taken over from a holder that renews");
                assert!(field.acts(0, now + 1));
            }
        }
    }

    #[test]
    fn a_lease_that_was_given_back_is_taken_at_once() {
        let mut field = Field::of(&[(0, 0), (0, 0)]);
        field.acts(0, 0);
        field.lease = field.lease.map(|lease| Record { holder: String::new(), ..lease });
        assert!(field.acts(1, 1));
        assert_eq!(field.lease.map(|lease| lease.transitions), Some(1));
    }

    #[test]
    fn a_holder_that_was_overtaken_may_not_act() {
        let mut field = Field::of(&[(0, 0), (0, 0)]);
        field.acts(0, 0);
        field.acts(1, 1);
        assert!((3..=13).step_by(2).any(|now| field.acts(1, now)), "the rival takes over after 12 seconds");
        assert!(!field.acts(0, 14));
        assert_eq!(field.holders(14), [1]);
    }
}
