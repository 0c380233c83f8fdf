//! The leader's side of a job: performs what the leader decides, and tells it what happens.
//!
//! Workers are reached by [`Link`]s; one of them may be in this process. What they say comes in as [`Message`]s, like the
//! answers of the threads beside.

mod deploying;
mod perform;
mod staying;

use crate::checkpoint::store::Store;
use crate::connector::CommitterContext;
use crate::dataflow::graph::Graph;
use crate::failure::Failure;
use crate::job::agent::message::Report;
use crate::job::agent::{Agent, Reports, Work};
use crate::job::beside::{self, Commit, Side, error_kind};
use crate::job::board::Board;
use crate::job::directory::foreign::Foreign;
use crate::job::message::{Handle, Link, Message, ToWorker};
use crate::job::readiness::Pulse;
use crate::job::split_service::{self, SplitWork};
use crate::job::workers::{AfterEnd, BUILD, Here, Workers, members_options};
use crate::plan::{NodeKind, Plan};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use weir_protocol::chain::Start;
use weir_protocol::leader::{Action, End, Event, Leader, OpId, Options, Request, Restore};
use weir_protocol::members::{self, Members, Registration, Session};
use weir_protocol::{Generation, Now, OperatorId};

/// What a job is run with.
pub struct Job {
    /// Its dataflow.
    pub plan: Arc<Plan>,
    /// What the leader is told.
    pub options: Options,
    /// Where its checkpoints are.
    pub store: Arc<dyn Store>,
    /// Unique for the job across all clusters.
    pub uid: String,
    /// The workers it runs on.
    pub workers: Workers,
}

/// How often the status page is looked after.
const HOUSEKEEPING: Duration = Duration::from_millis(100);

/// Something that happened to one of the two that decide.
enum Happened {
    Leader(Event),
    Members(members::Event),
}

/// A generation that waits for its splits and workers.
struct Pending {
    generation: Generation,
    start: Start,
    restore: Option<Restore>,
}

/// A job about to run.
pub struct Runner {
    job: Job,
    graph: Arc<Graph>,
    leader: Leader,
    members: Members,
    began: Instant,
    messages: mpsc::Receiver<Message>,
    handle: Handle,
    links: BTreeMap<Session, Link>,
    /// The worker in this process.
    local: Option<(Session, Agent)>,
    store: Side<(OpId, Request)>,
    commits: Side<Commit>,
    splits: Side<SplitWork>,
    /// Gives savepoints of other jobs up, once there is one.
    releases: Option<Side<(String, String)>>,
    pending: Option<Pending>,
    /// What to remove once the restored checkpoint is known: the first generation whose files stay, and committables.
    leftovers: Option<(Generation, BTreeSet<String>)>,
    /// Writers' states of the restored checkpoint, which may name files of earlier generations.
    writers: BTreeMap<OperatorId, Vec<serde_json::Value>>,
    /// The place of the state that the job begins with, until its first checkpoint has all of that.
    foreign: Option<Foreign>,
    board: Arc<Board>,
    housekeeping_due: Instant,
    pulse: Pulse,
    /// Workers of the assignment that is being prepared.
    gathered: u32,
    /// The assignment whose state is being brought near, and who is at it.
    preparing: Option<(u64, BTreeSet<Session>)>,
    /// This process is about to end: the next generation is another leader's.
    leaving: bool,
    /// The job is to stop.
    stopping: bool,
    /// How the job ended, while this leader waits for another assignment.
    ended: Option<End>,
    /// A generation has begun here: what the job is to begin with is used.
    started: bool,
    answers: staying::Answers,
}

impl Runner {
    /// Prepares a run. It has no worker yet.
    #[must_use]
    pub fn new(job: Job) -> Self {
        let (sender, messages) = mpsc::channel();
        let committers = job.plan.nodes.iter().filter_map(|node| match (&node.kind, &node.id) {
            (NodeKind::Sink(sink), Some(id)) => {
                Some((id.clone(), sink.sink.committer(CommitterContext { job_uid: job.uid.clone() })?))
            }
            _ => None,
        });
        let commits = beside::committers(committers.collect(), Arc::clone(&job.store), sender.clone());
        let graph = Arc::new(Graph::of(&job.plan));
        Self {
            leader: Leader::new(),
            members: Members::new(members_options(&job)),
            began: Instant::now(),
            messages,
            links: BTreeMap::new(),
            local: None,
            store: beside::store(Arc::clone(&job.store), sender.clone()),
            commits,
            splits: split_service::start(Arc::clone(&job.plan), Arc::clone(&graph), sender.clone()),
            handle: Handle::new(sender),
            releases: None,
            pending: None,
            leftovers: None,
            writers: BTreeMap::new(),
            gathered: 0,
            preparing: None,
            leaving: false,
            stopping: false,
            ended: None,
            started: false,
            answers: staying::Answers::default(),
            foreign: None,
            board: Arc::new(Board::new(Arc::clone(&job.plan), Arc::clone(&graph))),
            housekeeping_due: Instant::now(),
            pulse: Pulse::default(),
            graph,
            job,
        }
    }

