//! The history of a job: one chain of numbered links, each written once.
//!
//! ```text
//! 1 start (g1) ── 2 checkpoint ── 3 checkpoint ── 4 start (g2) ── 5 checkpoint …
//!                                                                 └ head: the highest number of a complete listing
//! ```
//!
//! A [`Start`] says that a generation begins and from which state; a [`Manifest`] says what a completed checkpoint
//! contains. The head is found by listing only, never from memory. Everything about the job's past that must be known
//! is in the head (pinned savepoints, unconfirmed committables, the stop flag) or in the one manifest it refers to.
//!
//! This module is data and pure functions; [`crate::leader`] decides when a link is written.

mod assignment;
mod codec;
mod fallback;
mod fit;
mod fold;
mod link;
mod name;
mod retention;

pub use assignment::{Assignment, RestoreFrom, Terms};
pub use codec::{
    DecodeError, decode_assignment, decode_claim, decode_link, decode_pointer, encode_assignment, encode_claim,
    encode_link, encode_mark, encode_pointer,
};
pub use fallback::{FallbackError, fallback};
pub use fit::{Misfit, check_fit};
pub use fold::{FoldError, Folded, base_operators, fold, subtract_ranges, unite_ranges};
pub use link::{
    Claim, Claimant, Committables, DroppedState, Left, Link, Manifest, OperatorPlan, OperatorState, Origin, Pin, Plan,
    Pointer, Sizes, Start, Stop,
};
pub use name::{ObjectName, Prefix, parse_name};
pub use retention::{Retirement, generation_of_state_object, is_orphan, retire};
