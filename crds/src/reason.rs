//! The reasons of conditions and events: a closed list.
//!
//! A job and a savepoint have three conditions, as kstatus reads them. `Ready`: it does what it should. `Reconciling`: a
//! change is on its way. `Stalled`: nothing goes on until somebody changes something.

/// Names a reason, and says what it means; the list of the documentation is made of these.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why a condition is what it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The reason as it stands in a condition.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// What it means, and what to do.
            #[must_use]
            pub fn explained(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc,)+).trim_ascii_start(),)+
                }
            }
        }
    };
}

reasons! {
    /// The job processes records.
    Running,
    /// The job processes records, but no checkpoint has completed for a minute longer than one takes. Exactly-once results
    /// stay invisible until one does.
    CheckpointOverdue,
    /// The bounded input has ended and all results are committed.
    Finished,
    /// The job was stopped because `state: Suspended` was asked for; its state is kept.
    Suspended,
    /// Nothing is on its way.
    Settled,
    /// Nothing hinders.
    Progressing,
    /// The job's first pods are made, or its workers load state.
    Starting,
    /// The last generation failed; the next one is on its way.
    Restarting,
    /// A worker is gone, and its replacement is on its way.
    ReplacingWorkers,
    /// The parallelism changes.
    Rescaling,
    /// Image, SQL or template change, or a restart was asked for.
    Upgrading,
    /// An upgrade is undone.
    RollingBack,
    /// A last savepoint is taken before the job stops.
    Suspending,
    /// The job starts again after it was suspended.
    Resuming,
    /// The job is deleted; its state is looked after as `deletionPolicy` says.
    Deleting,
    /// The annotation weir.dev/pause-reconcile keeps the controller away.
    Paused,
    /// The image cannot be pulled. Correct `worker.image` or `imagePullSecrets`; it heals when the image is there.
    ImageUnavailable,
    /// No node has room for a worker, or none matches. Add nodes or change resources, nodeSelector, tolerations.
    Unschedulable,
    /// The cluster refuses to make a pod or an object: a quota, a policy, a missing service account.
    Denied,
    /// A Secret that the SQL, the storage, a volume or an environment variable names is missing, or a key of the latter.
    SecretMissing,
    /// The container cannot be made or started; the message is the kubelet's.
    ContainerNotStarted,
    /// A worker ends again and again; the message is its last words.
    CrashLooping,
    /// The savepoint before a change failed: the job goes on as it was, and it is tried again.
    StopFailed,
    /// The leader refuses what it is told; the message says why.
    Refused,
    /// The leader cannot be reached.
    LeaderSilent,
    /// What `restoreFrom` names is not there, or not complete yet.
    RestorePointMissing,
    /// Fields of the spec contradict each other. The last good spec stays in force.
    InvalidSpec,
    /// The ConfigMap that `sqlFrom` names, or its key, is missing. The last good spec stays in force.
    SqlMissing,
    /// The job cannot run until something is changed: the SQL, a topic, a permission. The message says what.
    JobFailed,
    /// Restarts are exhausted: `spec.restart` allows no more. Change the spec, or set weir.dev/restart.
    RestartsExhausted,
    /// The new SQL is wrong, or cannot go on with the job's state. The job goes on as it was. Change the SQL, allow dropped
    /// state, or upgrade with `upgradeMode: Stateless`.
    UpgradeRefused,
    /// The upgrade failed and was undone: the job runs as before. Correct the spec.
    UpgradeFailed,
    /// The upgrade failed and could not be undone, as the old version does not accept the new state.
    RollbackFailed,
    /// A savepoint is complete.
    Completed,
    /// A savepoint waits for its job.
    Pending,
    /// A savepoint is being taken.
    InProgress,
    /// A savepoint could not be taken. Create another one.
    SavepointFailed,
    /// State stays in the store although its deletion was asked for; the message says why.
    StateLeft,
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_is_a_word_and_says_what_it_means() {
        for reason in Reason::ALL {
            assert!(reason.name().chars().all(|letter| letter.is_ascii_alphabetic()), "{}", reason.name());
            assert!(reason.explained().ends_with(['.', ';']), "{}: {}", reason.name(), reason.explained());
        }
    }
}
