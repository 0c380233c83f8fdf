//! What tables count of requests to their buckets.

use crate::checkpoint::store::s3::meter::{Meter, Reading};
use crate::numbers::{Family, Numbers};
use crate::plan::{NodeKind, Plan};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Shows the requests of this process to the buckets of a job's tables, told apart by `source` and `sink`.
pub struct TableNumbers(pub Arc<Plan>);

impl Numbers for TableNumbers {
    fn families(&self) -> Vec<Family> {
        let of = |((label, table), meters): (&(&'static str, &str), &Vec<Arc<Meter>>)| {
            let read = meters
                .iter()
                .map(|meter| meter.read())
                .reduce(|sum, more| sum.into_iter().zip(&more).map(|(reading, other)| reading.plus(other)).collect());
            Reading::families(Some((*label, *table)), &read.unwrap_or_default())
        };
        self.meters().iter().flat_map(of).collect()
    }
}

impl TableNumbers {
    /// The meters of each table. Several nodes may read or write one, by one connection or by several.
    fn meters(&self) -> BTreeMap<(&'static str, &str), Vec<Arc<Meter>>> {
        let mut meters: BTreeMap<_, Vec<Arc<Meter>>> = BTreeMap::new();
        for node in &self.0.nodes {
            let (label, table, meter) = match &node.kind {
                NodeKind::Source(source) => ("source", &source.table, source.source.meter()),
                NodeKind::Sink(sink) => ("sink", &sink.table, sink.sink.meter()),
                _ => continue,
            };
            let Some(meter) = meter else { continue };
            let known = meters.entry((label, table.name.as_str())).or_default();
            if !known.iter().any(|other| Arc::ptr_eq(other, &meter)) {
                known.push(meter);
            }
        }
        meters
    }
}
