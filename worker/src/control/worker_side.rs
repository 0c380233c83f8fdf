//! A worker's connection to its leader: kept for ever, made again whenever it breaks.

use super::Patience;
use super::frame::{self, Ended, FromLeader, FromWorker};
use crate::failure::{Failure, Result};
use crate::job::agent::Commands;
use crate::job::agent::message::Report;
use crate::job::board::Board;
use crate::job::readiness::{Pulse, Readiness};
use crate::tls::{Security, Stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use weir_protocol::members::Registration;
use weir_protocol::retry::{Backoff, Pace};

/// A leader that takes a connection and does not say welcome after this long is none.
const WELCOME: Duration = Duration::from_secs(10);

/// Between two attempts to reach the leader.
const PACE: Pace = Pace { initial_ms: 50, max_ms: 1_000, multiplier: 1.5, jitter: 0.2 };

/// What a worker does that its leader does not want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRefusal {
    /// It ends.
    End,
    /// It looks for a leader that wants it: another one may be about to take over.
    LookAgain,
}

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

/// How a worker's work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The job has ended.
    Ended(String),
    /// The job cannot go on.
    Failed(String),
    /// The leader does not want this worker.
    Refused(String),
    /// Another worker has its place.
    Replaced(String),
    /// The worker was asked to end, and its tasks go on elsewhere.
    Left,
}

impl Client {
    /// Works until the job ends.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return Outcome::Failed(format!("the control connection could not be set up: {error}")),
        };
        let mut backoff = Backoff::new(PACE);
        let mut told = String::new();
        loop {
            self.pulse.beat();
            let failure = match runtime.block_on(self.serve(&mut backoff)) {
                Ok(Outcome::Refused(reason)) if self.after_refusal == AfterRefusal::LookAgain => {
                    Failure::transient(format!("it does not take this worker: {reason}"))
                }
                Ok(outcome) => return outcome,
                Err(failure) => failure,
            };
            // None of the worker's tasks may run when it registers again.
            self.agent.abandon();
            while let Ok(report) = self.reports.try_recv() {
                if report == Report::Left {
                    return Outcome::Left;
                }
            }
            let message = failure.chain();
            self.readiness.ends(format!("its leader at {} is away: {message}", self.leader));
            if message != told {
                tracing::warn!(leader = self.leader, error = message, "the leader is away");
                told = message;
            }
            let draw = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 256.0;
            let wait = Duration::from_millis(backoff.next_ms(draw));
            runtime.block_on(async { sleep(wait).await });
        }
    }

    async fn serve(&mut self, backoff: &mut Backoff) -> Result<Outcome> {
        let stream = self.connect().await?;
        let (reader, writer) = tokio::io::split(stream);
        let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
        send(&mut writer, &FromWorker::Register(self.registration.clone())).await?;
        match timeout(WELCOME, first(&mut reader)).await {
            Ok(Ok(FromLeader::Welcome)) => {}
            Ok(Ok(FromLeader::Refused(reason))) => return Ok(Outcome::Refused(reason)),
            Ok(Ok(FromLeader::Replaced(reason))) => return Ok(Outcome::Replaced(reason)),
            Ok(Ok(_)) => return Err(Failure::transient("the leader did not say welcome")),
            Ok(Err(failure)) => return Err(failure),
            Err(_) => return Err(Failure::transient("the leader did not say welcome in time")),
        }
        backoff.reset();
        tracing::info!(leader = self.leader, "registered");
        self.readiness.begins();
        self.work(reader, writer).await
    }

    async fn connect(&self) -> Result<Stream> {
        let unknown = |error| {
            Failure::transient(format!("the leader's address '{}' could not be looked up", self.leader)).because(error)
        };
        let address = tokio::net::lookup_host(&self.leader).await.map_err(unknown)?.next();
        let address = address.ok_or_else(|| Failure::transient(format!("'{}' has no address", self.leader)))?;
        // A Service may lead to a pod that is gone for a while; what is looked up next leads elsewhere.
        self.security.connect_anew(address).await
    }

    /// Two ways, neither of which waits for the other.
    async fn work(
        &mut self,
        reader: BufReader<ReadHalf<Stream>>,
        writer: BufWriter<WriteHalf<Stream>>,
    ) -> Result<Outcome> {
        let (agent, patience) = (self.agent.clone(), self.patience);
        tokio::select! {
            outcome = obey(reader, agent, patience) => outcome,
            outcome = report(writer, &mut self.reports, (&self.board, &self.pulse), patience) => outcome,
        }
    }
}

