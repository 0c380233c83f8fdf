//! What may be deleted.
//!
//! Only what a retired manifest alone references, and what an earlier generation left unreferenced. A manifest is
//! retired when it is older than the newest `retain` ones, is not pinned by a savepoint, and is not the state that the
//! head stands for, nor one that a rollback would go back to. Starts do not count; one stays as long as a kept manifest takes its key-group map from it.

use super::link::{Link, Manifest, Origin};
use crate::ids::{Generation, LinkNumber};
use std::collections::{BTreeMap, BTreeSet};

/// What a leader with a permit may delete: the links first, so that no readable manifest ever lacks a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retirement {
    /// Links to delete.
    pub links: BTreeSet<LinkNumber>,
    /// Files that only they reference.
    pub files: BTreeSet<String>,
}

/// What retention may delete of the chain.
///
/// `links` are all readable links of the newest listing and those written since, `unreadable` the others, `head` the
/// newest link. `retain` below one counts as one.
#[must_use]
pub fn retire(
    links: &BTreeMap<LinkNumber, Link>,
    unreadable: &BTreeSet<LinkNumber>,
    head: &Link,
    retain: u32,
) -> Retirement {
    let kept = kept_links(links, head, retain);
    let oldest = oldest_retained(links, retain);
    let retired = |number: &LinkNumber| !kept.contains(number) && *number < head.number();
    let readable = links.keys().copied().filter(retired);
    // An unreadable link is no restore point; it goes once every retained one is newer.
    let gone = |number: &LinkNumber| retired(number) && Some(*number) < oldest;
    let retired: BTreeSet<LinkNumber> = readable.chain(unreadable.iter().copied().filter(gone)).collect();
    if unreadable.iter().any(|number| !gone(number)) {
        // One that may still be repaired references nobody knows what: a later generation finds the orphans.
        return Retirement { links: retired, files: BTreeSet::new() };
    }
    let kept_files: BTreeSet<&str> =
        links.iter().filter(|(number, _)| !retired.contains(number)).flat_map(|(_, link)| paths(link)).collect();
    let files = retired
        .iter()
        .filter_map(|number| links.get(number))
        .flat_map(paths)
        .filter(|path| !kept_files.contains(path))
        .map(str::to_owned)
        .collect();
    Retirement { links: retired, files }
}

fn kept_links(links: &BTreeMap<LinkNumber, Link>, head: &Link, retain: u32) -> BTreeSet<LinkNumber> {
    let mut kept: BTreeSet<LinkNumber> = newest_manifests(links, retain).collect();
    kept.insert(head.number());
    kept.extend(head.savepoints().values().map(|pin| pin.link));
    let left = head.left().iter().map(|left| left.origin.clone());
    kept.extend(left.chain([head.origin()]).filter_map(|origin| match origin {
        Origin::Link(number) => Some(number),
        Origin::Empty | Origin::Foreign { .. } => None,
    }));
    // The newest start is the way back when the first manifest after it cannot be read.
    kept.extend(links.iter().rev().find(|(_, link)| link.manifest().is_none()).map(|(number, _)| *number));
    let starts: Vec<LinkNumber> = kept.iter().filter_map(|number| Some(links.get(number)?.manifest()?.start)).collect();
    kept.extend(starts);
    kept
}

fn newest_manifests(links: &BTreeMap<LinkNumber, Link>, retain: u32) -> impl Iterator<Item = LinkNumber> {
    let manifests = links.iter().rev().filter(|(_, link)| link.manifest().is_some());
    manifests.map(|(number, _)| *number).take(retain.max(1) as usize)
}

fn oldest_retained(links: &BTreeMap<LinkNumber, Link>, retain: u32) -> Option<LinkNumber> {
    newest_manifests(links, retain).last()
}

fn paths(link: &Link) -> impl Iterator<Item = &str> {
    link.manifest().into_iter().flat_map(Manifest::paths)
}

/// The generation that wrote a file of state, from its name `state/<operator>/<generation>-<uuid>`.
#[must_use]
pub fn generation_of_state_object(name: &str) -> Option<Generation> {
    let (operator, file) = name.strip_prefix("state/")?.rsplit_once('/')?;
    let (generation, rest) = file.split_once('-')?;
    let digits = !generation.is_empty() && generation.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !operator.is_empty() && !rest.is_empty()).then(|| generation.parse().ok().map(Generation)).flatten()
}

/// Whether a state object belongs to nobody: an earlier generation wrote it and no link references it. Objects of
/// `own` may be part of a checkpoint that is on its way.
#[must_use]
pub fn is_orphan(name: &str, own: Generation, links: &BTreeMap<LinkNumber, Link>) -> bool {
    let earlier = generation_of_state_object(name).is_some_and(|generation| generation < own);
    earlier && !links.values().flat_map(paths).any(|path| path == name)
}
