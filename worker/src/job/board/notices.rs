//! What the leader reports: what the board keeps of it, and its words for the user.

use super::{CheckpointOutcome, LastFailure, State};
use weir_protocol::leader::{AssignmentAnswer, Notice};

impl State {
    /// Keeps what a notice says; answers it as text where a user should read it.
    pub(super) fn note(&mut self, notice: &Notice) -> Option<String> {
        match notice {
            Notice::Started { generation, restored: Some(checkpoint) } => {
                Some(format!("generation {generation} goes on from checkpoint {checkpoint}"))
            }
            Notice::Started { .. } => None,
            Notice::CheckpointCompleted { checkpoint, link, duration_ms } => {
                let (link, duration_ms) = (*link, *duration_ms);
                self.details(*checkpoint).outcome = CheckpointOutcome::Completed { link, duration_ms };
                None
            }
            Notice::CheckpointFailed { checkpoint, cause, message } => {
                let (cause, text) = (*cause, message.clone());
                self.details(*checkpoint).outcome = CheckpointOutcome::Failed { cause, message: text };
                Some(format!("checkpoint {checkpoint} failed: {message}"))
            }
            Notice::LinkUnusable { link, message } => {
                Some(format!("link {link} of the chain cannot be used: {message}"))
            }
            Notice::StoreTrouble { message } => Some(format!("the store has trouble, trying again: {message}")),
            Notice::CommitTrouble { message } => Some(format!("a sink could not commit, trying again: {message}")),
            Notice::SavepointCompleted { name, uid, link } => {
                self.savepoints.completed(name, uid, *link);
                Some(format!("savepoint '{name}' is complete"))
            }
            Notice::SavepointFailed { name, uid, message } => {
                self.savepoints.failed(name, uid, message);
                Some(format!("savepoint '{name}' failed: {message}"))
            }
            Notice::SavepointReleased { name } => {
                self.savepoints.released(name);
                if let Some((status, ..)) = &mut self.status {
                    status.savepoints.remove(name);
                }
                Some(format!("savepoint '{name}' is deleted"))
            }
            Notice::SavepointWithdrawn { name, uid } => {
                self.savepoints.withdrawn(name, uid);
                Some(format!("savepoint '{name}' is withdrawn"))
            }
            Notice::AssignmentAnswered { request, revision, answer } => {
                self.assignments.answered(request, *revision, answer);
                (*answer == AssignmentAnswer::Accepted).then(|| format!("revision {revision} is assigned"))
            }
            Notice::AssignmentFailed { revision, message } => {
                self.assignments.failed(*revision, message);
                Some(format!("the job could not change to revision {revision} and goes on as it was: {message}"))
            }
            Notice::Awaiting { message } => Some(message.clone()),
            Notice::StopFailed { message } => Some(format!("the job could not be stopped and goes on: {message}")),
            Notice::GenerationFailed { generation, kind, message, restart_in_ms, .. } => {
                self.last_failure = Some(LastFailure { kind: *kind, message: message.clone() });
                *self.restarts.entry(*kind).or_default() += u64::from(restart_in_ms.is_some());
                let next = restart_in_ms.map_or(String::new(), |wait| format!("; next try in {wait} ms"));
                Some(format!("generation {generation} failed: {message}{next}"))
            }
        }
    }
}
