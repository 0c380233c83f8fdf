//! Switches of the protocol's rules, for tests that prove that each is needed.

/// One rule of the protocol.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A generation is claimed by a conditional put.
    ConditionalClaim,
    /// A link that was there before is not taken for the leader's own.
    OwnLinksOnly,
    /// After a start's place was taken, everything is decided anew.
    DecideAnew,
    /// A start stands only after a look back.
    LookBackAfterStart,
    /// A manifest permits commits only after a look back.
    LookBackAfterManifest,
    /// A look back asks whether the job is deleted.
    AskForDeletion,
    /// A new generation commits what the head left.
    CommitWhatTheHeadLeft,
    /// A fenced leader touches nothing.
    FencedTouchesNothing,
    /// A checkpoint is complete when all tasks have acknowledged it.
    AllAcknowledge,
    /// An unknown outcome is not taken for done.
    UnknownIsNotDone,
    /// An unknown outcome is not taken for failed.
    UnknownIsNotFailed,
    /// An aborted checkpoint aborts nothing that tasks handed over.
    AbortedLoseNothing,
    /// A manifest carries what is not confirmed.
    CarryUnconfirmed,
    /// A manifest lists the files of what its barriers overtook.
    StoreInFlight,
    /// What was in flight before is replayed once: no later manifest lists it.
    ReplayOnce,
    /// Nothing overtakes what waits before the barrier of a stop or of the end.
    AlignStops,
    /// A savepoint's link is not retired.
    PinSavepoints,
    /// A stop flag forbids a start.
    ObeyStops,
    /// Files that a kept manifest references stay.
    SpareReferenced,
    /// Only files of earlier generations are orphans.
    SpareOwnFiles,
    /// A lower revision or attempt never claims over a higher one.
    ClaimInOrder,
    /// An equal revision and attempt claims over itself only from the same pod. Nothing is lost without it, since a
    /// generation fences the one before whoever claims it: but two clusters that share a folder would take the job from
    /// each other for ever, and nobody would be told.
    OnePodPerAttempt,
    /// Another code waits until the job has stopped for it, unless it is forced.
    AwaitTheStop,
    /// An assignment's state to begin with is used once.
    RestoreOnce,
    /// A rollback goes back to the state that was left when a code began with another one.
    GoBackToWhatWasLeft,
    /// A plan begins only from a state that fits it.
    StateFits,
    /// A start from another state carries what the head left uncommitted.
    CarryOnRestore,
    /// The same request for a savepoint is found again.
    SavepointOnce,
    /// A new leader completes missing pointers.
    CompletePointers,
    /// A run that only maintains copies the stop flag.
    CopyStops,
    /// Another job's committables are its own to commit.
    DropForeign,
    /// A checkpoint refers to nothing of another place.
    LeaveForeign,
    /// A fork's origin is kept until the fork's own first checkpoint.
    HoldOrigin,
}

/// The leader's rules in force.
pub(super) type Rules = crate::rules::Rules<Rule>;
