//! Switches of the rules of registration, for tests that prove that each is needed.

/// One rule of registration.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A worker does not take the place of one that was started later.
    NewerStays,
    /// A worker of another job, build, plan or code does not take part.
    RefuseStrangers,
}
