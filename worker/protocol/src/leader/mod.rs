//! The leader: the one that decides for a job, as a state machine without I/O.
//!
//! ```text
//!  Begin ─▶ look ─▶ claim g ─▶ look ─▶ put start ─▶ look back ─▶ settle ─▶ deploy ─▶ run ─▶ stopping ─▶ End
//!            ▲ ▲     │ taken    ▲        │ taken       │            │ (maintain ─▶ End)     │
//!            │ └─────┘          └────────┘             │            ▼                       ▼
//!            │                                         │         commit what           barrier ─▶ acknowledgements
//!            └── wait ◀── cancel ◀── a task failed     │         the head left            ▲          │
//!                                                      ▼                               complete    put manifest
//!                              a higher generation: Fenced, touch nothing                 └ look back ◀┘
//! ```
//!
//! [`Leader::step`] takes one event and says what to do; [`Leader::deadline`] says when it wants a [`Event::Tick`]. The
//! list of all that a leader can do is [`Action`]. It owns no task: those are names in events and actions, so that the
//! same leader serves one process and many.
//!
//! Invariants: a link is put only behind the head of a complete listing; nothing is committed, aborted or deleted
//! without a [`Permit`], which only a look back makes; an answer to a request of the past changes nothing.

mod action;
mod assignment;
mod checkpoint;
mod claim;
mod commit;
mod event;
mod look;
mod look_back;
mod notice;
mod options;
mod recovery;
mod retention;
mod rules;
mod savepoint;
mod standing;
mod status;
mod store;

pub use action::{Action, BarrierKind, Request, Restore};
pub use event::{CommitResult, DeclineCause, ErrorKind, Event, OpId, Outcome, Then};
pub use look_back::Permit;
pub use notice::{Already, AssignmentAnswer, End, FailureCause, Notice};
pub use options::{CheckpointOptions, Direction, Guide, Mode, Operation, Options, Resume, Running, Stops};
#[doc(hidden)]
pub use rules::Rule;
pub use status::{Completed, Course, InProgress, Retained, State, Status, Switching};

use crate::chain::{Assignment, Committables, Link, Origin, Pin, Start, Stop};
use crate::ids::{CheckpointId, Generation, LinkNumber, Now, TaskId};
use crate::restart::Restart;
use look::{Look, Next, View};
use recovery::Failure;
use standing::Errand;
use std::collections::{BTreeMap, BTreeSet};
use store::{Answer, Purpose};

/// Waiting times before something is tried again, in milliseconds; the last one repeats.
const DELAYS_MS: [u64; 8] = [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000];

#[derive(Debug)]
enum Phase {
    Idle,
    Looking(Box<Look>),
    Awaiting { next: Next, until: Now },
    Claiming(Generation),
    Starting(Box<Start>),
    Settling,
    Deploying,
    Running,
    Stopping(Stop),
    Maintaining,
    Cancelling(recovery::Then),
    Waiting(Now),
    Ended,
}

/// The leader of a job. See the module's diagram.
#[derive(Debug)]
pub struct Leader {
    rules: rules::Rules,
    out: Vec<Action>,
    now: Now,
    options: Option<Box<Options>>,
    begun: Now,
    phase: Phase,
    ops: store::Ops,
    view: View,
    errand: Errand,
    /// Whether the job stood still before this leader.
    already: Already,
    resume: Resume,
    /// The own claim.
    generation: Option<Generation>,
    /// The revision it was claimed as.
    claimed: Option<u64>,
    /// When to look whether it has been replaced.
    watch_at: Option<Now>,
    /// The revision on whose terms it has begun last, or could not begin.
    tried: u64,
    /// The revision of the claim before it.
    claimed_over: u64,
    /// What the user was told that this leader waits for.
    awaited: Option<String>,
    own_start: Option<LinkNumber>,
    permit: Option<Permit>,
    looking_back: Option<look_back::LookBack>,
    restart: Option<Restart>,
    /// Checkpoints whose files are not usable.
    damaged: BTreeMap<LinkNumber, String>,

    tasks: BTreeSet<TaskId>,
    sources: BTreeSet<TaskId>,
    ended: BTreeSet<TaskId>,

