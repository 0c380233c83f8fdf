//! Which subtask owns a key: key bytes → hash → key group → subtask.
//!
//! The first two steps are a format that never changes: state files are addressed by key group, so a key must find its
//! group again in every later version. The last step is the [`KeyGroupMap`], which changes with every rescale and
//! depends on its own history; it is stored with the assignment and never computed a second time.

use crate::ids::KeyGroup;
use crate::snapshot::KeyGroupRange;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The number of key groups of a job, between 1 and [`MaxParallelism::LIMIT`]: its key space is cut into this many
/// slices once and for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct MaxParallelism(u16);

/// The owner of every key group.
///
/// Maps made by [`initial`](Self::initial) and [`rescale`](Self::rescale) are balanced: the numbers of key groups of
/// two subtasks differ by at most one. Serialised as ranges `[start, end, subtask]`, end exclusive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredMap", into = "StoredMap")]
pub struct KeyGroupMap {
    parallelism: u16,
    /// By key group; never empty, each below `parallelism`.
    owners: Vec<u16>,
}

/// Why there is no such map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The number of key groups is out of range.
    #[error("maxParallelism is {given}: it must lie between 1 and {}", MaxParallelism::LIMIT)]
    MaxParallelism {
        /// What was asked for.
        given: u32,
    },
    /// There is nobody to own a key group.
    #[error("parallelism is 0: at least one subtask must own the keys")]
    NoSubtask,
    /// Some subtasks would own nothing.
    #[error(
        "parallelism {parallelism} is above maxParallelism {max_parallelism}: a subtask needs at least one key group, so lower the parallelism"
    )]
    TooManySubtasks {
        /// What was asked for.
        parallelism: u32,
        /// The number of key groups.
        max_parallelism: u32,
    },
    /// A stored map has a gap, an overlap, or ranges that are out of order.
    #[error("the stored key-group map does not give key group {key_group} to exactly one subtask")]
    Cover {
        /// The first key group at which it goes wrong.
        key_group: u32,
    },
    /// A stored map names a subtask that its parallelism does not have.
    #[error("the stored key-group map names subtask {subtask} at a parallelism of {parallelism}")]
    UnknownSubtask {
        /// The subtask's number.
        subtask: u16,
        /// The stored parallelism.
        parallelism: u16,
    },
}

/// The hash of a key's bytes: XXH3, 64 bits, seed 0. It never changes.
#[must_use]
pub fn key_hash(key: &[u8]) -> u64 {
    xxh3_64(key)
}

impl MaxParallelism {
    /// The largest number of key groups.
    pub const LIMIT: u32 = 32_768;

    /// Fails with [`Error::MaxParallelism`] when `given` is 0 or above the limit.
    pub fn new(given: u32) -> Result<Self, Error> {
        match u16::try_from(given) {
            Ok(count) if count > 0 && given <= Self::LIMIT => Ok(Self(count)),
            _ => Err(Error::MaxParallelism { given }),
        }
    }

    /// The number of key groups.
    #[must_use]
    pub fn get(self) -> u32 {
        u32::from(self.0)
    }

    /// The key group of a key, given as bytes.
    #[must_use]
    pub fn key_group(self, key: &[u8]) -> KeyGroup {
        self.key_group_of_hash(key_hash(key))
    }

    /// The key group of a key, given as its [`key_hash`].
    ///
    /// The 32 bits in the middle of the hash are scaled to the number of key groups. The low bits, which choose a
    /// bucket in a hash table, and the high ones, which hash tables keep as tags, so stay evenly spread among the keys
    /// of one task: its tables can use the same hash again.
    #[must_use]
    #[inline]
    pub fn key_group_of_hash(self, hash: u64) -> KeyGroup {
        let middle = (hash >> 16) & 0xffff_ffff;
        KeyGroup(((middle * u64::from(self.0)) >> 32) as u16)
    }
}

impl KeyGroupMap {
    /// The map of a job that has none yet: contiguous ranges in the order of the subtasks, as Flink cuts them.
    ///
    /// Fails when `parallelism` is 0 or above the number of key groups.
    pub fn initial(max_parallelism: MaxParallelism, parallelism: u32) -> Result<Self, Error> {
        let parallelism = checked(parallelism, max_parallelism)?;
        let owner = |group| (u32::from(group) * u32::from(parallelism) / max_parallelism.get()) as u16;
        Ok(Self { parallelism, owners: (0..max_parallelism.0).map(owner).collect() })
    }

