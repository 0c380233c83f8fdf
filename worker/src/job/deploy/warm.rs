//! State in memory that a generation begins with instead of reading it: what tasks of an earlier one have left, and what
//! was loaded ahead for key groups that move here.
//!
//! What a task leaves is used only if it equals the checkpoint that the generation begins with: by the attempt id of its
//! link, since numbers alone say nothing about a place that was made anew. What was loaded ahead is an earlier checkpoint:
//! it is used only if the files that it was made of are still those of the state, so that only later ones are missing.
//! Whatever does not fit is dropped, and the task reads everything.

use crate::dataflow::task::Left;
use crate::numbers::{Family, Numbers};
use crate::operator::snapshot::TableDelta;
use crate::operator::{Counter, Operator};
use crate::state::file;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use weir_protocol::leader::Restore;
use weir_protocol::snapshot::{KeyGroupRange, StateFile};
use weir_protocol::{CheckpointId, Generation, KeyGroup, OperatorId};

/// What tasks have left is kept this long for those after them.
const LIFE: Duration = Duration::from_secs(60);

/// An operator with state.
pub struct Warm {
    /// The operator.
    pub operator: Box<dyn Operator>,
    /// The key groups whose state it has.
    pub held: Vec<KeyGroupRange>,
    /// What that state is.
    pub basis: Basis,
}

/// What state in memory is.
#[derive(Debug, Clone, PartialEq)]
pub enum Basis {
    /// That of the checkpoint that is restored.
    Equal,
    /// These files of an earlier one.
    Files(Vec<StateFile>),
}

/// State that was loaded ahead for an operator which goes on with what it has: of key groups that come to it.
pub struct Gained {
    /// The key groups.
    pub held: Vec<KeyGroupRange>,
    /// The files of an earlier checkpoint that it was read from.
    pub files: Vec<StateFile>,
    /// What they say of these key groups, in their order.
    pub tables: Vec<TableDelta>,
}

impl Gained {
    /// What is to be read besides, of `files`, the state of key groups that come to an operator; `None` when this does not
    /// help.
    #[must_use]
    pub fn missing(&self, files: &[StateFile]) -> Option<Vec<StateFile>> {
        let coming = Groups::of(&files.iter().flat_map(|file| file.key_groups.clone()).collect::<Vec<_>>());
        let held = Groups::of(&self.held);
        // What is said of key groups that do not come would be taken for theirs.
        if self.tables.iter().flat_map(|delta| &delta.key_groups).any(|(group, _)| !coming.has(*group)) {
            return None;
        }
        missing_after(&held, &self.files, files, &coming)
    }

    fn bytes(&self) -> u64 {
        self.tables.iter().map(|delta| delta.rows.get_array_memory_size() as u64).sum()
    }
}

/// State in memory, by the ids of operators and their subtasks.
#[derive(Default)]
pub struct Warmed {
    /// Operators with state.
    pub operators: BTreeMap<(OperatorId, u32), Warm>,
    /// State for operators that are here already.
    pub gained: BTreeMap<(OperatorId, u32), Gained>,
}

impl Warmed {
    /// Memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let operators: u64 = self.operators.values().map(|warm| warm.operator.state_bytes() as u64).sum();
        operators + self.gained.values().map(Gained::bytes).sum::<u64>()
    }
}

/// How much state tasks did not have to read.
#[derive(Debug, Default)]
pub struct Reused {
    left: Counter,
    ahead: Counter,
}

/// What a worker has in memory between two generations.
#[derive(Default)]
pub struct Shelf {
    left: BTreeMap<(OperatorId, u32), (As, Warm)>,
    left_at: Option<Instant>,
    ahead: Warmed,
    completed: Option<(As, String)>,
}

/// A checkpoint of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct As {
    generation: Generation,
    checkpoint: CheckpointId,
}

impl Warm {
    /// What is to be read besides, of the state in `files`, for a task that owns `owned`; `None` when this state does not
    /// help.
    #[must_use]
    pub fn missing(&self, files: &[StateFile], owned: &[KeyGroupRange]) -> Option<Vec<StateFile>> {
        let owned = Groups::of(owned);
        let useful = Groups::of(&only(&self.held, |group| owned.has(group)));
        let Basis::Files(applied) = &self.basis else {
            let missing = |file: &StateFile| part(file, |group| owned.has(group) && !useful.has(group));
            return Some(files.iter().filter_map(missing).collect());
        };
        missing_after(&useful, applied, files, &owned)
    }
}

