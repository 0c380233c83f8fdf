//! What the controller sees and what it answers, as plain data: the border between its parts.
//!
//! ```text
//!  validate ─▶ observe ─▶ Observed ─▶ decide ─▶ Decision ─▶ build ─▶ [Write] ─▶ apply
//!                                                   └────── status, events ───▶ report
//! ```
//!
//! Who observes promises: `Observed` is at least as new as the last write of this controller about this job. Who applies
//! promises: if the decision's `status.change` is not the one in the cluster, the status is written first; then the
//! writes in their order, until one fails; then everything is observed again. Nothing is carried out twice by that,
//! because every write is either repeatable or has a name that can be taken once.
//!
//! No client, no clock, no I/O.

mod decision;
mod job;
mod leader;
pub mod name;
mod pod;
mod revision;
mod savepoint;

pub use decision::{Action, Against, Decision, Event, EventKind, Finalizer, Maintenance, NewPod, Object, Write};
pub use job::{CheckVerdict, Needed, Observed, OriginSeen, ServiceSeen, Wish};
pub use leader::{
    Ask, Assign, Change, CheckpointSeen, Ending, Failure, FailureKind, LeaderReport, LeaderRequest, LeaderSeen,
    LeaderState, Refused, RestorePoint, SavepointReport, SavepointSeenState, SwitchStep, Then,
};
pub use pod::{ContainerSeen, ContainerState, Exit, Phase, PodSeen, Role};
pub use revision::{Content, Mark, RevisionSeen, TakesBack, restore_path};
pub use savepoint::SavepointSeen;
