//! The page on metrics says what there is.

use super::{board, fill};
use crate::api::{JobNumbers, ProcessNumbers, TaskNumbers};
use crate::checkpoint::store::copies::Copies;
use crate::checkpoint::store::directory::DirectoryStore;
use crate::checkpoint::store::s3::meter::Meter;
use crate::exchange::{Exchange, Settings};
use crate::numbers::{Kind, Numbers};
use crate::tls::tests::jobs;
use crate::tls::{Role, Security};
use std::collections::BTreeSet;
use std::sync::Arc;

const PAGE: &str = include_str!("../../../../docs/metrics.md");

#[test]
fn every_metric_is_documented_and_nothing_else() {
    let (board, jobs) = (board(), jobs());
    fill(&board);
    let readings = Arc::clone(&board);
    let exchange = Exchange::listen("127.0.0.1:0".parse().unwrap(), Security::Insecure, Settings::new("bids", 0));
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(DirectoryStore::open(folder.path().join("state")).unwrap());
    let parts: [Arc<dyn Numbers>; 8] = [
        Arc::clone(&board.reused) as _,
        Arc::new(Copies::open(store, folder.path().join("copies"), 1).unwrap()),
        Arc::new(TaskNumbers(move || readings.readings())),
        Arc::new(JobNumbers(board)),
        Arc::new(ProcessNumbers),
        jobs.own.identity(Role::Worker).unwrap(),
        exchange.unwrap(),
        Arc::new(Meter::default()),
    ];
    let families = parts.iter().flat_map(|part| part.families());
    let there: BTreeSet<String> = families
        .map(|family| {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.'), "{}: {}", family.name, family.help);
            format!("| `{}` | {kind} |", family.name)
        })
        .collect();
    // Behind it come those of the controller.
    let (workers, _) = PAGE.split_once("\n## The controller").unwrap();
    let rows = workers.lines().filter(|line| line.starts_with("| `weir_") || line.starts_with("| `process_"));
    let documented: BTreeSet<String> =
        rows.map(|row| row.split(" | ").take(2).collect::<Vec<_>>().join(" | ") + " |").collect();
    assert_eq!(there, documented);
}
