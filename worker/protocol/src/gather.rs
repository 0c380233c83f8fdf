//! What a snapshot still gathers after its barrier has overtaken.
//!
//! ```text
//!   overtaken ──► gathering ──► complete        the barrier, or the end, of every input that was behind
//!                     └───────► given up        an abort, or the barrier of a newer checkpoint
//! ```
//!
//! Of an input that was behind, everything counts until its barrier: it was sent before the cut, so no sender will send
//! it again, and the snapshot was taken without it. The barrier itself has done its work and goes no further.

use crate::align::Overtaken;
use crate::ids::CheckpointId;

/// The inputs of one task that a snapshot still waits for.
///
/// Every method panics on the number of an input that the task does not have.
#[derive(Debug, Clone)]
pub struct Gathering {
    checkpoint: CheckpointId,
    /// By input.
    behind: Vec<bool>,
    missing: usize,
}

/// What to do with something that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is part of the snapshot, and is handled like everything else.
    Keep,
    /// It is handled like everything else.
    Pass,
}

/// What to do with a barrier that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// It is handled like any other.
    Pass,
    /// The last of its input's elements has been gathered: drop it.
    Ends,
    /// The same, and no other input is behind: the snapshot is complete.
    Completes,
    /// It belongs to a newer checkpoint, so the one of this snapshot is over: gather no more, and handle the barrier.
    GivenUp,
}

impl Gathering {
    /// Begins for a task with this many inputs.
    #[must_use]
    pub fn new(inputs: usize, overtaken: &Overtaken) -> Self {
        let mut behind = vec![false; inputs];
        overtaken.behind.iter().for_each(|input| behind[*input] = true);
        let missing = behind.iter().filter(|behind| **behind).count();
        Self { checkpoint: overtaken.aligned.checkpoint, behind, missing }
    }

    /// The checkpoint that it is for.
    #[must_use]
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// True when no input is behind.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Rows, a watermark or idleness of the input.
    #[must_use]
    pub fn element(&self, input: usize) -> Arrival {
        if self.behind[input] { Arrival::Keep } else { Arrival::Pass }
    }

    /// A barrier of the input.
    pub fn barrier(&mut self, input: usize, checkpoint: CheckpointId) -> Passing {
        match checkpoint.cmp(&self.checkpoint) {
            std::cmp::Ordering::Less => Passing::Pass,
            std::cmp::Ordering::Greater => Passing::GivenUp,
            std::cmp::Ordering::Equal => match self.end(input) {
                Passing::Pass => Passing::Ends,
                ends => ends,
            },
        }
    }

    /// The end of the input. It counts as the barrier, and is handled like any other.
    pub fn end(&mut self, input: usize) -> Passing {
        if !std::mem::take(&mut self.behind[input]) {
            return Passing::Pass;
        }
        self.missing -= 1;
        if self.missing == 0 { Passing::Completes } else { Passing::Ends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::Aligned;
    use crate::ids::Now;

    enum Step {
        Element(usize, Arrival),
        Barrier(usize, u64, Passing),
        End(usize, Passing),
    }

    /// Gathers for checkpoint 5 of three inputs, of which those in `behind` are behind.
    fn check(name: &str, behind: &[usize], steps: &[Step], complete: bool) {
        let aligned = Aligned { checkpoint: CheckpointId(5), since: Now(0) };
        let mut gathering = Gathering::new(3, &Overtaken { aligned, behind: behind.to_vec() });
        for (place, step) in steps.iter().enumerate() {
            match *step {
                Step::Element(input, expected) => {
                    assert_eq!(gathering.element(input), expected, "{name}: step {place}");
                }
                Step::Barrier(input, checkpoint, expected) => {
                    let found = gathering.barrier(input, CheckpointId(checkpoint));
                    assert_eq!(found, expected, "{name}: step {place}");
                }
                Step::End(input, expected) => assert_eq!(gathering.end(input), expected, "{name}: step {place}"),
            }
        }
        assert_eq!(gathering.is_complete(), complete, "{name}");
    }

    #[test]
    fn an_input_is_gathered_until_its_barrier_or_its_end() {
        use Arrival::{Keep, Pass as P};
        use Passing::{Completes, Ends, GivenUp, Pass};
        use Step::{Barrier as B, Element as E, End};
        check("only what is behind", &[0, 2], &[E(0, Keep), E(1, P), E(2, Keep)], false);
        check("one after the other", &[0, 2], &[B(2, 5, Ends), E(2, P), E(0, Keep), B(0, 5, Completes), E(0, P)], true);
        check("an end counts", &[0, 1], &[End(0, Ends), End(2, Pass), B(1, 5, Completes)], true);
        check("an older barrier does not", &[0], &[B(0, 4, Pass), E(0, Keep)], false);
        check("a newer one ends it all", &[0, 1], &[B(0, 5, Ends), B(0, 6, GivenUp)], false);
        check("the same twice is dropped", &[0, 1], &[B(0, 5, Ends), B(0, 5, Ends), End(0, Pass)], false);
    }
}