/// What is missing of `files`, for `owned`, to who has applied some earlier ones to `useful`; `None` when it has applied
/// what is not true any more, or too early.
fn missing_after(
    useful: &Groups,
    applied: &[StateFile],
    files: &[StateFile],
    owned: &Groups,
) -> Option<Vec<StateFile>> {
    let known: BTreeMap<&str, &StateFile> = applied.iter().map(|file| (file.path.as_str(), file)).collect();
    let mut missing = Vec::new();
    for file in files {
        let has = known.get(file.path.as_str()).map_or_else(Groups::default, |known| Groups::of(&known.key_groups));
        let Some(wanted) = part(file, |group| owned.has(group) && !(useful.has(group) && has.has(group))) else {
            continue;
        };
        // One that came in between would have to be applied before what is in memory.
        let news = Groups::of(&only(&wanted.key_groups, |group| useful.has(group)));
        let after = |other: &StateFile| other.table == file.table && other.sequence >= file.sequence;
        let overtaken = |other: &&StateFile| after(other) && part(other, |group| news.has(group)).is_some();
        if applied.iter().any(|other| overtaken(&other)) {
            return None;
        }
        missing.push(wanted);
    }
    let now: BTreeMap<&str, &StateFile> = files.iter().map(|file| (file.path.as_str(), file)).collect();
    let is_current = |known: &StateFile| {
        let now = now.get(known.path.as_str()).map_or_else(Groups::default, |now| Groups::of(&now.key_groups));
        part(known, |group| useful.has(group) && !now.has(group)).is_none()
    };
    applied.iter().all(is_current).then_some(missing)
}

/// Key groups, by number.
#[derive(Debug, Default)]
struct Groups(Vec<bool>);

impl Groups {
    fn of(ranges: &[KeyGroupRange]) -> Self {
        let end = ranges.iter().map(|range| usize::from(range.end.0)).max().unwrap_or(0);
        let mut groups = vec![false; end];
        for range in ranges {
            groups[usize::from(range.start.0)..usize::from(range.end.0)].fill(true);
        }
        Self(groups)
    }

    fn has(&self, group: KeyGroup) -> bool {
        self.0.get(usize::from(group.0)).copied().unwrap_or(false)
    }
}

/// The file with the wanted ones of its key groups, if there are any.
fn part(file: &StateFile, wanted: impl Fn(KeyGroup) -> bool) -> Option<StateFile> {
    let key_groups = only(&file.key_groups, wanted);
    (!key_groups.is_empty()).then(|| StateFile { key_groups, ..file.clone() })
}

/// The key groups of `ranges` that are not in `others`.
#[must_use]
pub fn without(ranges: &[KeyGroupRange], others: &[KeyGroupRange]) -> Vec<KeyGroupRange> {
    let others = Groups::of(others);
    only(ranges, |group| !others.has(group))
}

fn only(ranges: &[KeyGroupRange], wanted: impl Fn(KeyGroup) -> bool) -> Vec<KeyGroupRange> {
    let groups = ranges.iter().flat_map(|range| range.start.0..range.end.0).map(KeyGroup);
    file::ranges(groups.filter(|group| wanted(*group)))
}

impl Reused {
    /// A task goes on with `bytes` of state.
    pub fn add(&self, basis: &Basis, bytes: u64) {
        match basis {
            Basis::Equal => self.left.add(bytes),
            Basis::Files(_) => self.ahead.add(bytes),
        }
    }

    /// A task goes on with `bytes` of state that came to it and was loaded ahead.
    pub fn gained(&self, gained: &Gained) {
        self.ahead.add(gained.bytes());
    }
}

impl Numbers for Reused {
    fn families(&self) -> Vec<Family> {
        let help = "Bytes of state that tasks found in memory: left there by tasks before them, or loaded ahead.";
        let label = |from: &str| vec![("from", from.to_owned())];
        let family = Family::counter("weir_state_reused_bytes_total", help);
        vec![family.with(label("left"), self.left.get() as f64).with(label("ahead"), self.ahead.get() as f64)]
    }
}

impl Shelf {
    /// A checkpoint is complete: its link has this attempt id.
    pub fn completed(&mut self, generation: Generation, checkpoint: CheckpointId, attempt: String) {
        self.completed = Some((As { generation, checkpoint }, attempt));
    }

    /// A task has ended that owned `held`.
    pub fn leave(&mut self, generation: Generation, subtask: u32, held: &[KeyGroupRange], left: Left) {
        let of = As { generation, checkpoint: left.checkpoint };
        self.left_at = Some(Instant::now());
        for (id, operator) in left.operators {
            self.left.insert((id, subtask), (of, Warm { operator, held: held.to_vec(), basis: Basis::Equal }));
        }
    }

    /// Nothing has begun for a while: who waits without tasks need not hold what it had.
    pub fn tidy(&mut self, now: Instant) {
        if self.left_at.is_some_and(|left_at| now.saturating_duration_since(left_at) > LIFE) {
            self.left.clear();
            self.left_at = None;
        }
    }

    /// What was loaded ahead, instead of what was before.
    pub fn load(&mut self, ahead: Warmed) {
        self.ahead = ahead;
    }

    /// Memory of what was loaded ahead.
    #[must_use]
    pub fn bytes_ahead(&self) -> u64 {
        self.ahead.bytes()
    }

