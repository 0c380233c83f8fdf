//! The workers of a job: who is there, which tasks run where, and who has been lost.
//!
//! ```text
//!                registered      Deploy              all have deployed         Cancel             all have cancelled
//!  connection ─▶ (or refused) ─▶ wait for workers ─▶ deploying ─▶ running ─▶ cancelling ─▶ idle
//!                                                        └── a worker is lost: WorkerLost ──┘
//! ```
//!
//! [`Members`] stands between the leader, which knows tasks only by name, and the connections of workers. It answers
//! [`Event::Deploy`] and [`Event::Cancel`] with one event for the leader when all workers concerned have answered or are
//! lost. A worker that is lost is not waited for: it is fenced by the next generation, and it ends its tasks by itself when
//! it misses its leader. The worker in the leader's own process is never lost, for nobody would bring it back: a process
//! that stood still finds it silent, and alive.
//!
//! Invariants: at most one session per ordinal, and none takes the place of one that was started later; a message of a session that is not current changes nothing; every
//! `Cancel` is answered by one `Cancelled`, whatever happens to workers.

mod event;
mod placement;
mod rules;

pub use event::{Action, Event, Options, Process, Registration, Session};
pub use placement::Placement;
#[doc(hidden)]
pub use rules::Rule;

use crate::ids::{Generation, Now, TaskId};
use crate::leader;
use crate::rules::Rules;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The workers of a job. See the module's diagram.
#[derive(Debug)]
pub struct Members {
    rules: Rules<Rule>,
    options: Options,
    now: Now,
    sessions: BTreeMap<Session, Member>,
    /// The assignment that waits for this many workers.
    gathering: Option<(u64, u32)>,
    phase: Phase,
    out: Vec<Action>,
}

#[derive(Debug)]
struct Member {
    worker: Registration,
    process: Process,
    heard: Now,
    leaving: bool,
}

#[derive(Debug, Default)]
struct Deployed {
    tasks: BTreeSet<TaskId>,
    sources: BTreeSet<TaskId>,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Waiting {
        generation: Generation,
        parallelism: u32,
        workers: u32,
        since: Now,
        told: bool,
    },
    Deploying {
        generation: Generation,
        on: BTreeSet<Session>,
        waiting: BTreeSet<Session>,
        deployed: Deployed,
    },
    Running {
        generation: Generation,
        on: BTreeSet<Session>,
    },
    /// Overdue: the time was over once before.
    Cancelling {
        generation: Generation,
        waiting: BTreeSet<Session>,
        since: Now,
        overdue: bool,
    },
}

