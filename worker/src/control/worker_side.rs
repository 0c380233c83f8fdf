//! A worker's connection to its leader: it performs what [`Follower`] decides.

use super::Patience;
use super::frame::{self, Ended, FromLeader, FromWorker};
use crate::failure::{Failure, Result};
use crate::job::agent::Commands;
use crate::job::agent::message::{Command, Report};
use crate::job::board::Board;
use crate::job::readiness::{Pulse, Readiness};
use crate::tls::{Security, Stream};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use weir_protocol::Now;
use weir_protocol::follower::{self, Connection, Follower, Options, Word};
use weir_protocol::members::Registration;
use weir_protocol::retry::Pace;

pub use weir_protocol::follower::{AfterRefusal, Outcome};

/// A leader that takes a connection and does not say welcome after this long is none.
const WELCOME: Duration = Duration::from_secs(10);

/// An address may take this long to look up and to reach.
const CONNECT: Duration = Duration::from_secs(60);

/// Between two attempts to reach the leader.
const PACE: Pace = Pace { initial_ms: 50, max_ms: 1_000, multiplier: 1.5, jitter: 0.2 };

/// Frames that wait for a leader that does not read them; reports wait with their tasks.
const WAITING: usize = 16;

type Event = follower::Event<Command, Report>;
type Action = follower::Action<Command, Report>;

/// A worker that looks for its leader, serves it, and looks for it again.
pub struct Client {
    /// The leader, as `HOST:PORT`.
    pub leader: String,
    /// How the connection is secured.
    pub security: Security,
    /// Who the worker is.
    pub registration: Registration,
    /// How patient it is.
    pub patience: Patience,
    /// Carries out what the leader says.
    pub agent: Commands,
    /// What the agent says. Few at a time: a task says one thing and waits for what follows from it.
    pub reports: mpsc::UnboundedReceiver<Report>,
    /// The numbers of the worker's tasks.
    pub board: Arc<Board>,
    /// Told whether there is a leader.
    pub readiness: Readiness,
    /// Beats as long as the worker listens to its leader, or looks for it.
    pub pulse: Pulse,
    /// What to do when the leader does not want this worker.
    pub after_refusal: AfterRefusal,
}

/// What is to be said next.
enum Saying {
    Register,
    /// That it lives, with the numbers of its tasks.
    Beat,
    Report(Report),
}

/// A connection, or the attempt to make one. It ends when it is dropped.
struct Line {
    sayings: mpsc::Sender<Saying>,
    task: JoinSet<()>,
}

impl Client {
    /// Works until the job ends. Fails when the worker can never work.
    pub fn run(self) -> Result<Outcome> {
        let failed = |error| Failure::transient("the control connection could not be set up").because(error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let outcome = runtime.block_on(Performer::new(self).run());
        // An address may still be looked up, for as long as the system takes.
        runtime.shutdown_background();
        outcome
    }
}

struct Performer {
    client: Client,
    follower: Follower<Command, Report>,
    began: Instant,
    line: Option<Line>,
    /// What happens to connections.
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    /// The trouble that the user has heard of last.
    told: String,
}

impl Performer {
    fn new(client: Client) -> Self {
        // A leader that says more than is done of it waits.
        let (sender, events) = mpsc::channel(1);
        let follower = Follower::new(Options {
            heartbeat_ms: ms(client.patience.heartbeat),
            lost_after_ms: ms(client.patience.lost_after()),
            connect_ms: ms(CONNECT),
            welcome_ms: ms(WELCOME),
            pace: PACE,
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
            after_refusal: client.after_refusal,
        });
        Self { client, follower, began: Instant::now(), line: None, events, sender, told: String::new() }
    }

    async fn run(mut self) -> Result<Outcome> {
        loop {
            let event = self.next().await;
            self.client.pulse.beat();
            let event = event.ok_or_else(|| Failure::bug("the thread that runs the worker's tasks has ended"))?;
            if let Some(outcome) = self.take(event).await {
                self.say_the_last().await;
                return Ok(outcome);
            }
        }
    }

    /// What happens next; `None` when nothing can come of the tasks any more.
    async fn next(&mut self) -> Option<Event> {
        let wait = self.follower.deadline().map(|at| Duration::from_millis(at.ms_since(self.now())));
        let (line, reports) = (&self.line, &mut self.client.reports);
        // A report stays where it is until it can be said, or until nobody is there to whom to say it.
        let report = async {
            if let Some(line) = line {
                let _ = line.sayings.reserve().await;
            }
            reports.recv().await
        };
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => Some(event),
            () = sleep(wait.unwrap_or(Duration::MAX)) => Some(Event::Tick),
            report = report => report.map(of_tasks),
        }
    }

