//! A worker that follows a leader.

use super::begin::Begun;
use super::departure::{Departure, LEAVES};
use super::{Arguments, Shown, exchange, health, patience, show_store, store_of};
use crate::cli::exit::{self, Code, Refusal};
use crate::cli::job::Planned;
use crate::control::{AfterRefusal, Client, Outcome};
use crate::dataflow::graph::Graph;
use crate::exchange::Exchange;
use crate::job::agent::{Agent, Reports, Work};
use crate::job::board::Board;
use crate::job::directory::place::Held;
use crate::job::readiness::{Pulse, Readiness};
use crate::job::workers::BUILD;
use crate::job::{budget, settings};
use std::sync::Arc;
use weir_protocol::members::Registration;

/// Works as the leader says.
pub(super) fn follow(arguments: &Arguments, begun: Begun, departure: Departure) -> Result<Code, Refusal> {
    let Begun { planned, security, state, .. } = begun;
    let Some(leader) = arguments.leader.clone() else {
        return Err(Refusal::user(
            "error: a worker needs its leader: name the address where worker 0 takes registrations (--leader HOST:PORT)",
        ));
    };
    let (exchange, address) = exchange(arguments, security.clone(), &state.uid)?;
    let graph = Arc::new(Graph::of(&planned.plan));
    let board = Arc::new(Board::new(Arc::clone(&planned.plan), Arc::clone(&graph)));
    show_store(&state, &board);
    let readiness = Readiness::not_yet(format!("it has not found its leader at {leader}"));
    let pulse = Pulse::default();
    let shown = Shown {
        board: Arc::clone(&board),
        exchange: Arc::clone(&exchange),
        readiness: readiness.clone(),
        pulse: pulse.clone(),
    };
    let work = work(arguments, &planned, (&state, exchange), (graph, Arc::clone(&board)))?;
    let health = health(arguments, &security, shown)?;
    let (reports, received) = tokio::sync::mpsc::unbounded_channel();
    let agent = Agent::start(work, Reports::new(move |report| drop(reports.send(report))));
    let (commands, told) = (agent.commands(), readiness.clone());
    departure.by(move |_| {
        told.ends(LEAVES);
        commands.leave();
    });
    let client = Client {
        leader,
        security,
        registration: Registration {
            job: state.uid.clone(),
            ordinal: arguments.ordinal,
            build: BUILD.to_owned(),
            plan: settings::plan_of(&planned.plan, planned.job.allow_dropped_state).fingerprint,
            code: arguments.code(&planned),
            revision: arguments.revision,
            attempt: arguments.attempt,
            exchange: address,
        },
        after_refusal: if arguments.stays() { AfterRefusal::LookAgain } else { AfterRefusal::End },
        patience: patience(arguments),
        agent: agent.commands(),
        reports: received,
        board,
        readiness,
        pulse,
    };
    let outcome = client.run();
    drop(health);
    end(arguments, outcome.map_err(|failure| failure.within(format!("worker {}", arguments.ordinal)))?)
}

/// The last line, and the exit code.
fn end(arguments: &Arguments, outcome: Outcome) -> Result<Code, Refusal> {
    match outcome {
        Outcome::Left => {
            let text = format!("worker {}: its part of the job goes on elsewhere", arguments.ordinal);
            exit::say(&text, arguments.quiet);
            Ok(Code::HandedOver)
        }
        Outcome::Ended(how) => {
            exit::note(&how);
            if !arguments.quiet {
                exit::line(&format!("worker {}: {how}", arguments.ordinal));
            }
            Ok(Code::Done)
        }
        Outcome::Failed(why) => {
            let text = format!("error: worker {}: {why}", arguments.ordinal);
            // Beside its leader, whose process says the same.
            exit::say(&text, arguments.parent.is_some());
            Ok(Code::Failed)
        }
        Outcome::Replaced(why) => {
            Err(Refusal::new(Code::Fenced, format!("error: worker {}: {why}", arguments.ordinal)))
        }
        Outcome::Refused(why) => Err(Refusal::user(format!("error: worker {}: {why}", arguments.ordinal))),
    }
}

fn work(
    arguments: &Arguments,
    planned: &Planned,
    (state, exchange): (&Held, Arc<Exchange>),
    (graph, board): (Arc<Graph>, Arc<Board>),
) -> Result<Work, Refusal> {
    Ok(Work {
        worker: arguments.ordinal,
        plan: Arc::clone(&planned.plan),
        graph,
        store: store_of(arguments, state, &board)?,
        job_uid: state.uid.clone(),
        speed: arguments.speed,
        state_budget: arguments.state_budget.unwrap_or_else(budget::of_this_machine),
        board,
        exchange: Some(exchange),
    })
}
