//! `weir explain`: how a job would run.

use super::exit::{Code, Refusal};
use super::job;
use crate::dataflow::explain::{self, Frame};
use std::path::PathBuf;

/// Show how a job would run.
///
/// Prints the chains of steps that run as one task, how rows find their task between chains, what each operator keeps as
/// state (its id is in brackets), watermarks, and whether rows are only added or change later.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  weir explain job.yaml
  weir explain job.yaml --dot | dot -Tsvg > job.svg")]
pub(super) struct Arguments {
    /// The manifest: a StreamJob in YAML; - reads standard input.
    file: String,
    /// Print a drawing for Graphviz.
    #[arg(long)]
    dot: bool,
    /// A folder of secrets, <DIR>/<name>/<key>; without it secrets come from environment variables NAME_KEY.
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
}

/// Prints the plan.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    let planned = job::plan(&arguments.file, arguments.secrets.as_deref())?;
    let frame = Frame {
        job: &planned.job.name,
        parallelism: planned.job.parallelism,
        max_parallelism: planned.job.max_parallelism,
    };
    let page = if arguments.dot { explain::dot(&planned.plan, &frame) } else { explain::text(&planned.plan, &frame) };
    print!("{page}");
    for warning in &planned.plan.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(Code::Done)
}