    /// What helps a generation that begins with `restore`; nothing stays.
    pub fn take(&mut self, restore: Option<&Restore>) -> Warmed {
        let (left, ahead) = (std::mem::take(&mut self.left), std::mem::take(&mut self.ahead));
        self.left_at = None;
        // Files of another place are written down here first, by operators that have them as new.
        let Some(restore) = restore.filter(|restore| restore.location.is_none()) else { return Warmed::default() };
        let mut warmed = ahead;
        let head = self.completed.as_ref().filter(|(_, attempt)| *attempt == restore.manifest.attempt);
        if let Some((head, _)) = head {
            let equal = left.into_iter().filter(|(_, (of, _))| of == head);
            warmed.operators.extend(equal.map(|(place, (_, warm))| (place, warm)));
        }
        warmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::file::contains;
    use proptest::prelude::*;

    const GROUPS: u16 = 12;

    /// A file of a model: which key groups of it are referenced.
    fn file(number: u64, groups: &[u16]) -> StateFile {
        StateFile {
            path: format!("state/o/{number}"),
            table: "t".into(),
            sequence: number,
            bytes: 1,
            rows: 1,
            checksum: 0,
            key_groups: ranges(groups),
        }
    }

    fn ranges(groups: &[u16]) -> Vec<KeyGroupRange> {
        let groups: std::collections::BTreeSet<u16> = groups.iter().copied().collect();
        file::ranges(groups.into_iter().map(KeyGroup))
    }

    struct Nothing;

    impl Operator for Nothing {
        fn process(
            &mut self,
            _input: usize,
            _batch: crate::batch::Batch,
            _out: &mut dyn crate::operator::Output,
        ) -> crate::failure::Result<()> {
            Ok(())
        }
    }

    fn warm(held: &[u16], basis: Basis) -> Warm {
        Warm { operator: Box::new(Nothing), held: ranges(held), basis }
    }

    /// What a key group has read, in order, by reading `files`.
    fn read(files: &[StateFile], group: u16) -> Vec<String> {
        let mut files: Vec<&StateFile> =
            files.iter().filter(|file| contains(&file.key_groups, KeyGroup(group))).collect();
        files.sort_by_key(|file| file.sequence);
        files.into_iter().map(|file| file.path.clone()).collect()
    }

    #[test]
    fn what_a_task_left_is_read_only_for_other_key_groups() {
        let files = [file(1, &[0, 1, 2, 3]), file(2, &[2])];
        let missing = warm(&[0, 1, 7], Basis::Equal).missing(&files, &ranges(&[1, 2]));
        assert_eq!(missing, Some(vec![file(1, &[2]), file(2, &[2])]));
    }

    #[test]
    fn files_that_were_merged_make_what_was_loaded_ahead_useless() {
        let ahead = |files: &[StateFile]| warm(&[0, 1], Basis::Files(files.to_vec()));
        let (base, small, news) = (file(1, &[0, 1]), file(2, &[0]), file(5, &[0, 1]));
        let owned = ranges(&[0, 1]);
        let before = [base.clone(), small.clone()];
        assert_eq!(
            ahead(&before).missing(&[base.clone(), small.clone(), news.clone()], &owned),
            Some(vec![news.clone()])
        );
        assert_eq!(
            ahead(&before).missing(&[base.clone(), news.clone()], &owned),
            None,
            "a merge has taken the small one"
        );
        assert_eq!(ahead(&[base.clone(), news.clone()]).missing(&[base, small, news], &owned), None, "one in between");
    }

    fn any_groups() -> impl Strategy<Value = Vec<u16>> {
        prop::collection::vec(0..GROUPS, 0..12)
    }

    proptest! {
        #[test]
        fn state_in_memory_and_what_is_missing_are_the_whole_state(
            files in prop::collection::vec(any_groups(), 0..6), loaded in 0..6_usize, held in any_groups(), owned in any_groups(),
            lost in prop::option::weighted(0.3, (0..6_usize, 0..GROUPS)),
        ) {
            let before: Vec<StateFile> =
                files.iter().enumerate().map(|(number, groups)| file(number as u64, groups)).collect();
            let applied: Vec<StateFile> = before.iter().take(loaded).filter_map(|one| part(one, |group| held.contains(&group.0))).collect();
            let mut now = before.clone();
            if let Some((number, group)) = lost && let Some(file) = now.get_mut(number) {
                file.key_groups = only(&file.key_groups, |other| other.0 != group);
            }
            let warm = warm(&held, Basis::Files(applied.clone()));
            // What survivors gain is read likewise: of the key groups that come to them, and no others.
            let gained = Gained { held: ranges(&held), files: applied.clone(), tables: Vec::new() };
            let coming: Vec<StateFile> = now.iter().filter_map(|file| part(file, |group| owned.contains(&group.0))).collect();
            if let Some(missing) = gained.missing(&coming) {
                for group in &owned {
                    let in_memory = if held.contains(group) { read(&applied, *group) } else { Vec::new() };
                    prop_assert_eq!([in_memory, read(&missing, *group)].concat(), read(&now, *group), "key group {}", group);
                }
            }
            let Some(missing) = warm.missing(&now, &ranges(&owned)) else {
                prop_assert!(lost.is_some(), "only a lost part makes it useless");
                return Ok(());
            };
            for group in &owned {
                let in_memory = if held.contains(group) { read(&applied, *group) } else { Vec::new() };
                prop_assert_eq!([in_memory, read(&missing, *group)].concat(), read(&now, *group), "key group {}", group);
            }
        }
    }
}