    async fn take(&mut self, event: Event) -> Option<Outcome> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.follower.step(self.now(), event) {
                match action {
                    Action::Dial(connection) => self.line = Some(self.dial(connection)),
                    Action::HangUp(_) => self.hang_up().await,
                    Action::Register(connection) => events.extend(self.say(connection, Saying::Register)),
                    Action::Say(connection, report) => events.extend(self.say(connection, Saying::Report(report))),
                    // One that cannot be said because others wait says no more than they do.
                    Action::Beat(_) => drop(self.line.as_ref().map(|line| line.sayings.try_send(Saying::Beat))),
                    Action::Perform(command) => self.client.agent.send(command),
                    Action::EndTasks => events.extend(self.end_tasks()),
                    Action::TellRegistered => {
                        tracing::info!(leader = self.client.leader, "registered");
                        self.client.readiness.begins();
                    }
                    Action::TellAway { message } => self.tell_away(message),
                    Action::End(outcome) => return Some(outcome),
                }
            }
        }
        None
    }

    fn now(&self) -> Now {
        Now(ms(self.began.elapsed()))
    }

    fn dial(&self, connection: Connection) -> Line {
        let (sayings, said) = mpsc::channel(WAITING);
        let (leader, security) = (self.client.leader.clone(), self.client.security.clone());
        let who = Who { registration: self.client.registration.clone(), board: Arc::clone(&self.client.board) };
        let events = self.sender.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            if let Err(failure) = hold((&leader, &security), (connection, &events), said, &who).await {
                // A worker that has ended needs not know.
                let _ = events.send(Event::Lost { connection, message: failure.chain() }).await;
            }
        });
        Line { sayings, task }
    }

    /// The other side sees it before tasks are waited for.
    async fn hang_up(&mut self) {
        if let Some(Line { mut task, .. }) = self.line.take() {
            task.shutdown().await;
        }
    }

    /// What cannot be said breaks the connection: it may not be passed over. One that is broken says so itself.
    fn say(&self, connection: Connection, saying: Saying) -> Option<Event> {
        let full = matches!(self.line.as_ref()?.sayings.try_send(saying), Err(TrySendError::Full(_)));
        let message = "the leader does not read what it is told".to_owned();
        full.then_some(Event::Lost { connection, message })
    }

    /// None of the worker's tasks may run when it registers again, and nothing of what they said counts then.
    fn end_tasks(&mut self) -> Vec<Event> {
        self.client.agent.abandon();
        let mut events = Vec::new();
        while let Ok(report) = self.client.reports.try_recv() {
            events.push(of_tasks(report));
        }
        events.push(Event::TasksEnded);
        events
    }

    fn tell_away(&mut self, message: String) {
        self.client.readiness.ends(format!("its leader at {} is away: {message}", self.client.leader));
        if message != self.told {
            tracing::warn!(leader = self.client.leader, error = message, "the leader is away");
            self.told = message;
        }
    }

    async fn say_the_last(&mut self) {
        let Some(Line { sayings, mut task }) = self.line.take() else { return };
        self.events.close();
        drop(sayings);
        let _ = timeout(self.client.patience.lost_after(), task.join_next()).await;
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn of_tasks(report: Report) -> Event {
    match report {
        Report::Left => Event::Left(report),
        report => Event::Report(report),
    }
}

fn word(frame: FromLeader) -> Word<Command> {
    match frame {
        FromLeader::Welcome => Word::Welcome,
        FromLeader::Heartbeat => Word::Heartbeat,
        FromLeader::Refused(reason) => Word::Refused(reason),
        FromLeader::Replaced(reason) => Word::Replaced(reason),
        FromLeader::Closed(reason) => Word::Closed(reason),
        FromLeader::Command(command) => Word::Command(command.concern(), command),
        FromLeader::Ended(Ended::Done(how)) => Word::Done(how),
        FromLeader::Ended(Ended::Failed(why)) => Word::Failed(why),
    }
}

/// What a worker says of itself.
struct Who {
    registration: Registration,
    board: Arc<Board>,
}

/// Makes a connection and keeps it until it breaks, or until nothing is left to say over it.
async fn hold(
    (leader, security): (&str, &Security),
    (connection, events): (Connection, &mpsc::Sender<Event>),
    sayings: mpsc::Receiver<Saying>,
    who: &Who,
) -> Result<()> {
    let stream = connect(leader, security).await?;
    let _ = events.send(Event::Connected(connection)).await;
    let (reader, writer) = tokio::io::split(stream);
    // Neither waits for the other.
    tokio::select! {
        failure = hear(BufReader::new(reader), connection, events) => Err(failure),
        said = say(BufWriter::new(writer), sayings, who) => said,
    }
}

async fn connect(leader: &str, security: &Security) -> Result<Stream> {
    let unknown =
        |error| Failure::transient(format!("the leader's address '{leader}' could not be looked up")).because(error);
    let address = tokio::net::lookup_host(leader).await.map_err(unknown)?.next();
    let address = address.ok_or_else(|| Failure::transient(format!("'{leader}' has no address")))?;
    // A Service may lead to a pod that is gone for a while; what is looked up next leads elsewhere.
    security.connect_anew(address).await
}

async fn hear(
    mut reader: BufReader<ReadHalf<Stream>>,
    connection: Connection,
    events: &mpsc::Sender<Event>,
) -> Failure {
    loop {
        match frame::read::<FromLeader>(&mut reader).await {
            Ok(Some(frame)) => {
                let _ = events.send(Event::Heard { connection, word: word(frame) }).await;
            }
            Ok(None) => return Failure::transient("the leader closed the connection"),
            Err(failure) => return failure,
        }
    }
}

async fn say(mut writer: BufWriter<WriteHalf<Stream>>, mut sayings: mpsc::Receiver<Saying>, who: &Who) -> Result<()> {
    while let Some(saying) = sayings.recv().await {
        // A checkpoint is acknowledged with the numbers of that moment: the last one has the last numbers.
        if matches!(saying, Saying::Beat | Saying::Report(Report::Acked { .. })) {
            frame::write(&mut writer, &FromWorker::Heartbeat(who.board.readings_here())).await?;
        }
        match saying {
            Saying::Register => frame::write(&mut writer, &FromWorker::Register(who.registration.clone())).await?,
            Saying::Report(report) => frame::write(&mut writer, &FromWorker::Report(report)).await?,
            Saying::Beat => {}
        }
        writer.flush().await.map_err(|error| Failure::transient("the connection was lost").because(error))?;
    }
    Ok(())
}