    /// The balanced map for another parallelism in which the fewest possible key groups change their owner.
    ///
    /// The result depends on this map and the parallelism alone. Fails when `parallelism` is 0 or above the number of
    /// key groups.
    pub fn rescale(&self, parallelism: u32) -> Result<Self, Error> {
        let parallelism = checked(parallelism, self.max_parallelism())?;
        let mut room = self.sizes_after(parallelism);
        let mut kept: Vec<Option<u16>> = Vec::with_capacity(self.owners.len());
        for &owner in &self.owners {
            let left = room.get_mut(usize::from(owner)).filter(|left| **left > 0);
            kept.push(left.map(|left| {
                *left -= 1;
                owner
            }));
        }
        // What is left over goes to the receivers in order, so that neighbours tend to stay together.
        let mut receivers = (0..parallelism).flat_map(|subtask| {
            let left = room[usize::from(subtask)];
            std::iter::repeat_n(subtask, left)
        });
        let mut next = || receivers.next().expect("the sizes add up to the number of key groups");
        let owners = kept.into_iter().map(|owner| owner.unwrap_or_else(&mut next)).collect();
        Ok(Self { parallelism, owners })
    }

    /// The number of key groups.
    #[must_use]
    pub fn max_parallelism(&self) -> MaxParallelism {
        MaxParallelism(self.owners.len() as u16)
    }

    /// The number of subtasks.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        u32::from(self.parallelism)
    }

    /// The subtask that owns the key group; `None` when the job has no such group.
    #[must_use]
    pub fn owner(&self, key_group: KeyGroup) -> Option<u32> {
        self.owners.get(usize::from(key_group.0)).copied().map(u32::from)
    }

    /// The owner of every key group, indexed by key group: what a partitioner looks up per row.
    #[must_use]
    pub fn table(&self) -> &[u16] {
        &self.owners
    }

    /// The key groups of a subtask, as sorted ranges that do not touch; empty when there is no such subtask.
    #[must_use]
    pub fn owned(&self, subtask: u32) -> Vec<KeyGroupRange> {
        self.ranges().filter(|(_, owner)| u32::from(*owner) == subtask).map(|(range, _)| range).collect()
    }

    /// Every key group once, in order, as the longest ranges with one owner each.
    pub fn ranges(&self) -> impl Iterator<Item = (KeyGroupRange, u16)> {
        let mut start = 0;
        self.owners.chunk_by(|left, right| left == right).map(move |run| {
            let end = start + run.len() as u16;
            let range = KeyGroupRange { start: KeyGroup(start), end: KeyGroup(end) };
            start = end;
            (range, run[0])
        })
    }

    /// How many key groups each subtask shall own at the new parallelism. All sizes are one of two neighbours; a
    /// subtask keeps most when the larger ones go to those that own more than the smaller size already.
    fn sizes_after(&self, parallelism: u16) -> Vec<usize> {
        let groups = self.owners.len();
        let (small, mut larger) = (groups / usize::from(parallelism), groups % usize::from(parallelism));
        let mut owned = vec![0_usize; usize::from(parallelism)];
        for &owner in &self.owners {
            if let Some(count) = owned.get_mut(usize::from(owner)) {
                *count += 1;
            }
        }
        let mut sizes = vec![small; owned.len()];
        let above = (0..owned.len()).filter(|&subtask| owned[subtask] > small);
        let below = (0..owned.len()).filter(|&subtask| owned[subtask] <= small);
        for subtask in above.chain(below) {
            if larger == 0 {
                break;
            }
            sizes[subtask] += 1;
            larger -= 1;
        }
        sizes
    }
}

fn checked(parallelism: u32, max_parallelism: MaxParallelism) -> Result<u16, Error> {
    match u16::try_from(parallelism) {
        Ok(0) => Err(Error::NoSubtask),
        Ok(subtasks) if subtasks <= max_parallelism.0 => Ok(subtasks),
        _ => Err(Error::TooManySubtasks { parallelism, max_parallelism: max_parallelism.get() }),
    }
}

/// The form of a map in manifests.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredMap {
    max_parallelism: MaxParallelism,
    parallelism: u32,
    /// `[start, end, subtask]`, sorted, without gaps.
    ranges: Vec<(u16, u16, u16)>,
}

impl From<KeyGroupMap> for StoredMap {
    fn from(map: KeyGroupMap) -> Self {
        Self {
            max_parallelism: map.max_parallelism(),
            parallelism: map.parallelism(),
            ranges: map.ranges().map(|(range, owner)| (range.start.0, range.end.0, owner)).collect(),
        }
    }
}

impl TryFrom<StoredMap> for KeyGroupMap {
    type Error = Error;

