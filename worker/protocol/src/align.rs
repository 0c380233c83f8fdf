//! The alignment of a checkpoint's barriers over the inputs of one task.
//!
//! ```text
//!            first barrier                 last live input's barrier, or its end
//!   ┌──────┐ ─────────────► ┌───────────┐ ───────────────────────────────────────► snapshot, all inputs open
//!   │ open │                │ alignment │
//!   └──────┘ ◄───────────── └───────────┘ ◄──┐ barrier of a newer checkpoint: the older one is given up,
//!                abort                    ───┘ its inputs are open again, this one waits
//! ```
//!
//! An input that has delivered its barrier is blocked: what it sends next belongs after the snapshot. An input that has
//! ended counts as aligned. Checkpoints are numbered upwards and taken one at a time, so an abort or a newer barrier
//! ends all older ones, and barriers of those are dropped when they still arrive. A snapshot is taken at most once per
//! checkpoint, at the moment when all live inputs have delivered it (Carbone et al., "Lightweight Asynchronous
//! Snapshots for Distributed Dataflows").

use crate::ids::{CheckpointId, Now};

/// The state of one task's alignment.
///
/// Inputs are numbered from 0; every method panics on a number that the alignment does not have.
#[derive(Debug, Clone)]
pub struct Alignment {
    inputs: Vec<Input>,
    pending: Option<Pending>,
    /// The newest checkpoint that is over for this task: snapshotted, aborted or given up; older ones are as well.
    over: Option<CheckpointId>,
}

/// What the task must do after a barrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// Drop the barrier and read on: its checkpoint is over.
    Ignored,
    /// The first barrier of its checkpoint: block the input, note the time.
    Began {
        /// The older checkpoint that was waiting and is given up: first open the inputs that it had blocked.
        given_up: Option<CheckpointId>,
    },
    /// One more: block the input.
    Block,
    /// The last one: see [`Aligned`].
    Aligned(Aligned),
}

/// All live inputs have delivered the barrier: take the snapshot, forward the barrier, then open all inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aligned {
    /// The checkpoint to take.
    pub checkpoint: CheckpointId,
    /// When its first barrier arrived.
    pub since: Now,
}

/// What the task must do after an abort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// Nothing: no input waits for this checkpoint.
    Nothing,
    /// Open all inputs.
    Released,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Open,
    Blocked,
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    aligned: Aligned,
    /// Open inputs: neither ended nor blocked.
    missing: usize,
}

impl Alignment {
    /// `inputs` live inputs, no checkpoint.
    #[must_use]
    pub fn new(inputs: usize) -> Self {
        Self { inputs: vec![Input::Open; inputs], pending: None, over: None }
    }

    /// True while the input must not be read.
    #[must_use]
    pub fn is_blocked(&self, input: usize) -> bool {
        self.inputs[input] == Input::Blocked
    }

    /// The inputs that must not be read, in order.
    pub fn blocked(&self) -> impl Iterator<Item = usize> {
        self.inputs.iter().enumerate().filter(|(_, state)| **state == Input::Blocked).map(|(input, _)| input)
    }

    /// The checkpoint that waits for barriers, with the time of its first.
    #[must_use]
    pub fn pending(&self) -> Option<Aligned> {
        self.pending.map(|pending| pending.aligned)
    }

    /// The barrier of `checkpoint` arrived on the input at `now`.
    pub fn barrier(&mut self, input: usize, checkpoint: CheckpointId, now: Now) -> Barrier {
        if self.inputs[input] == Input::Ended || self.over.is_some_and(|over| checkpoint <= over) {
            return Barrier::Ignored;
        }
        let waiting = self.pending.map(|pending| pending.aligned.checkpoint);
        if waiting.is_some_and(|waiting| checkpoint < waiting || checkpoint == waiting && self.is_blocked(input)) {
            return Barrier::Ignored;
        }
        let given_up = waiting.filter(|waiting| *waiting < checkpoint);
        if let Some(older) = given_up {
            self.finish(older);
        }
        if self.pending.is_none() {
            let missing = self.inputs.iter().filter(|state| **state != Input::Ended).count();
            self.pending = Some(Pending { aligned: Aligned { checkpoint, since: now }, missing });
        }
        self.inputs[input] = Input::Blocked;
        match self.one_less() {
            Some(aligned) => Barrier::Aligned(aligned),
            None if waiting == Some(checkpoint) => Barrier::Block,
            None => Barrier::Began { given_up },
        }
    }

    /// The input has ended: checkpoints no longer wait for it. Gives the one that waited for nothing else.
    pub fn end(&mut self, input: usize) -> Option<Aligned> {
        match std::mem::replace(&mut self.inputs[input], Input::Ended) {
            Input::Open => self.one_less(),
            Input::Blocked | Input::Ended => None,
        }
    }

    /// The checkpoint, and with it every older one, will not complete.
    pub fn abort(&mut self, checkpoint: CheckpointId) -> Abort {
        match self.pending {
            Some(pending) if pending.aligned.checkpoint > checkpoint => Abort::Nothing,
            Some(_) => {
                self.finish(checkpoint);
                Abort::Released
            }
            None => {
                self.over = self.over.max(Some(checkpoint));
                Abort::Nothing
            }
        }
    }

