//! What is counted about a job as a whole, where its leader is.

use super::doubling;
use crate::api::{checkpoints, job};
use crate::job::board::Board;
use crate::numbers::{Family, Numbers};
use std::sync::Arc;
use weir_protocol::chain::Sizes;

/// Shows the numbers of a job's checkpoints, generations and late rows.
pub struct JobNumbers(pub Arc<Board>);

impl Numbers for JobNumbers {
    fn families(&self) -> Vec<Family> {
        let mut families = vec![late_rows(&self.0)];
        families.extend(durations(&self.0));
        families.extend(of_checkpoints(&self.0));
        families.extend(of_generations(&self.0));
        families
    }
}

fn late_rows(board: &Board) -> Family {
    let chains = &board.graph.chains;
    let late = board.late_rows().into_iter().filter_map(|(chain, rows)| {
        let name = chains.get(chain as usize)?.name(&board.plan);
        Some((vec![("chain", chain.to_string()), ("name", name)], rows as f64))
    });
    let help = "Rows that came too late for their windows, by chain; goes on with the job's state.";
    Family::counter("weir_task_late_rows_total", help).with_all(late)
}

fn durations(board: &Board) -> [Family; 2] {
    let costs = &board.costs;
    let help = "Seconds from a checkpoint's trigger to its completion.";
    let whole = Family::histogram("weir_checkpoint_duration_seconds", help);
    let whole = whole.with_histogram(Vec::new(), doubling(&costs.duration.read(), 10));
    let help = "Seconds that the parts of a task's snapshot took; align is from its first barrier to its last.";
    let parts = [("align", &costs.align), ("sync", &costs.sync), ("upload", &costs.upload)];
    let parts =
        parts.into_iter().fold(Family::histogram("weir_checkpoint_part_seconds", help), |family, (part, cost)| {
            family.with_histogram(vec![("part", part.to_owned())], doubling(&cost.read(), 7))
        });
    [whole, parts]
}

fn of_checkpoints(board: &Board) -> [Family; 4] {
    let status = board.status().map(|(status, _)| status);
    let sizes = status.as_ref().and_then(|status| status.last).map(|last| last.sizes);
    let size =
        |name, help, bytes: fn(Sizes) -> u64| Family::gauge(name, help).of(sizes.map(|sizes| bytes(sizes) as f64));
    let labels = |outcome: &str, cause: &str| vec![("outcome", outcome.to_owned()), ("cause", cause.to_owned())];
    let completed = status.as_ref().map_or(0, |status| status.completed);
    let failed = status.iter().flat_map(|status| &status.failed);
    let failed = failed.map(|(cause, count)| (labels("failed", checkpoints::cause_name(*cause)), *count as f64));
    [
        size("weir_checkpoint_size_bytes", "Bytes of all files that the last checkpoint needs.", |sizes| {
            sizes.total_bytes
        }),
        size("weir_checkpoint_written_bytes", "Bytes that the last checkpoint wrote.", |sizes| sizes.written_bytes),
        size(
            "weir_checkpoint_in_flight_bytes",
            "Bytes of rows in flight that the last checkpoint has overtaken and keeps.",
            |sizes| sizes.in_flight_bytes,
        ),
        Family::counter("weir_checkpoints_total", "Checkpoints, by outcome and by cause of failure.")
            .with(labels("completed", ""), completed as f64)
            .with_all(failed),
    ]
}

fn of_generations(board: &Board) -> [Family; 2] {
    let restarts = board.restarts().into_iter();
    let restarts = restarts.map(|(cause, count)| (vec![("cause", job::kind_name(cause).to_owned())], count as f64));
    let help = "Generations that were started again after a failure, by its kind.";
    let generation = board.generation().map(|generation| generation.0 as f64);
    [
        Family::counter("weir_restarts_total", help).with_all(restarts),
        Family::gauge("weir_generation", "The running generation.").of(generation),
    ]
}
