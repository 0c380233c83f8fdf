//! Savepoints as Parquet.

use super::place::*;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The Parquet files in the folders below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    entries(folder).iter().filter(|path| path.is_dir()).flat_map(|folder| entries(folder)).collect()
}

/// The rows of each auction, by the state.
fn counts(folder: &Path) -> BTreeMap<i64, i64> {
    let mut counts = BTreeMap::new();
    for path in files(folder) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap().build().unwrap();
        for batch in reader {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
            counts.extend(column("auction").into_iter().zip(column("count(*)")));
        }
    }
    counts
}

fn rows() -> String {
    (0..1000).map(|n| format!("{{\"auction\":{},\"price\":2,\"at\":\"2026-01-01 00:00:00\"}}\n", n % 150)).collect()
}

#[test]
fn a_savepoint_is_exported_by_name_and_by_path() {
    let place = Place::new(&job(COUNT), &rows());
    place.check("run", &["run", "job.yaml"], FINISHED, &["has finished"]);
    place.check("create", &["savepoint", "create", "named", "job.yaml"], FINISHED, &[]);
    let expected: BTreeMap<i64, i64> = (0..150).map(|auction| (auction, if auction < 100 { 7 } else { 6 })).collect();
    let ways: [(&str, &[&str]); 5] = [
        ("of the manifest", &["named", "job.yaml"]),
        ("of the state", &["named", ".weir/job"]),
        ("of --state-dir", &["latest", "--state-dir", ".weir/job"]),
        ("by path", &[".weir/job/savepoints/named"]),
        ("the newest by path", &["./.weir/job"]),
    ];
    for (what, which) in ways {
        let to = place.path(what);
        let to_text = to.to_str().unwrap();
        place.check(what, &[&["savepoint", "export", "--to", to_text], which].concat(), FINISHED, &[]);
        assert_eq!(counts(&to), expected, "{what}");
        let index: serde_json::Value = serde_json::from_slice(&fs::read(to.join("index.json")).unwrap()).unwrap();
        assert_eq!(index["job"], "job", "{what}");
        let operators = index["operators"].as_array().unwrap();
        let rows: u64 = operators
            .iter()
            .flat_map(|of| of["tables"].as_array().unwrap())
            .map(|of| of["rows"].as_u64().unwrap())
            .sum();
        assert_eq!(rows, 150, "{what}");
        assert!(operators.iter().any(|of| of["finishedSplits"].is_array()), "{what}: {index}");
    }
}

#[test]
fn what_cannot_be_exported_is_said_and_nothing_is_left() {
    let place = Place::new(&job(COUNT), &rows());
    place.check("run", &["run", "job.yaml"], FINISHED, &[]);
    place.check("create", &["savepoint", "create", "named", "job.yaml"], FINISHED, &[]);
    fs::create_dir(place.path("full")).unwrap();
    place.write("full/mine", "");
    let table: [(&str, &[&str], &[&str]); 5] = [
        ("no such name", &["nmaed", "job.yaml", "--to", "out2"], &["has no savepoint 'nmaed'", "'named' is meant"]),
        ("no such path", &["./none", "--to", "out2"], &["none"]),
        ("no job", &["named", "--to", "out2"], &["which job?"]),
        ("a full folder", &["named", "job.yaml", "--to", "full"], &["full is not empty", "--to"]),
        ("a file", &["named", "job.yaml", "--to", "job.yaml"], &["no folder can be made at job.yaml"]),
    ];
    let names = [".weir", "full", "in", "job.yaml", "out"];
    for (what, arguments, parts) in table {
        place.check(what, &[&["savepoint", "export"], arguments].concat(), USER_ERROR, parts);
        place.has_only(what, &names);
    }
    let state = files(&place.path(".weir/job/state"));
    let body = fs::read(&state[0]).unwrap();
    let mut damaged = body.clone();
    damaged[body.len() / 3] ^= 4;
    fs::write(&state[0], damaged).unwrap();
    let export = ["savepoint", "export", "named", "job.yaml", "--to", "out2"];
    place.check("damage", &export, USER_ERROR, &["table groups", "state/", "nothing was exported"]);
    place.has_only("damage", &names);
    fs::remove_file(&state[0]).unwrap();
    place.check("a lost file", &export, USER_ERROR, &["table groups", "nothing was exported"]);
    place.has_only("a lost file", &names);
    fs::write(&state[0], body).unwrap();
    place.check("mended", &export, FINISHED, &[]);
}