    /// Steers the job while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What is known of the job while it runs.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Beats as long as the job is led.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Lets this process be a worker of the job.
    pub fn work_here(&mut self, here: Here) {
        let session = self.handle.session();
        let work = Work {
            worker: here.ordinal,
            plan: Arc::clone(&self.job.plan),
            graph: Arc::clone(&self.graph),
            store: here.store.unwrap_or_else(|| Arc::clone(&self.job.store)),
            job_uid: self.job.uid.clone(),
            speed: here.speed,
            state_budget: here.state_budget,
            board: self.board(),
            exchange: here.exchange.clone(),
        };
        let handle = self.handle();
        let agent = Agent::start(
            work,
            Reports::new(move |report| {
                let _ = handle.tell(Message::Report(session, report));
            }),
        );
        let commands = agent.commands();
        let link = Link::new(move |message| {
            if let ToWorker::Command(command) = message {
                commands.send(command);
            }
        });
        let registration = Registration {
            job: self.job.uid.clone(),
            ordinal: here.ordinal,
            build: BUILD.to_owned(),
            plan: self.job.options.plan.fingerprint.clone(),
            code: self.job.options.direction.code.clone(),
            revision: self.job.options.claimant.revision,
            attempt: self.job.options.claimant.attempt,
            exchange: here.address,
        };
        let _ = self.handle.tell(Message::Registered(session, registration, link));
        self.local = Some((session, agent));
    }

    /// Runs the job to its end.
    pub fn run(mut self) -> End {
        let begin = Event::Begin(Box::new(self.job.options.clone()));
        let mut end = self.step(Happened::Leader(begin));
        let end = loop {
            if let Some(end) = end.take().and_then(|end| self.stay_after(end)) {
                break end;
            }
            let wait = self.wait();
            end = match self.messages.recv_timeout(wait) {
                Ok(message) => self.message(message),
                Err(_) => self.tick(),
            };
            self.housekeeping(&mut end);
        };
        self.local = None;
        // Of a leader that hands over, that another one has replaced, that must begin again, or that others look after,
        // workers look for the next one.
        let replaced = matches!(end, End::HandedOver { .. } | End::Fenced { .. } | End::GivenUp { .. });
        if !replaced && self.job.workers.after_end == AfterEnd::Leave {
            self.links.values().for_each(|link| link.send(ToWorker::End(end.clone())));
        }
        self.board.update(&self.leader.status(), self.now());
        end
    }

    fn now(&self) -> Now {
        Now(self.began.elapsed().as_millis() as u64)
    }

    fn wait(&self) -> Duration {
        let due = [self.leader.deadline(), self.members.deadline()].into_iter().flatten().min();
        due.map_or(HOUSEKEEPING, |due| Duration::from_millis(due.ms_since(self.now())).min(HOUSEKEEPING))
    }

    fn tick(&mut self) -> Option<End> {
        let now = self.now();
        let due = |deadline: Option<Now>| deadline.is_some_and(|due| due <= now);
        let (leader, members) = (due(self.leader.deadline()), due(self.members.deadline()));
        let end = if members { self.step(Happened::Members(members::Event::Tick)) } else { None };
        if leader { end.or_else(|| self.step(Happened::Leader(Event::Tick))) } else { end }
    }

    fn housekeeping(&mut self, end: &mut Option<End>) {
        let now = Instant::now();
        if now < self.housekeeping_due {
            return;
        }
        self.housekeeping_due = now + HOUSEKEEPING;
        self.pulse.beat();
        self.board.update(&self.leader.status(), self.now());
        self.board.registered(self.members.workers().count());
        if end.is_none() {
            *end = self.tick();
        }
        if end.is_none() {
            *end = if self.leaving { self.left() } else { self.stop_waiting() };
        }
    }