async fn first(reader: &mut BufReader<ReadHalf<Stream>>) -> Result<FromLeader> {
    loop {
        match frame::read(reader).await? {
            None => return Err(Failure::transient("the leader closed the connection")),
            Some(FromLeader::Heartbeat) => {}
            Some(frame) => return Ok(frame),
        }
    }
}

async fn send(writer: &mut BufWriter<WriteHalf<Stream>>, frame: &FromWorker) -> Result<()> {
    frame::write(writer, frame).await?;
    writer.flush().await.map_err(|error| Failure::transient("the connection was lost").because(error))
}

/// Does what the leader says. A silent leader is lost: the bytes of a frame count as silence until it is whole, which
/// takes as long as it takes to receive it.
async fn obey(mut reader: BufReader<ReadHalf<Stream>>, agent: Commands, patience: Patience) -> Result<Outcome> {
    let (sender, mut frames) = mpsc::channel(1);
    let reading = async move {
        loop {
            let frame = frame::read::<FromLeader>(&mut reader).await;
            let last = !matches!(frame, Ok(Some(_)));
            if sender.send(frame).await.is_err() || last {
                return std::future::pending::<()>().await;
            }
        }
    };
    let obeying = async move {
        let mut lost = Instant::now() + patience.lost_after();
        loop {
            let frame = tokio::select! {
                frame = frames.recv() => frame,
                () = sleep_until(lost) => {
                    let ms = patience.lost_after().as_millis();
                    return Err(Failure::transient(format!("nothing was heard of the leader for {ms} ms")));
                }
            };
            lost = Instant::now() + patience.lost_after();
            match frame {
                Some(Ok(Some(FromLeader::Command(command)))) => agent.send(command),
                Some(Ok(Some(FromLeader::Heartbeat | FromLeader::Welcome))) => {}
                Some(Ok(Some(FromLeader::Refused(reason)))) => return Ok(Outcome::Refused(reason)),
                Some(Ok(Some(FromLeader::Replaced(reason)))) => return Ok(Outcome::Replaced(reason)),
                Some(Ok(Some(FromLeader::Closed(reason)))) => {
                    return Err(Failure::transient(format!("the leader gave this worker up: {reason}")));
                }
                Some(Ok(Some(FromLeader::Ended(Ended::Done(how))))) => return Ok(Outcome::Ended(how)),
                Some(Ok(Some(FromLeader::Ended(Ended::Failed(why))))) => return Ok(Outcome::Failed(why)),
                Some(Ok(None)) | None => return Err(Failure::transient("the leader closed the connection")),
                Some(Err(failure)) => return Err(failure),
            }
        }
    };
    tokio::select! {
        () = reading => Err(Failure::transient("the connection was lost")),
        outcome = obeying => outcome,
    }
}

/// Says what the agent reports, and with every heartbeat the numbers of the tasks.
async fn report(
    mut writer: BufWriter<WriteHalf<Stream>>,
    reports: &mut mpsc::UnboundedReceiver<Report>,
    (board, pulse): (&Board, &Pulse),
    patience: Patience,
) -> Result<Outcome> {
    let mut ticks = interval(patience.heartbeat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pulse.beat();
        let report = tokio::select! {
            report = reports.recv() => match report {
                Some(report) => Some(report),
                None => return Err(Failure::bug("the agent has ended before its connection")),
            },
            _ = ticks.tick() => None,
        };
        // A checkpoint is acknowledged with the numbers of that moment: the last one has the last numbers.
        if matches!(report, None | Some(Report::Acked { .. })) {
            send(&mut writer, &FromWorker::Heartbeat(board.readings_here())).await?;
        }
        let Some(report) = report else { continue };
        let left = report == Report::Left;
        send(&mut writer, &FromWorker::Report(report)).await?;
        if left {
            return Ok(Outcome::Left);
        }
    }
}