    /// The state that the next manifest goes on from.
    base: Origin,
    /// The checkpoint of that state.
    restored: Option<CheckpointId>,
    next_checkpoint: CheckpointId,
    attempt: Option<checkpoint::Attempt>,
    last_trigger: Now,
    pause_until: Now,
    not_before: Now,
    delay_step: usize,
    failures_in_row: u32,

    /// What the newest own link lists as not confirmed.
    carried: Committables,
    /// What of it is not confirmed by now.
    unconfirmed: Committables,
    confirmed: BTreeSet<String>,
    commits: commit::Commits,

    savepoints: BTreeMap<String, Pin>,
    wishes: Vec<savepoint::Wish>,
    releases: BTreeSet<String>,
    stop_requested: bool,
    drain_requested: bool,
    assignments: assignment::Assignments,
    /// Savepoints of other jobs that are not given up yet, and the folders of those jobs.
    holds: BTreeMap<String, String>,
    status: status::Counts,
}

impl Default for Leader {
    fn default() -> Self {
        Self::new()
    }
}

impl Leader {
    /// A leader that waits for [`Event::Begin`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_rules(rules::Rules::default())
    }

    /// A leader that breaks one rule, for tests that prove that the rule is needed.
    #[doc(hidden)]
    #[must_use]
    pub fn without(rule: Rule) -> Self {
        Self::with_rules(rules::Rules::without(rule))
    }

    fn with_rules(rules: rules::Rules) -> Self {
        Self {
            rules,
            out: Vec::new(),
            now: Now::default(),
            options: None,
            begun: Now::default(),
            phase: Phase::Idle,
            ops: store::Ops::default(),
            view: View::default(),
            errand: Errand::Run,
            already: Already::Yes,
            resume: Resume::Head,
            generation: None,
            claimed: None,
            watch_at: None,
            tried: 0,
            claimed_over: 0,
            awaited: None,
            own_start: None,
            permit: None,
            looking_back: None,
            restart: None,
            damaged: BTreeMap::new(),
            tasks: BTreeSet::new(),
            sources: BTreeSet::new(),
            ended: BTreeSet::new(),
            base: Origin::Empty,
            restored: None,
            next_checkpoint: CheckpointId(1),
            attempt: None,
            last_trigger: Now::default(),
            pause_until: Now::default(),
            not_before: Now::default(),
            delay_step: 0,
            failures_in_row: 0,
            carried: Committables::new(),
            unconfirmed: Committables::new(),
            confirmed: BTreeSet::new(),
            commits: commit::Commits::default(),
            savepoints: BTreeMap::new(),
            wishes: Vec::new(),
            releases: BTreeSet::new(),
            stop_requested: false,
            drain_requested: false,
            assignments: assignment::Assignments::default(),
            holds: BTreeMap::new(),
            status: status::Counts::default(),
        }
    }

    /// Takes one event and returns what to do, in this order. Time never goes back; after [`Action::End`] nothing
    /// follows.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        if matches!(self.phase, Phase::Ended) {
            return Vec::new();
        }
        self.handle(event);
        self.advance();
        std::mem::take(&mut self.out)
    }

    /// When the leader wants a [`Event::Tick`] if nothing happens before; a moment in the past means at once.
    #[must_use]
    pub fn deadline(&self) -> Option<Now> {
        let phase = match &self.phase {
            Phase::Ended | Phase::Idle => return None,
            Phase::Waiting(at) | Phase::Awaiting { until: at, .. } => Some(*at),
            Phase::Looking(look) => look.deadline(),
            _ => None,
        };
        let prepared = self.assignments.switch.as_ref().and_then(assignment::Switch::deadline);
        let checkpoint = [self.next_trigger(), self.attempt_deadline()];
        let others = [phase, prepared, self.ops.deadline(), self.commits.deadline(), self.next_watch()];
        checkpoint.into_iter().chain(others).flatten().min()
    }

    /// What a status page shows.
    #[must_use]
    pub fn status(&self) -> Status {
        let in_progress = self.attempt.as_ref().map(|attempt| InProgress {
            checkpoint: attempt.id,
            begun: attempt.begun,
            acknowledged: attempt.snapshots.len(),
            tasks: self.tasks.len(),
        });
        let manifests = self.view.links.values().filter_map(|link| link.manifest());
        let retained = manifests.map(|manifest| Retained {
            link: manifest.number,
            checkpoint: manifest.checkpoint,
            completed_unix_ms: manifest.completed_unix_ms,
            sizes: manifest.sizes,
            savepoints: self.names_of(manifest.number),
        });
        Status {
            state: self.state(),
            generation: self.generation,
            course: self.course(),
            last: self.status.last,
            in_progress,
            completed: self.status.completed,
            failed: self.status.failed.clone(),
            restarts: self.status.restarts,
            retained: retained.collect(),
            unconfirmed: self.unconfirmed.values().map(BTreeMap::len).sum(),
            savepoints: self.known_savepoints().clone(),
            savepoints_pending: self.wishes.iter().map(|wish| wish.name.clone()).collect(),
        }
    }

    /// What is known to be assigned as this revision.
    #[must_use]
    pub fn assignment(&self, revision: u64) -> Option<&Assignment> {
        self.view.assignments.get(&revision)
    }

    /// The checkpoint that the job goes on from, or would.
    #[must_use]
    pub fn restored(&self) -> Option<CheckpointId> {
        self.restored
    }

    /// The revision on whose terms it has begun last, or could not begin; 0 for none.
    #[must_use]
    pub fn tried(&self) -> u64 {
        self.tried
    }

    /// The highest revision that is known to be assigned to the own code; `None` for none.
    #[must_use]
    pub fn assigned(&self) -> Option<u64> {
        let code = &self.options.as_ref()?.direction.code;
        let own = self.view.assignments.values().rev().find(|assignment| assignment.code == *code);
        own.map(|assignment| assignment.revision)
    }

    fn course(&self) -> Course {
        // Of a job that had ended before, what it was.
        let head = || self.view.links.values().next_back().filter(|_| matches!(self.phase, Phase::Ended));
        let start = self.own_start.and_then(|number| self.view.links.get(&number)).or_else(head);
        Course {
            terms: start.map(|link| link.terms().clone()).unwrap_or_default(),
            parallelism: start.map_or(0, Link::parallelism),
            assigned: self.highest_revision(),
            switching: self.assignments.switch.as_ref().map(assignment::Switch::status),
        }
    }

    fn names_of(&self, link: LinkNumber) -> Vec<String> {
        let pinned = self.known_savepoints().iter().filter(|(_, pin)| pin.link == link);
        pinned.map(|(name, _)| name.clone()).collect()
    }

    fn state(&self) -> State {
        match &self.phase {
            Phase::Idle => State::Idle,
            Phase::Looking(_) | Phase::Claiming(_) | Phase::Starting(_) => State::Starting,
            Phase::Awaiting { .. } => State::Awaiting,
            Phase::Settling => State::Settling,
            Phase::Deploying => State::Deploying,
            Phase::Running => State::Running,
            Phase::Stopping(_) => State::Stopping,
            Phase::Maintaining => State::Maintaining,
            Phase::Cancelling(_) => State::Cancelling,
            Phase::Waiting(_) => State::Waiting,
            Phase::Ended => State::Ended,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Begin(options) => self.begin(options),
            Event::Stored { op, outcome } => self.on_stored(op, outcome),
            Event::Deployed { generation, tasks, sources } => self.on_deployed(generation, tasks, sources),
            Event::DeployFailed { generation, kind, message } => {
                self.on_failure(generation, Failure { task: None, kind, message });
            }
            Event::Acked { generation, checkpoint, snapshot } => self.on_acked(generation, checkpoint, *snapshot),
            Event::Declined { generation, checkpoint, task, cause, message } => {
                self.on_declined((generation, checkpoint, task), cause, &message);
            }
            Event::WorkerLost { generation, message, .. } => {
                self.on_failure(generation, Failure { task: None, kind: ErrorKind::Transient, message });
            }
            Event::TaskFailed { generation, task, kind, message } => {
                self.on_failure(generation, Failure { task: Some(task), kind, message });
            }
            Event::SourceEnded { generation, task } => {
                // It may come before `Deployed`.
                if self.generation == Some(generation) {
                    self.ended.insert(task);
                }
            }
            Event::Cancelled { generation } => self.on_cancelled(generation),
            Event::Committed { results } => self.on_committed(results),
            Event::SavepointRequested { name, uid, then } => self.on_savepoint_requested(name, uid, then),
            Event::SavepointReleased { name } => self.on_savepoint_released(name),
            Event::SavepointWithdrawn { name, uid } => self.on_savepoint_withdrawn(name, uid),
            Event::StopRequested => self.on_stop_requested(),
            Event::AssignmentRequested { request, assignment } => self.on_assignment_requested(request, assignment),
            Event::WorkersReady { revision } => self.on_workers_ready(revision),
            Event::Prepared { revision } => self.on_prepared(revision),
            Event::DrainRequested => {
                self.drain_requested = matches!(self.phase, Phase::Deploying | Phase::Running);
            }
            Event::PinReleased { pin } => self.on_pin_released(&pin),
            Event::Tick => {}
        }
    }

    /// Does what has become due.
    fn advance(&mut self) {
        if self.options.is_none() {
            return;
        }
        self.look_again_if_due();
        self.look_for_its_turn_if_due();
        self.watch_if_due();
        self.restart_if_due();
        self.resend_due();
        self.time_out_if_due();
        self.commit_if_due();
        self.prepare_no_longer_if_due();
        self.trigger_if_due();
    }

    fn begin(&mut self, options: Box<Options>) {
        if self.options.is_some() {
            return;
        }
        self.begun = self.now;
        self.restart = Some(Restart::new(options.restart));
        if let Mode::Run { resume, .. } = &options.mode {
            self.resume = resume.clone();
        }
        self.options = Some(options);
        self.look(Next::Claim);
    }

    fn deliver(&mut self, purpose: Purpose, answer: Answer) {
        match purpose {
            Purpose::LookList(_)
            | Purpose::LookDeleted
            | Purpose::LookClaim(_)
            | Purpose::LookLink(_)
            | Purpose::LookAssignment(_) => {
                self.on_look(purpose, answer);
            }
            Purpose::Claim | Purpose::ClaimReadBack => self.on_claim(&purpose, answer),
            Purpose::Start | Purpose::StartReadBack => self.on_start(&purpose, answer),
            Purpose::LookBack(question) => self.on_looked_back(question, &answer),
            Purpose::Watch => self.on_watched(&answer),
            Purpose::Manifest | Purpose::ManifestReadBack => self.on_manifest(&purpose, answer),
            Purpose::Pointer(_) | Purpose::PointerReadBack(_) => self.on_pointer(purpose, answer),
            Purpose::StalePointer(_) | Purpose::PointerRelease(_) => self.on_pointer(purpose, answer),
            Purpose::RetiredLinks(_) | Purpose::RetiredFiles => self.on_retired(purpose),
            // That it is there already is as good.
            Purpose::Mark => self.after_aside(),
            Purpose::OrphanList => self.on_orphans(answer),
            Purpose::Assignment(_) | Purpose::AssignmentReadBack(_) => self.on_assignment(&purpose, answer),
        }
    }

    fn on_deployed(&mut self, generation: Generation, tasks: BTreeSet<TaskId>, sources: BTreeSet<TaskId>) {
        if self.generation != Some(generation) || !matches!(self.phase, Phase::Deploying) {
            return;
        }
        self.tasks = tasks;
        self.sources = sources;
        self.last_trigger = self.now;
        self.pause_until = self.now;
        self.not_before = self.now;
        self.phase = Phase::Running;
        self.follow_assignments();
    }

    fn act(&mut self, action: Action) {
        if !matches!(self.phase, Phase::Ended) {
            self.out.push(action);
        }
    }

    fn report(&mut self, notice: Notice) {
        self.act(Action::Report(notice));
    }

    fn finish(&mut self, end: End) {
        self.refuse_all_assignments();
        self.act(Action::End(end));
        self.ops.forget_all();
        self.attempt = None;
        self.looking_back = None;
        self.phase = Phase::Ended;
    }

    fn options(&self) -> &Options {
        self.options.as_ref().expect("everything follows the first event")
    }

    fn own_generation(&self) -> Generation {
        self.generation.expect("a generation is claimed before anything is done in it")
    }

    fn unix_ms(&self) -> u64 {
        self.options().unix_ms.saturating_add(self.now.ms_since(self.begun))
    }
}