    fn message(&mut self, message: Message) -> Option<End> {
        match message {
            Message::Leader(event) if self.answers_one_before(&event) => None,
            Message::Leader(event) if self.ended.is_some() => self.asked_after_the_end(event),
            Message::Leader(event) => {
                self.stopping |= matches!(event, Event::StopRequested);
                self.step(Happened::Leader(event)).or_else(|| self.stop_waiting())
            }
            Message::Leave => self.leave(),
            Message::Registered(session, worker, link) => {
                self.links.insert(session, link);
                let is_own = self.local.as_ref().is_some_and(|(own, _)| *own == session);
                let process = if is_own { members::Process::Own } else { members::Process::Other };
                self.step(Happened::Members(members::Event::Registered { session, worker, process }))
            }
            Message::Disconnected(session, message) => {
                self.links.remove(&session);
                self.board.worker_lost(session);
                self.step(Happened::Members(members::Event::Disconnected { session, message }))
            }
            Message::Heartbeat(session, readings) => {
                if self.members.is_current(session) {
                    self.board.worker(session, readings);
                }
                self.step(Happened::Members(members::Event::Heard { session }))
            }
            Message::Report(session, report) if self.members.is_current(session) => self.report_of(session, report),
            Message::Splits(session, command) => {
                self.command(session, command);
                None
            }
            Message::SplitsReady(generation, made) => self.splits_ready(generation, made),
            Message::SplitsFailed(generation, failure) => {
                self.step(Happened::Leader(deploy_failed(generation, &failure)))
            }
            // Of a worker that was given up.
            Message::Report(..) => None,
        }
    }

    fn report_of(&mut self, session: Session, report: Report) -> Option<End> {
        let happened = match report {
            Report::Deployed { generation, tasks, sources } => {
                Happened::Members(members::Event::Deployed { session, generation, tasks, sources })
            }
            Report::DeployFailed { generation, kind, message } => {
                Happened::Members(members::Event::DeployFailed { session, generation, kind, message })
            }
            Report::Cancelled { generation } => Happened::Members(members::Event::Cancelled { session, generation }),
            Report::Acked { generation, checkpoint, snapshot } => {
                self.board.cost(generation, checkpoint, snapshot.task, snapshot.cost);
                Happened::Leader(Event::Acked { generation, checkpoint, snapshot })
            }
            Report::Declined { generation, checkpoint, task, cause, message } => {
                Happened::Leader(Event::Declined { generation, checkpoint, task, cause, message })
            }
            Report::TaskFailed { generation, task, kind, message } => {
                Happened::Leader(Event::TaskFailed { generation, task, kind, message })
            }
            Report::PeerLost { generation, worker, message } => {
                let worker = worker.or_else(|| self.members.ordinal(session)).unwrap_or_default();
                let message = self.members.reported(session, &message);
                Happened::Leader(Event::WorkerLost { generation, worker, message })
            }
            Report::Prepared { revision } => {
                let event = self.prepared(revision, session)?;
                return self.step(Happened::Leader(event));
            }
            Report::Leaving => {
                // One without tasks has nothing to hand over.
                let drains = self.members.has_tasks(session);
                let end = self.step(Happened::Members(members::Event::Leaving { session }));
                let drain = || self.step(Happened::Leader(Event::DrainRequested));
                return if drains { end.or_else(drain) } else { end };
            }
            // Its connection ends by itself.
            Report::Left => return None,
            Report::SourceEnded { generation, task } => Happened::Leader(Event::SourceEnded { generation, task }),
            Report::AskSplits { generation, node, subtask } => {
                self.splits.send(SplitWork::Ask { session, generation, node, subtask });
                return None;
            }
        };
        self.step(happened)
    }

    fn step(&mut self, happened: Happened) -> Option<End> {
        let mut queue = VecDeque::from([happened]);
        while let Some(happened) = queue.pop_front() {
            let now = self.now();
            match happened {
                Happened::Leader(event) => {
                    for action in self.leader.step(now, event) {
                        match action {
                            Action::End(end) => return Some(end),
                            Action::Deploy { start, .. } if self.leaving => {
                                return Some(End::HandedOver { revision: start.terms.revision });
                            }
                            action => queue.extend(self.perform(action)),
                        }
                    }
                }
                Happened::Members(event) => {
                    for action in self.members.step(now, event) {
                        if let members::Action::GiveUp { reason: message } = action {
                            // Nothing but the end of the process ends its tasks: nobody waits for them.
                            std::mem::forget(self.local.take());
                            return Some(End::GivenUp { message });
                        }
                        queue.extend(self.perform_for_members(action).map(Happened::Leader));
                    }
                }
            }
        }
        None
    }
}

fn deploy_failed(generation: Generation, failure: &Failure) -> Event {
    Event::DeployFailed { generation, kind: error_kind(failure.kind), message: failure.chain() }
}
