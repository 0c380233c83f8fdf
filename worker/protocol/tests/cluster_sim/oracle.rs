//! What must hold, whatever happened.

use crate::tasks::{ROWS, SPLITS, read_sums, sum};
use crate::world::World;
use weir_protocol::chain::{Link, Manifest, ObjectName, Origin, Stop, decode_link, parse_name};
use weir_protocol::{Generation, LinkNumber};

impl World {
    pub(crate) fn head(&self) -> Option<Link> {
        let links = self.store.objects.iter().rev();
        links
            .filter_map(|(name, body)| match parse_name(name)? {
                ObjectName::Link(number) => decode_link(number, body).ok(),
                _ => None,
            })
            .next()
    }

    pub(crate) fn newest_generation(&self) -> Generation {
        let claims = self.store.objects.keys().filter_map(|name| match parse_name(name)? {
            ObjectName::Generation(generation) => Some(generation),
            _ => None,
        });
        claims.max().unwrap_or_default()
    }

    pub(crate) fn link(&self, number: LinkNumber) -> Option<Link> {
        let body = self.store.objects.get(&ObjectName::Link(number).to_string())?;
        decode_link(number, body).ok()
    }

    pub(crate) fn manifest(&self, number: LinkNumber) -> Option<Manifest> {
        self.link(number)?.manifest().cloned()
    }

    /// What must hold once the job has finished.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        if !self.finished {
            return Err("the job has not finished".to_owned());
        }
        for split in 0..SPLITS {
            for row in 0..ROWS {
                if self.counts.get(&(split, row)) != Some(&1) {
                    return Err(format!("row {:?} is lost", (split, row)));
                }
            }
        }
        let head = self.head().ok_or("the chain is empty")?;
        if head.stop() != Some(Stop::Finished) {
            return Err("the head is not flagged finished".to_owned());
        }
        let Origin::Link(newest) = head.origin() else { return Err("the head has no state".to_owned()) };
        self.check_files("the head", newest)?;
        let manifest = self.manifest(newest).expect("its files were just read");
        let stored = |path: &str| self.store.files.get(path).cloned();
        let sums = read_sums(&manifest.operators[&sum()].files, &stored)?;
        if sums.len() != usize::from(SPLITS) || sums.values().any(|sum| *sum != ROWS) {
            return Err(format!("the final state is {sums:?}"));
        }
        for (name, link) in &self.answered {
            if !self.released.contains(name) {
                self.check_files(&format!("savepoint {name}"), *link)?;
            }
        }
        Ok(())
    }

    pub(crate) fn check_files(&self, what: &str, link: LinkNumber) -> Result<(), String> {
        let manifest = self.manifest(link).ok_or_else(|| format!("{what}: link {link} is gone"))?;
        match manifest.paths().find(|path| !self.store.files.contains_key(*path)) {
            Some(path) => Err(format!("{what}: file {path} is gone")),
            None => Ok(()),
        }
    }
}
