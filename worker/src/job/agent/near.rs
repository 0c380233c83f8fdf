//! Which state a worker will need when key groups move.

use super::Work;
use std::sync::atomic::{AtomicBool, Ordering};
use weir_protocol::chain::Manifest;
use weir_protocol::key_group::KeyGroupMap;
use weir_protocol::members::Placement;
use weir_protocol::snapshot::KeyGroupRange;

/// Brings the files near that have state of the key groups which this worker will own, until it is overtaken.
pub(super) fn fetch(
    work: &Work,
    manifest: &Manifest,
    key_groups: &KeyGroupMap,
    placement: &Placement,
    overtaken: &AtomicBool,
) {
    let files = files(manifest, key_groups, placement, work.worker);
    for file in files.iter().take_while(|_| !overtaken.load(Ordering::Relaxed)) {
        if let Err(failure) = work.store.fetch(file) {
            tracing::warn!(file, error = failure.chain(), "state that will be needed could not be brought near");
        }
    }
}

/// Their paths, largest first: what is small can be had late.
fn files(manifest: &Manifest, key_groups: &KeyGroupMap, placement: &Placement, worker: u32) -> Vec<String> {
    let subtasks = (0..key_groups.parallelism()).filter(|subtask| placement.worker_of(*subtask) == worker);
    let owned: Vec<KeyGroupRange> = subtasks.flat_map(|subtask| key_groups.owned(subtask)).collect();
    let overlaps = |range: &KeyGroupRange| owned.iter().any(|own| own.start < range.end && range.start < own.end);
    let mut files: Vec<_> = manifest.files().filter(|file| file.key_groups.iter().any(overlaps)).collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.bytes));
    files.into_iter().map(|file| file.path.clone()).collect()
}