    /// Counts one live input as aligned; ends the alignment when it was the last.
    fn one_less(&mut self) -> Option<Aligned> {
        let pending = self.pending.as_mut()?;
        pending.missing -= 1;
        let Pending { aligned, missing } = *pending;
        (missing == 0).then(|| {
            self.finish(aligned.checkpoint);
            aligned
        })
    }

    fn finish(&mut self, checkpoint: CheckpointId) {
        self.over = self.over.max(Some(checkpoint));
        self.pending = None;
        for state in &mut self.inputs {
            if *state == Input::Blocked {
                *state = Input::Open;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeSet, VecDeque};

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Barrier(usize, u64, Barrier),
        End(usize, Option<Aligned>),
        Abort(u64, Abort),
    }

    const BEGAN: Barrier = Barrier::Began { given_up: None };

    fn aligned(checkpoint: u64, since: u64) -> Aligned {
        Aligned { checkpoint: CheckpointId(checkpoint), since: Now(since) }
    }

    fn done(checkpoint: u64, since: u64) -> Barrier {
        Barrier::Aligned(aligned(checkpoint, since))
    }

    /// Runs the steps, one per millisecond from 0, and compares what is blocked after the last.
    fn check(name: &str, inputs: usize, steps: &[Step], blocked: &[usize]) {
        let mut alignment = Alignment::new(inputs);
        for (now, step) in steps.iter().enumerate() {
            match *step {
                Step::Barrier(input, checkpoint, expected) => {
                    let found = alignment.barrier(input, CheckpointId(checkpoint), Now(now as u64));
                    assert_eq!(found, expected, "{name}: step {now}");
                }
                Step::End(input, expected) => assert_eq!(alignment.end(input), expected, "{name}: step {now}"),
                Step::Abort(checkpoint, expected) => {
                    assert_eq!(alignment.abort(CheckpointId(checkpoint)), expected, "{name}: step {now}");
                }
            }
        }
        assert_eq!(alignment.blocked().collect::<Vec<_>>(), blocked, "{name}");
        assert_eq!(alignment.pending().is_some(), !blocked.is_empty(), "{name}");
    }

    #[test]
    fn a_snapshot_is_taken_when_the_last_live_input_delivers() {
        use Barrier::{Block, Ignored};
        use Step::{Barrier as B, End};
        check("one input", 1, &[B(0, 1, done(1, 0)), B(0, 2, done(2, 1))], &[]);
        check("three inputs", 3, &[B(1, 1, BEGAN), B(0, 1, Block), B(2, 1, done(1, 0))], &[]);
        check("blocked meanwhile", 3, &[B(1, 1, BEGAN), B(0, 1, Block)], &[0, 1]);
        check("the same twice", 2, &[B(0, 1, BEGAN), B(0, 1, Ignored)], &[0]);
        check("after its snapshot", 2, &[B(0, 1, BEGAN), B(1, 1, done(1, 0)), B(0, 1, Ignored)], &[]);
        check("number zero", 2, &[B(0, 0, BEGAN), B(1, 0, done(0, 0)), B(1, 0, Ignored), B(1, 1, BEGAN)], &[1]);
        check("an end completes", 3, &[B(1, 1, BEGAN), End(0, None), End(2, Some(aligned(1, 0)))], &[]);
        check("an end before", 3, &[End(2, None), B(1, 1, BEGAN), B(0, 1, done(1, 1))], &[]);
        check("an end twice", 3, &[End(2, None), B(1, 1, BEGAN), End(2, None), B(2, 1, Ignored)], &[1]);
        check("all end", 2, &[End(0, None), End(1, None)], &[]);
    }

    #[test]
    fn a_checkpoint_that_is_over_is_not_taken() {
        use Barrier::Ignored;
        use Step::{Abort as A, Barrier as B, End};
        let given_up = |older| Barrier::Began { given_up: Some(CheckpointId(older)) };
        check("abort releases", 2, &[B(0, 1, BEGAN), A(1, Abort::Released), B(1, 1, Ignored)], &[]);
        check("abort of a newer releases", 2, &[B(0, 1, BEGAN), A(3, Abort::Released), B(1, 2, Ignored)], &[]);
        check("abort before the barrier", 2, &[A(1, Abort::Nothing), B(0, 1, Ignored), B(0, 2, BEGAN)], &[0]);
        check("abort of an older", 2, &[B(0, 2, BEGAN), A(1, Abort::Nothing), B(1, 2, done(2, 0))], &[]);
        check("late abort", 2, &[B(0, 1, BEGAN), B(1, 1, done(1, 0)), A(1, Abort::Nothing), B(0, 2, BEGAN)], &[0]);
        check("a newer one takes over", 2, &[B(0, 1, BEGAN), B(1, 2, given_up(1))], &[1]);
        check("and completes", 2, &[B(0, 1, BEGAN), B(1, 2, given_up(1)), B(0, 1, Ignored), B(0, 2, done(2, 1))], &[]);
        check("an end after abort", 2, &[B(0, 1, BEGAN), A(1, Abort::Released), End(1, None)], &[]);
    }

    /// One input: the checkpoints whose barriers it carries, upwards, and perhaps an end.
    type Script = (BTreeSet<u64>, bool);

    /// What has happened to the inputs, kept without the alignment's own bookkeeping.
    #[derive(Default)]
    struct Observer {
        last_barrier: Vec<Option<u64>>,
        ended: Vec<bool>,
        newest_seen: u64,
        aborted: u64,
        snapshots: BTreeSet<u64>,
    }

    impl Observer {
        /// The checkpoint that must be taken now, if any.
        fn due(&self) -> Option<u64> {
            let checkpoint = self.newest_seen;
            let delivered = (0..self.ended.len()).all(|at| self.ended[at] || self.last_barrier[at] == Some(checkpoint));
            let fresh = checkpoint > self.aborted && !self.snapshots.contains(&checkpoint);
            (delivered && fresh && checkpoint > 0).then_some(checkpoint)
        }
    }

    /// Reads the next element of the input and compares what the alignment says to it with what must happen.
    fn read(
        alignment: &mut Alignment,
        observer: &mut Observer,
        input: usize,
        barrier: Option<u64>,
    ) -> Result<(), TestCaseError> {
        let taken = match barrier {
            None => {
                observer.ended[input] = true;
                alignment.end(input)
            }
            Some(checkpoint) => {
                observer.last_barrier[input] = Some(checkpoint);
                observer.newest_seen = observer.newest_seen.max(checkpoint);
                match alignment.barrier(input, CheckpointId(checkpoint), Now(0)) {
                    Barrier::Aligned(aligned) => Some(aligned),
                    outcome => {
                        let blocks = outcome != Barrier::Ignored;
                        prop_assert_eq!(alignment.is_blocked(input), blocks);
                        let stale = checkpoint < observer.newest_seen || checkpoint <= observer.aborted;
                        prop_assert_eq!(blocks, !stale);
                        None
                    }
                }
            }
        };
        prop_assert_eq!(taken.map(|aligned| aligned.checkpoint.0), observer.due());
        for blocked in alignment.blocked() {
            let waits_for = alignment.pending().map(|pending| pending.checkpoint.0);
            prop_assert_eq!(observer.last_barrier[blocked], waits_for, "blocked for a checkpoint that is over");
        }
        if let Some(aligned) = taken {
            prop_assert!(observer.snapshots.insert(aligned.checkpoint.0), "taken twice");
            prop_assert_eq!(alignment.blocked().count(), 0);
        }
        Ok(())
    }

    fn abort(alignment: &mut Alignment, observer: &mut Observer, checkpoint: u64) -> Result<(), TestCaseError> {
        observer.aborted = observer.aborted.max(checkpoint);
        let waited = alignment.pending().is_some_and(|pending| pending.checkpoint.0 <= checkpoint);
        let outcome = alignment.abort(CheckpointId(checkpoint));
        prop_assert_eq!(outcome == Abort::Released, waited);
        if waited {
            prop_assert_eq!(alignment.blocked().count(), 0);
        }
        Ok(())
    }

    proptest! {
        /// Inputs miss barriers, end at any place and are read in any order; aborts come at any time. When nothing can
        /// be read any more, the abort of the newest checkpoint must set everything free.
        #[test]
        fn no_interleaving_takes_a_snapshot_wrongly_or_blocks_for_ever(
            scripts in prop::collection::vec((prop::collection::btree_set(1_u64..8, 0..6), any::<bool>()), 1..5),
            choices in prop::collection::vec((any::<prop::sample::Index>(), prop::option::weighted(0.1, 1_u64..8)), 80),
        ) {
            let scripts: Vec<Script> = scripts;
            let mut queues: Vec<VecDeque<Option<u64>>> = Vec::new();
            for (barriers, ends) in scripts {
                queues.push(barriers.into_iter().map(Some).chain(ends.then_some(None)).collect());
            }
            let mut alignment = Alignment::new(queues.len());
            let mut observer = Observer {
                last_barrier: vec![None; queues.len()],
                ended: vec![false; queues.len()],
                ..Observer::default()
            };
            for (choice, aborted) in choices {
                if let Some(checkpoint) = aborted {
                    abort(&mut alignment, &mut observer, checkpoint)?;
                }
                let readable = |at: &usize| !queues[*at].is_empty() && !alignment.is_blocked(*at);
                let readable: Vec<usize> = (0..queues.len()).filter(readable).collect();
                if readable.is_empty() {
                    let newest = observer.newest_seen;
                    abort(&mut alignment, &mut observer, newest)?;
                    prop_assert_eq!(alignment.blocked().count(), 0);
                    continue;
                }
                let input = *choice.get(&readable);
                let element = queues[input].pop_front().expect("a readable queue is not empty");
                read(&mut alignment, &mut observer, input, element)?;
            }
            prop_assert!(queues.iter().all(VecDeque::is_empty), "something was never read: {:?}", queues);
        }
    }
}
