//! Whether pre-aggregation pays: it does when rows share keys, and data decides that.

/// Rows per group below which a group costs more than it saves.
const LEAST_REDUCTION: f64 = 1.3;
/// Rows that pass before the next look after the first failure; each further one doubles it.
const FIRST_PAUSE: usize = 256 * 1024;
const LONGEST_PAUSE: usize = 16 * 1024 * 1024;
/// Fewer rows than this tell nothing.
const LEAST_SAMPLE: usize = 4096;

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// Aggregate it.
    Combine,
    /// Let each row go on alone.
    Pass,
}

/// What was learnt about the input.
#[derive(Debug, Default)]
pub(super) struct Reduction {
    rows: usize,
    groups: usize,
    pause: usize,
    passes: usize,
}

impl Reduction {
    /// What to do with the next `rows` rows.
    pub(super) fn course(&mut self, rows: usize) -> Course {
        if self.passes == 0 {
            return Course::Combine;
        }
        self.passes = self.passes.saturating_sub(rows);
        Course::Pass
    }

    /// That many rows have become that many groups.
    pub(super) fn learn(&mut self, rows: usize, groups: usize) {
        self.rows += rows;
        self.groups += groups;
        if self.rows < LEAST_SAMPLE {
            return;
        }
        if (self.rows as f64) < self.groups as f64 * LEAST_REDUCTION {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.passes = self.pause;
        } else {
            self.pause = 0;
        }
        (self.rows, self.groups) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_reduction_rows_pass_and_it_looks_again_ever_less_often() {
        let mut reduction = Reduction::default();
        reduction.learn(100, 100);
        assert_eq!(reduction.course(1), Course::Combine, "a hundred rows tell nothing");
        for pause in [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4] {
            reduction.learn(10_000, 10_000);
            assert_eq!(reduction.course(pause - 1), Course::Pass);
            assert_eq!(reduction.course(1), Course::Pass);
            assert_eq!(reduction.course(1), Course::Combine);
        }
        reduction.learn(10_000, 5_000);
        assert_eq!(reduction.course(1), Course::Combine);
        reduction.learn(10_000, 10_000);
        assert_eq!(reduction.course(FIRST_PAUSE), Course::Pass);
        assert_eq!(reduction.course(1), Course::Combine);
    }
}
