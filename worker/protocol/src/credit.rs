//! How much may be under way in one channel, in rows and in bytes.
//!
//! The sender takes credits before it sends a batch, the receiver's progress gives them back. A batch that finds too
//! few waits, and everything behind it in the channel waits with it: nothing overtakes. A batch that is larger than the
//! whole budget goes out when the channel is empty, since no later moment would be better.

/// The credits of one channel.
///
/// Invariant: what is under way is within the budget, or is a single batch; with urgent batches, within twice the budget.
#[derive(Debug, Clone)]
pub struct Credits {
    budget: Amount,
    under_way: Amount,
}

/// An amount of data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Number of rows.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// The answer to a batch that wants to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Send it; its credits are taken.
    Granted,
    /// Keep it and ask again when credits were given back; nothing is taken.
    Wait,
}

/// More was given back than was under way: the two ends of the channel do not agree on what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} rows and {} bytes were given back to a channel that has {} rows and {} bytes under way",
    given.rows, given.bytes, under_way.rows, under_way.bytes
)]
pub struct Overpaid {
    /// What was given back.
    pub given: Amount,
    /// What was under way.
    pub under_way: Amount,
}

impl Credits {
    /// An empty channel with a budget. One without any budget carries a batch at a time.
    #[must_use]
    pub fn new(budget: Amount) -> Self {
        Self { budget, under_way: Amount::default() }
    }

    /// What is under way.
    #[must_use]
    pub fn under_way(&self) -> Amount {
        self.under_way
    }

