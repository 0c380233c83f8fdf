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
//!
//! A barrier may have a moment from which on it waits no longer. It is announced as soon as it is in an input's queue,
//! behind whatever is there, and when its moment has come it overtakes: the snapshot is taken without the barriers that
//! are missing, and what stands before them in their inputs, in the queues or still on its way, is gathered into the
//! snapshot ([`crate::gather`]) until each has come (Flink's "aligned checkpoint timeout").

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

/// What the task must do when a barrier that may overtake is in the queue of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// Nothing: its checkpoint is over.
    Ignored,
    /// The first sign of its checkpoint: look for its moment from now on, see [`Alignment::due`].
    Began {
        /// The older checkpoint that was waiting and is given up: open the inputs that it had blocked.
        given_up: Option<CheckpointId>,
    },
    /// One more.
    Noted,
}

/// A barrier overtakes: take the snapshot, forward the barrier before all that waits, open all inputs, and gather what
/// is before the barrier in the inputs that are behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overtaken {
    /// The checkpoint to take.
    pub aligned: Aligned,
    /// The live inputs that have not delivered the barrier, in order; at least one.
    pub behind: Vec<usize>,
}

/// All live inputs have delivered the barrier: take the snapshot, forward the barrier, then open all inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aligned {
    /// The checkpoint to take.
    pub checkpoint: CheckpointId,
    /// When its first barrier was delivered or announced.
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
    /// From when on the barrier overtakes.
    due: Option<Now>,
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
        let given_up = self.begin(checkpoint, now);
        self.inputs[input] = Input::Blocked;
        match self.one_less() {
            Some(aligned) => Barrier::Aligned(aligned),
            None if waiting == Some(checkpoint) => Barrier::Block,
            None => Barrier::Began { given_up },
        }
    }

    /// The barrier of `checkpoint` is in the input's queue and may overtake from the moment `due` on.
    pub fn announce(&mut self, input: usize, checkpoint: CheckpointId, due: Now, now: Now) -> Announced {
        let waiting = self.pending.map(|pending| pending.aligned.checkpoint);
        let is_over = self.over.is_some_and(|over| checkpoint <= over);
        if self.inputs[input] == Input::Ended || is_over || waiting.is_some_and(|waiting| checkpoint < waiting) {
            return Announced::Ignored;
        }
        let given_up = self.begin(checkpoint, now);
        if let Some(pending) = &mut self.pending {
            pending.due = Some(pending.due.map_or(due, |earlier| earlier.min(due)));
        }
        if waiting == Some(checkpoint) { Announced::Noted } else { Announced::Began { given_up } }
    }

    /// When the barrier that is waited for overtakes, if it may.
    #[must_use]
    pub fn due(&self) -> Option<Now> {
        self.pending?.due
    }

    /// Ends the waiting if the barrier's moment has come.
    pub fn overtake(&mut self, now: Now) -> Option<Overtaken> {
        let aligned = self.pending.filter(|pending| pending.due.is_some_and(|due| due <= now))?.aligned;
        let open = self.inputs.iter().enumerate().filter(|(_, state)| **state == Input::Open);
        let behind = open.map(|(input, _)| input).collect();
        self.finish(aligned.checkpoint);
        Some(Overtaken { aligned, behind })
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

    /// Makes sure that `checkpoint` is the one that is waited for. Gives the older one that was.
    fn begin(&mut self, checkpoint: CheckpointId, now: Now) -> Option<CheckpointId> {
        let waiting = self.pending.map(|pending| pending.aligned.checkpoint);
        let given_up = waiting.filter(|waiting| *waiting < checkpoint);
        if let Some(older) = given_up {
            self.finish(older);
        }
        if self.pending.is_none() {
            let missing = self.inputs.iter().filter(|state| **state != Input::Ended).count();
            self.pending = Some(Pending { aligned: Aligned { checkpoint, since: now }, missing, due: None });
        }
        given_up
    }

    /// Counts one live input as aligned; ends the alignment when it was the last.
    fn one_less(&mut self) -> Option<Aligned> {
        let pending = self.pending.as_mut()?;
        pending.missing -= 1;
        let Pending { aligned, missing, .. } = *pending;
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
        /// The input, the checkpoint, its moment, what follows.
        Announce(usize, u64, u64, Announced),
        /// The inputs that are behind; `None` when nothing overtakes.
        Overtake(Option<(Aligned, &'static [usize])>),
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
                Step::Announce(input, checkpoint, due, expected) => {
                    let found = alignment.announce(input, CheckpointId(checkpoint), Now(due), Now(now as u64));
                    assert_eq!(found, expected, "{name}: step {now}");
                }
                Step::Overtake(expected) => {
                    let found = alignment.overtake(Now(now as u64));
                    let expected = expected.map(|(aligned, behind)| Overtaken { aligned, behind: behind.to_vec() });
                    assert_eq!(found, expected, "{name}: step {now}");
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
    fn a_barrier_overtakes_from_its_moment_on_and_once() {
        use Barrier::{Block, Ignored};
        use Step::{Abort as A, Announce as N, Barrier as B, End, Overtake as O};
        const FIRST: Announced = Announced::Began { given_up: None };
        const NOTED: Announced = Announced::Noted;
        check("at its moment", 2, &[N(0, 1, 2, FIRST), O(None), O(Some((aligned(1, 0), &[0, 1]))), O(None)], &[]);
        check(
            "what has delivered is not behind",
            3,
            &[B(1, 1, BEGAN), N(0, 1, 0, NOTED), O(Some((aligned(1, 0), &[0, 2])))],
            &[],
        );
        check(
            "the earliest moment counts",
            2,
            &[N(0, 1, 9, FIRST), N(1, 1, 1, NOTED), O(Some((aligned(1, 0), &[0, 1])))],
            &[],
        );
        check(
            "an ended input is not behind",
            2,
            &[End(1, None), N(0, 1, 0, FIRST), O(Some((aligned(1, 1), &[0])))],
            &[],
        );
        check("never without a moment", 2, &[B(0, 1, BEGAN), O(None), O(None)], &[0]);
        check("aligned before", 2, &[N(0, 1, 9, FIRST), B(0, 1, Block), B(1, 1, done(1, 0)), O(None)], &[]);
        check(
            "its barriers mean nothing later",
            2,
            &[N(0, 1, 0, FIRST), O(Some((aligned(1, 0), &[0, 1]))), B(0, 1, Ignored), N(1, 1, 0, Announced::Ignored)],
            &[],
        );
        check(
            "the next one begins anew",
            2,
            &[N(0, 1, 0, FIRST), O(Some((aligned(1, 0), &[0, 1]))), B(0, 2, BEGAN), O(None)],
            &[0],
        );
        check("aborted", 2, &[N(0, 1, 0, FIRST), A(1, Abort::Released), O(None), N(1, 1, 0, Announced::Ignored)], &[]);
        let newer = Announced::Began { given_up: Some(CheckpointId(1)) };
        check(
            "a newer one takes over",
            2,
            &[B(0, 1, BEGAN), N(0, 2, 0, newer), O(Some((aligned(2, 1), &[0, 1])))],
            &[],
        );
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
