//! The command line.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to its user")]

mod bench;
mod check;
pub mod exit;
mod explain;
mod fit;
mod found;
mod job;
mod progress;
mod restore;
mod run;
mod savepoint;
mod state;
mod table;
mod time;
mod upkeep;
mod worker;

use crate::checkpoint::store::s3::AWAY;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Stateful stream processing: SQL in a StreamJob manifest, every row counted exactly once.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true, after_long_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Worker(Box<worker::Arguments>),
    Check(check::Arguments),
    Explain(explain::Arguments),
    Savepoint(savepoint::Arguments),
    State(state::Arguments),
    Bench(bench::Arguments),
    /// Print a completion script for a shell.
    ///
    /// For bash: `weir completion bash > /etc/bash_completion.d/weir`.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

const EXIT_CODES: &str = "Exit codes:
  0    the job has finished, or the command has done its work
  1    the job failed, after the restarts that spec.restart allows
  2    a mistake in the manifest, its SQL, the options or the state directory: change something, then try again
  3    the job was stopped (Ctrl-C, SIGTERM); the next run goes on where it was
  4    another process has taken the job over
  5    the worker was asked to end (SIGTERM) and has handed its part of the job over
  6    tasks did not end when they were told to: start it again, it goes on from the last checkpoint
  130  the second Ctrl-C ended the job at once; the next run goes on from the last checkpoint";

/// Runs the command that the process's arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    let given = match worker::with_config(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(given) => given,
        Err(refusal) => return refused(&refusal),
    };
    let arguments = match Arguments::try_parse_from(given) {
        Ok(arguments) => arguments,
        Err(error) => {
            if error.use_stderr() {
                exit::note(&error.to_string());
            }
            error.exit()
        }
    };
    let log =
        tracing_subscriber::EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| format!("error,{AWAY}=warn").into());
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    let outcome = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Worker(arguments) => worker::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Savepoint(arguments) => savepoint::run(&arguments),
        Command::State(arguments) => state::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Completion { shell } => {
            let mut command = <Arguments as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "weir", &mut std::io::stdout());
            Ok(exit::Code::Done)
        }
    };
    match outcome {
        Ok(code) => code.into(),
        Err(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &exit::Refusal) -> ExitCode {
    refusal.tell();
    refusal.code.into()
}