    /// True when nothing is under way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.under_way == Amount::default()
    }

    /// Asks to send a batch of this many rows and bytes.
    #[must_use]
    pub fn take(&mut self, rows: u64, bytes: u64) -> Take {
        if self.is_empty() {
            self.under_way = Amount { rows, bytes };
            return Take::Granted;
        }
        match self.room_for(rows, bytes) {
            Some(next) => {
                self.under_way = next;
                Take::Granted
            }
            None => Take::Wait,
        }
    }

    /// Asks as [`Credits::take`] does for a batch that stands before a barrier which waits for nothing: once the budget
    /// counts double, so that the channel stays bounded all the same.
    #[must_use]
    pub fn take_urgent(&mut self, rows: u64, bytes: u64) -> Take {
        let double = |budget: u64| budget.saturating_mul(2);
        let budget = Amount { rows: double(self.budget.rows), bytes: double(self.budget.bytes) };
        let mut credits = Self { budget, under_way: self.under_way };
        let taken = credits.take(rows, bytes);
        self.under_way = credits.under_way;
        taken
    }

    /// The receiver is done with this many rows and bytes, perhaps of several batches. Fails, and changes nothing, when
    /// that is more than is under way.
    pub fn give_back(&mut self, rows: u64, bytes: u64) -> Result<(), Overpaid> {
        let under_way = self.under_way;
        match (under_way.rows.checked_sub(rows), under_way.bytes.checked_sub(bytes)) {
            (Some(rows), Some(bytes)) => {
                self.under_way = Amount { rows, bytes };
                Ok(())
            }
            _ => Err(Overpaid { given: Amount { rows, bytes }, under_way }),
        }
    }

    /// What would be under way with the batch, if the budget allows it.
    fn room_for(&self, rows: u64, bytes: u64) -> Option<Amount> {
        let rows = self.under_way.rows.checked_add(rows).filter(|rows| *rows <= self.budget.rows)?;
        let bytes = self.under_way.bytes.checked_add(bytes).filter(|bytes| *bytes <= self.budget.bytes)?;
        Some(Amount { rows, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Take(u64, u64, Take),
        Urgent(u64, u64, Take),
        Give(u64, u64),
        Overpay(u64, u64),
    }

    fn check(name: &str, budget: (u64, u64), steps: &[Step], left: (u64, u64)) {
        let mut credits = Credits::new(Amount { rows: budget.0, bytes: budget.1 });
        for step in steps {
            let before = credits.under_way();
            match *step {
                Step::Take(rows, bytes, expected) => {
                    assert_eq!(credits.take(rows, bytes), expected, "{name}: {step:?}");
                    assert_eq!(
                        credits.under_way() == before,
                        expected == Take::Wait || (rows, bytes) == (0, 0),
                        "{name}"
                    );
                }
                Step::Urgent(rows, bytes, expected) => {
                    assert_eq!(credits.take_urgent(rows, bytes), expected, "{name}: {step:?}");
                }
                Step::Give(rows, bytes) => assert_eq!(credits.give_back(rows, bytes), Ok(()), "{name}: {step:?}"),
                Step::Overpay(rows, bytes) => {
                    let error = Overpaid { given: Amount { rows, bytes }, under_way: before };
                    assert_eq!(credits.give_back(rows, bytes), Err(error), "{name}: {step:?}");
                    assert_eq!(credits.under_way(), before, "{name}: {step:?}");
                }
            }
        }
        assert_eq!(credits.under_way(), Amount { rows: left.0, bytes: left.1 }, "{name}");
    }

    #[test]
    fn a_batch_waits_for_rows_and_for_bytes() {
        use super::Take::{Granted, Wait};
        use Step::{Give, Overpay, Take as T};
        check(
            "fills up",
            (10, 100),
            &[T(6, 60, Granted), T(4, 40, Granted), T(1, 1, Wait), T(0, 0, Granted)],
            (10, 100),
        );
        check("rows are short", (10, 100), &[T(6, 1, Granted), T(5, 1, Wait), T(4, 1, Granted)], (10, 2));
        check("bytes are short", (10, 100), &[T(1, 60, Granted), T(1, 41, Wait), T(1, 40, Granted)], (2, 100));
        check("a gift frees", (10, 100), &[T(9, 9, Granted), T(2, 2, Wait), Give(1, 1), T(2, 2, Granted)], (10, 10));
        check("too many rows", (10, 100), &[T(1, 5, Granted), Overpay(2, 5)], (1, 5));
        check("too many bytes", (10, 100), &[T(1, 5, Granted), Overpay(1, 6), Overpay(u64::MAX, u64::MAX)], (1, 5));
        check("given in parts", (10, 100), &[T(9, 90, Granted), Give(4, 0), Give(5, 90), Overpay(0, 1)], (0, 0));
    }

    #[test]
    fn an_urgent_batch_may_take_the_budget_once_more() {
        use super::Take::{Granted, Wait};
        use Step::{Give, Take as T, Urgent as U};
        let full = T(10, 100, Granted);
        check("beyond", (10, 100), &[full, U(10, 99, Granted), U(1, 1, Wait), T(0, 0, Wait)], (20, 199));
        check("too many bytes", (10, 100), &[full, U(1, 101, Wait)], (10, 100));
        check(
            "then others wait",
            (10, 100),
            &[full, U(5, 5, Granted), Give(5, 5), T(1, 1, Wait), Give(1, 1), T(1, 1, Granted)],
            (10, 100),
        );
        check("alone", (10, 100), &[U(99, 999, Granted), U(0, 0, Wait)], (99, 999));
    }

    #[test]
    fn a_batch_above_the_budget_passes_alone() {
        use super::Take::{Granted, Wait};
        use Step::{Give, Take as T};
        const HUGE: u64 = u64::MAX;
        check("when empty", (10, 100), &[T(11, 1, Granted), T(0, 0, Wait), T(1, 1, Wait)], (11, 1));
        check(
            "not otherwise",
            (10, 100),
            &[T(1, 1, Granted), T(1, 101, Wait), Give(1, 1), T(1, 101, Granted)],
            (1, 101),
        );
        check(
            "no overflow",
            (HUGE, HUGE),
            &[T(HUGE, HUGE, Granted), T(1, 0, Wait), T(0, 1, Wait), Give(HUGE, HUGE)],
            (0, 0),
        );
        check("no budget", (0, 0), &[T(3, 3, Granted), T(3, 3, Wait), Give(3, 3), T(3, 3, Granted)], (3, 3));
    }

    proptest! {
        /// A sender with a queue and a receiver that frees batches in order: the bound holds, and all arrive.
        #[test]
        fn every_batch_passes_and_the_budget_holds(
            budget in (0_u64..50, 0_u64..500),
            batches in prop::collection::vec((0_u64..80, 0_u64..800), 1..50),
            sender_first in prop::collection::vec(any::<bool>(), 200),
        ) {
            let mut credits = Credits::new(Amount { rows: budget.0, bytes: budget.1 });
            let mut queue: VecDeque<_> = batches.into();
            let mut sent: VecDeque<(u64, u64)> = VecDeque::new();
            let mut turns = sender_first.into_iter();
            while !queue.is_empty() {
                let sends = turns.next().unwrap_or(true);
                let granted = match queue.front() {
                    Some(&(rows, bytes)) if sends => credits.take(rows, bytes) == Take::Granted,
                    _ => false,
                };
                if granted {
                    sent.extend(queue.pop_front());
                } else if let Some((rows, bytes)) = sent.pop_front() {
                    prop_assert_eq!(credits.give_back(rows, bytes), Ok(()));
                } else {
                    prop_assert!(!sends, "an empty channel refuses a batch");
                }
                let total = sent.iter().fold((0, 0), |sum, batch| (sum.0 + batch.0, sum.1 + batch.1));
                prop_assert_eq!(credits.under_way(), Amount { rows: total.0, bytes: total.1 });
                let counted = sent.iter().filter(|batch| **batch != (0, 0)).count();
                prop_assert!(counted <= 1 || total.0 <= budget.0 && total.1 <= budget.1, "{:?}", sent);
            }
        }
    }
}