impl Members {
    /// No worker yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            rules: Rules::default(),
            options,
            now: Now::default(),
            sessions: BTreeMap::new(),
            gathering: None,
            phase: Phase::Idle,
            out: Vec::new(),
        }
    }

    /// Members that break one rule, for tests that prove that the rule is needed.
    #[doc(hidden)]
    #[must_use]
    pub fn without(rule: Rule, options: Options) -> Self {
        Self { rules: Rules::without(rule), ..Self::new(options) }
    }

    /// Takes one event and returns what to do, in this order. Time never goes back.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        self.handle(event);
        self.look_for_the_lost();
        self.give_up_cancelling();
        self.tell_of_waiting();
        std::mem::take(&mut self.out)
    }

    /// When it wants an [`Event::Tick`] if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Now> {
        let others = self.sessions.values().filter(|member| member.process == Process::Other);
        let lost = others.map(|member| member.heard.after_ms(self.options.lost_after_ms()));
        let phase = match &self.phase {
            Phase::Waiting { since, told: false, .. } => Some(since.after_ms(self.options.tell_after_ms)),
            Phase::Cancelling { since, .. } => Some(since.after_ms(self.options.cancel_timeout_ms)),
            _ => None,
        };
        lost.chain(phase).min()
    }

    /// True as long as messages of the session count.
    #[must_use]
    pub fn is_current(&self, session: Session) -> bool {
        self.sessions.contains_key(&session)
    }

    /// The ordinal of the worker behind a session.
    #[must_use]
    pub fn ordinal(&self, session: Session) -> Option<u32> {
        self.sessions.get(&session).map(|member| member.worker.ordinal)
    }

    /// What a worker has reported, with who it is and where others reach it.
    #[must_use]
    pub fn reported(&self, session: Session, message: &str) -> String {
        let Some(Member { worker, .. }) = self.sessions.get(&session) else { return message.to_owned() };
        format!("worker {} at {}: {message}", worker.ordinal, worker.exchange)
    }

    /// The workers that are there, by session.
    pub fn workers(&self) -> impl Iterator<Item = (Session, &Registration)> {
        self.sessions.iter().map(|(session, member)| (*session, &member.worker))
    }

    /// True when tasks of the generation are on this worker.
    #[must_use]
    pub fn has_tasks(&self, session: Session) -> bool {
        match &self.phase {
            Phase::Deploying { on, .. } | Phase::Running { on, .. } => on.contains(&session),
            Phase::Idle | Phase::Waiting { .. } | Phase::Cancelling { .. } => false,
        }
    }

    /// True while a generation waits for workers that are not there.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    fn handle(&mut self, event: Event) {
        if event.session().is_some_and(|session| !self.is_current(session)) {
            return;
        }
        match event {
            Event::Registered { session, worker, process } => self.register(session, worker, process),
            Event::Heard { session } => {
                if let Some(member) = self.sessions.get_mut(&session) {
                    member.heard = self.now;
                }
            }
            Event::Disconnected { session, message } => self.lose(session, &message),
            Event::Leaving { session } => {
                if let Some(member) = self.sessions.get_mut(&session) {
                    member.leaving = true;
                }
            }
            Event::Gather { revision, workers } => {
                self.gathering = Some((revision, workers));
                self.gather();
            }
            Event::Deploy { generation, parallelism, workers } => {
                self.phase = Phase::Waiting { generation, parallelism, workers, since: self.now, told: false };
                self.place();
            }
            Event::Deployed { session, generation, tasks, sources } => {
                self.on_deployed(session, generation, tasks, sources);
            }
            Event::DeployFailed { session, generation, kind, message } => {
                if self.takes_part(session, generation) {
                    self.tell(leader::Event::DeployFailed { generation, kind, message });
                }
            }
            Event::Cancel { generation } => self.cancel(generation),
            Event::Cancelled { session, generation } => self.on_cancelled(session, generation),
            Event::Tick => {}
        }
    }

    fn register(&mut self, session: Session, worker: Registration, process: Process) {
        if let Some(reason) = self.refusal(&worker).filter(|_| self.rules.hold(Rule::RefuseStrangers)) {
            return self.out.push(Action::Refuse { session, reason });
        }
        let same = |(_, member): &(&Session, &Member)| member.worker.ordinal == worker.ordinal;
        let place = |worker: &Registration| (worker.revision, worker.attempt);
        if let Some((before, member)) = self.sessions.iter().find(same) {
            if member.process == Process::Own {
                let reason = "the leader itself is this worker".to_owned();
                return self.out.push(Action::Replace { session, reason });
            }
            if place(&member.worker) > place(&worker) && self.rules.hold(Rule::NewerStays) {
                let (revision, attempt) = place(&member.worker);
                let reason = format!("a newer worker has its place, of revision {revision}, attempt {attempt}");
                return self.out.push(Action::Replace { session, reason });
            }
            let (before, message) = (*before, "another process registered in its place");
            self.out.push(Action::Replace { session: before, reason: message.to_owned() });
            self.lose(before, message);
        }
        self.sessions.insert(session, Member { worker, process, heard: self.now, leaving: false });
        self.out.push(Action::Welcome { session });
        self.place();
        self.gather();
    }

    fn refusal(&self, worker: &Registration) -> Option<String> {
        let own = &self.options;
        if worker.job != own.job {
            return Some(format!("this is the leader of job {}, the worker is one of job {}", own.job, worker.job));
        }
        if worker.build != own.build {
            return Some(format!(
                "the leader is built as {}, the worker as {}: all workers of a job need the same image",
                own.build, worker.build
            ));
        }
        if worker.plan != own.plan {
            return Some(format!(
                "the leader's plan has the fingerprint {}, the worker's {}: all workers of a job need the same SQL",
                own.plan, worker.plan
            ));
        }
        if worker.code != own.code {
            return Some(format!(
                "the leader runs the code {}, the worker {}: it waits for a leader of its own",
                own.code, worker.code
            ));
        }
        None
    }

    /// Starts the generation that waits, if all workers that it needs are there.
    fn place(&mut self) {
        let Phase::Waiting { generation, parallelism, workers, .. } = self.phase else { return };
        let found = self.first(workers);
        if found.len() < workers as usize {
            return;
        }
        let addresses = found.iter().map(|(ordinal, (_, worker))| (*ordinal, worker.exchange.clone())).collect();
        let placement = Arc::new(Placement::new(parallelism, addresses));
        let on: BTreeSet<Session> = found.values().map(|(session, _)| *session).collect();
        for session in &on {
            let placement = Arc::clone(&placement);
            self.out.push(Action::Deploy { session: *session, generation, placement });
        }
        self.phase = Phase::Deploying { generation, waiting: on.clone(), on, deployed: Deployed::default() };
    }

    /// The workers with ordinals below `workers` that may get tasks.
    fn first(&self, workers: u32) -> BTreeMap<u32, (Session, &Registration)> {
        let wanted = self.sessions.iter().filter(|(_, member)| member.worker.ordinal < workers && !member.leaving);
        wanted.map(|(session, member)| (member.worker.ordinal, (*session, &member.worker))).collect()
    }

    fn gather(&mut self) {
        if let Some((revision, workers)) = self.gathering
            && self.first(workers).len() == workers as usize
        {
            self.gathering = None;
            self.tell(leader::Event::WorkersReady { revision });
        }
    }

    fn takes_part(&self, session: Session, generation: Generation) -> bool {
        match &self.phase {
            Phase::Deploying { generation: own, on, .. } | Phase::Running { generation: own, on } => {
                *own == generation && on.contains(&session)
            }
            _ => false,
        }
    }

    fn on_deployed(
        &mut self,
        session: Session,
        generation: Generation,
        tasks: BTreeSet<TaskId>,
        sources: BTreeSet<TaskId>,
    ) {
        let Phase::Deploying { generation: own, on, waiting, deployed } = &mut self.phase else { return };
        if *own != generation || !waiting.remove(&session) {
            return;
        }
        deployed.tasks.extend(tasks);
        deployed.sources.extend(sources);
        if waiting.is_empty() {
            let Deployed { tasks, sources } = std::mem::take(deployed);
            let on = std::mem::take(on);
            self.phase = Phase::Running { generation, on };
            self.tell(leader::Event::Deployed { generation, tasks, sources });
        }
    }

    fn cancel(&mut self, generation: Generation) {
        let on = match &mut self.phase {
            Phase::Deploying { generation: own, on, .. } | Phase::Running { generation: own, on }
                if *own == generation =>
            {
                std::mem::take(on)
            }
            Phase::Cancelling { generation: own, .. } if *own == generation => return,
            _ => BTreeSet::new(),
        };
        let waiting: BTreeSet<Session> = on.into_iter().filter(|session| self.is_current(*session)).collect();
        self.out.extend(waiting.iter().map(|session| Action::Cancel { session: *session, generation }));
        self.phase = Phase::Cancelling { generation, waiting, since: self.now, overdue: false };
        self.end_cancelling();
    }

    fn on_cancelled(&mut self, session: Session, generation: Generation) {
        if let Phase::Cancelling { generation: own, waiting, .. } = &mut self.phase
            && *own == generation
        {
            waiting.remove(&session);
            self.end_cancelling();
        }
    }

    fn end_cancelling(&mut self) {
        if let Phase::Cancelling { generation, waiting, .. } = &self.phase
            && waiting.is_empty()
        {
            let generation = *generation;
            self.phase = Phase::Idle;
            self.tell(leader::Event::Cancelled { generation });
        }
    }

    fn lose(&mut self, session: Session, message: &str) {
        let Some(member) = self.sessions.remove(&session) else { return };
        let worker = member.worker.ordinal;
        let message = format!("worker {worker} is lost: {message}");
        match &mut self.phase {
            Phase::Deploying { generation, on, .. } | Phase::Running { generation, on } if on.contains(&session) => {
                let generation = *generation;
                self.tell(leader::Event::WorkerLost { generation, worker, message });
            }
            Phase::Cancelling { waiting, .. } => {
                waiting.remove(&session);
                self.end_cancelling();
            }
            _ => {}
        }
    }

    fn look_for_the_lost(&mut self) {
        let after = self.options.lost_after_ms();
        let silent = |member: &Member| member.process == Process::Other && self.now.ms_since(member.heard) >= after;
        let lost: Vec<Session> = self.sessions.iter().filter(|(_, member)| silent(member)).map(|(id, _)| *id).collect();
        for session in lost {
            let message = format!("nothing was heard of it for {after} ms");
            self.out.push(Action::Close { session, reason: message.clone() });
            self.lose(session, &message);
        }
    }

    /// A worker that answers heartbeats but does not end its tasks is given up like one that is gone. Its own worker the
    /// leader cannot do without: it gives up with it, after the same time once more.
    fn give_up_cancelling(&mut self) {
        let timeout = self.options.cancel_timeout_ms;
        let Phase::Cancelling { waiting, since, overdue, .. } = &mut self.phase else { return };
        if self.now.ms_since(*since) < timeout {
            return;
        }
        let is_own =
            |session: &Session| self.sessions.get(session).is_some_and(|member| member.process == Process::Own);
        let (own, others): (BTreeSet<Session>, BTreeSet<Session>) = waiting.iter().copied().partition(is_own);
        if *overdue && !own.is_empty() {
            let reason = format!("tasks in the leader's own process did not end within twice {timeout} ms");
            self.out.push(Action::GiveUp { reason });
        }
        (*since, *overdue) = (self.now, true);
        for session in others {
            let message = format!("its tasks did not end within {timeout} ms");
            self.out.push(Action::Close { session, reason: message.clone() });
            self.lose(session, &message);
        }
    }

    fn tell_of_waiting(&mut self) {
        let present: BTreeSet<u32> = self.sessions.values().map(|member| member.worker.ordinal).collect();
        let Phase::Waiting { workers, since, told, .. } = &mut self.phase else { return };
        if *told || self.now.ms_since(*since) < self.options.tell_after_ms {
            return;
        }
        *told = true;
        let missing = (0..*workers).filter(|ordinal| !present.contains(ordinal)).collect();
        self.out.push(Action::TellWaiting { missing });
    }

    fn tell(&mut self, event: leader::Event) {
        self.out.push(Action::Tell(event));
    }
}