    fn try_from(stored: StoredMap) -> Result<Self, Error> {
        let groups = stored.max_parallelism.0;
        let parallelism = checked(stored.parallelism, stored.max_parallelism)?;
        let mut owners = Vec::with_capacity(usize::from(groups));
        for (start, end, subtask) in stored.ranges {
            if usize::from(start) != owners.len() || end <= start || end > groups {
                return Err(Error::Cover { key_group: owners.len() as u32 });
            }
            if subtask >= parallelism {
                return Err(Error::UnknownSubtask { subtask, parallelism });
            }
            owners.resize(usize::from(end), subtask);
        }
        if owners.len() != usize::from(groups) {
            return Err(Error::Cover { key_group: owners.len() as u32 });
        }
        Ok(Self { parallelism, owners })
    }
}

impl TryFrom<u32> for MaxParallelism {
    type Error = Error;

    fn try_from(given: u32) -> Result<Self, Error> {
        Self::new(given)
    }
}

impl From<MaxParallelism> for u32 {
    fn from(max_parallelism: MaxParallelism) -> Self {
        max_parallelism.get()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn initial(groups: u32, parallelism: u32) -> KeyGroupMap {
        KeyGroupMap::initial(MaxParallelism::new(groups).unwrap(), parallelism).unwrap()
    }

    fn sizes(map: &KeyGroupMap) -> Vec<usize> {
        let mut sizes = vec![0; map.parallelism() as usize];
        for &owner in map.table() {
            sizes[usize::from(owner)] += 1;
        }
        sizes
    }

    fn moved(old: &KeyGroupMap, new: &KeyGroupMap) -> usize {
        old.table().iter().zip(new.table()).filter(|(old, new)| old != new).count()
    }

    /// The fewest moves of any balanced map: tries every choice of the subtasks that own one more than the others.
    fn fewest_moves(old: &KeyGroupMap, parallelism: usize) -> usize {
        let groups = old.table().len();
        let (small, larger) = (groups / parallelism, groups % parallelism);
        let mut owned = sizes(old);
        owned.resize(owned.len().max(parallelism), 0);
        let kept = |choice: u32| -> usize {
            (0..parallelism).map(|subtask| owned[subtask].min(small + (choice as usize >> subtask & 1))).sum()
        };
        let choices = (0..1_u32 << parallelism).filter(|choice| choice.count_ones() as usize == larger);
        groups - choices.map(kept).max().unwrap()
    }

    /// Written once and never to be edited: a change here is a change of every state file.
    #[test]
    fn hashes_and_key_groups_are_those_of_every_earlier_version() {
        let long: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let golden: [(&[u8], u64, [u16; 4]); 9] = [
            (b"", 0x2d06_8005_38d3_94c2, [0, 64, 500, 16_386]),
            (b"a", 0xe6c6_32b6_1e96_4e1f, [0, 25, 198, 6491]),
            (b"abc", 0x78af_5f94_892f_3950, [0, 47, 373, 12_234]),
            (b"auction-17", 0xa392_3bb3_1d98_db31, [0, 29, 233, 7641]),
            (&[0; 8], 0xc77b_3abb_6f87_acd9, [0, 29, 229, 7517]),
            (&1007_i64.to_le_bytes(), 0x95ed_7d4d_0c4a_591e, [0, 62, 489, 16_038]),
            (&long[..64], 0x6187_eb90_89b0_ed55, [0, 117, 920, 30_152]),
            (&long[..200], 0xf42a_8864_feaf_0703, [0, 68, 532, 17_458]),
            (&long, 0xd33d_d80b_46f6_0e50, [0, 108, 843, 27_653]),
        ];
        for (key, hash, groups) in golden {
            assert_eq!(key_hash(key), hash, "{key:?}");
            let found = [1, 128, 1000, 32_768].map(|max| MaxParallelism::new(max).unwrap().key_group(key).0);
            assert_eq!(found, groups, "{key:?}");
        }
    }

    #[test]
    fn the_middle_of_the_hash_chooses_the_key_group() {
        let max = MaxParallelism::new(128).unwrap();
        let cases = [
            (0, 0),
            (u64::MAX, 127),
            (0xffff_0000_0000_ffff, 0),
            (0x0000_ffff_ffff_0000, 127),
            (0x0000_8000_0000_0000, 64),
            (0x0000_7fff_ffff_ffff, 63),
        ];
        for (hash, group) in cases {
            assert_eq!(max.key_group_of_hash(hash), KeyGroup(group), "{hash:#x}");
        }
    }

    #[test]
    fn keys_spread_evenly_over_key_groups() {
        let max = MaxParallelism::new(128).unwrap();
        let mut counts = [0_u32; 128];
        for key in 0..128_000_u64 {
            counts[usize::from(max.key_group(&key.to_le_bytes()).0)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn parallelism_out_of_range_is_refused() {
        let map = initial(4, 2);
        let cases = [(0, Error::NoSubtask), (5, above(5)), (65_536, above(65_536)), (u32::MAX, above(u32::MAX))];
        for (parallelism, error) in cases {
            assert_eq!(KeyGroupMap::initial(map.max_parallelism(), parallelism), Err(error));
            assert_eq!(map.rescale(parallelism), Err(error));
        }
        for given in [0, 32_769, 65_536, u32::MAX] {
            assert_eq!(MaxParallelism::new(given), Err(Error::MaxParallelism { given }));
        }
    }

    fn above(parallelism: u32) -> Error {
        Error::TooManySubtasks { parallelism, max_parallelism: 4 }
    }

    #[test]
    fn a_rescale_moves_only_what_it_must() {
        let cases: [(&[u32], &[u16]); 6] = [
            (&[1], &[0, 0, 0, 0, 0, 0, 0]),
            (&[2], &[0, 0, 0, 0, 1, 1, 1]),
            (&[2, 3], &[0, 0, 0, 2, 1, 1, 2]),
            (&[2, 3, 2], &[0, 0, 0, 0, 1, 1, 1]),
            (&[3, 2], &[0, 0, 0, 1, 1, 0, 1]),
            (&[1, 7], &[0, 1, 2, 3, 4, 5, 6]),
        ];
        for (steps, owners) in cases {
            let mut map = initial(7, steps[0]);
            for &step in &steps[1..] {
                map = map.rescale(step).unwrap();
            }
            assert_eq!(map.table(), owners, "{steps:?}");
        }
    }

    #[test]
    fn a_map_is_stored_as_ranges() {
        let map = initial(7, 2).rescale(3).unwrap();
        let text = r#"{"max_parallelism":7,"parallelism":3,"ranges":[[0,3,0],[3,4,2],[4,6,1],[6,7,2]]}"#;
        assert_eq!(serde_json::to_string(&map).unwrap(), text);
        assert_eq!(serde_json::from_str::<KeyGroupMap>(text).unwrap(), map);
        let range = |start, end| KeyGroupRange { start: KeyGroup(start), end: KeyGroup(end) };
        assert_eq!(map.owned(2), [range(3, 4), range(6, 7)]);
        assert_eq!(map.owned(3), []);
        assert_eq!([map.owner(KeyGroup(6)), map.owner(KeyGroup(7))], [Some(2), None]);
    }

    #[test]
    fn a_damaged_map_is_refused() {
        let cases = [
            ("7", "2", "[[0,4,0]]", "key group 4"),
            ("7", "2", "[[0,4,0],[5,7,1]]", "key group 4"),
            ("7", "2", "[[0,4,0],[3,7,1]]", "key group 4"),
            ("7", "2", "[[0,4,0],[4,4,1],[4,7,1]]", "key group 4"),
            ("7", "2", "[[0,4,0],[4,8,1]]", "key group 4"),
            ("7", "2", "[[0,4,0],[4,7,2]]", "subtask 2 at a parallelism of 2"),
            ("7", "2", "[]", "key group 0"),
            ("7", "8", "[[0,7,0]]", "above maxParallelism 7"),
            ("7", "0", "[[0,7,0]]", "parallelism is 0"),
            ("0", "1", "[]", "maxParallelism is 0"),
        ];
        for (groups, parallelism, ranges, complaint) in cases {
            let text = format!(r#"{{"max_parallelism":{groups},"parallelism":{parallelism},"ranges":{ranges}}}"#);
            let error = serde_json::from_str::<KeyGroupMap>(&text).unwrap_err().to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn every_rescale_of_a_history_is_balanced_and_moves_the_fewest(
            groups in 8_u32..300,
            history in prop::collection::vec(1_u32..=8, 1..12),
        ) {
            let mut map = initial(groups, history[0]);
            for &parallelism in &history[1..] {
                let next = map.rescale(parallelism).unwrap();
                let sizes = sizes(&next);
                prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
                prop_assert_eq!(moved(&map, &next), fewest_moves(&map, parallelism as usize));
                map = next;
            }
            let stored = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(serde_json::from_str::<KeyGroupMap>(&stored).unwrap(), map);
        }

        #[test]
        fn an_initial_map_is_balanced_and_contiguous(groups in 1_u32..=32_768, share in 0.0..1.0_f64) {
            let parallelism = 1 + (f64::from(groups - 1) * share) as u32;
            let map = initial(groups, parallelism);
            let sizes = sizes(&map);
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            prop_assert!(map.table().is_sorted());
            prop_assert_eq!(map.rescale(parallelism).unwrap(), map);
        }

        #[test]
        fn every_hash_has_a_key_group(groups in 1_u32..=32_768, hash: u64) {
            let max = MaxParallelism::new(groups).unwrap();
            prop_assert!(u32::from(max.key_group_of_hash(hash).0) < groups);
        }
    }
}
