//! State that does not fit, or that is damaged.

use super::place::*;
use super::rows::{TABLE, numbered, numbered_rows};
use std::fs;
use std::path::{Path, PathBuf};

/// A job that was stopped on its way, with output where its sink has any.
pub(crate) fn after_a_stop(sink: &str) -> Place {
    let place = Place::new(&numbered(TABLE, sink, COUNT), &numbered_rows(3000));
    let running = place.start(&["run", "job.yaml", "--quiet", "--speed", "1"]);
    let has_output = || {
        fs::read_dir(place.path("bad")).is_ok_and(|mut entries| entries.any(|entry| is_visible(&entry.unwrap().path())))
    };
    running.until("there is output", has_output);
    let (code, said) = running.stop();
    assert_eq!(code, Some(STOPPED), "{said}");
    place
}

#[test]
fn a_state_that_does_not_fit_is_told_and_nothing_goes_on() {
    let place = after_a_stop(TOTALS);
    let before = (place.lines("out"), place.lines("bad"));
    let good = fs::read_to_string(place.path("job.yaml")).unwrap();
    let group = [
        "group by auction",
        "group by price",
        "no longer has the operator",
        "new in the plan",
        "allowDroppedState",
        "weir run --fresh",
    ];
    let table: [(&str, String, &[&str], &[&str]); 4] = [
        (
            "other key",
            good.replace("SELECT auction, count(*)", "SELECT price, count(*)")
                .replace("GROUP BY auction", "GROUP BY price"),
            &[],
            &group,
        ),
        (
            "key groups",
            good.replace("parallelism: 2", "parallelism: 2\n  maxParallelism: 64"),
            &[],
            &["maxParallelism is 64", "written with 128", "weir run --fresh"],
        ),
        (
            "other job",
            good.replace("name: job", "name: other"),
            &["--state-dir", ".weir/job"],
            &["belongs to the job 'job', not to 'other'"],
        ),
        (
            "too parallel",
            good.clone(),
            &["--parallelism", "129"],
            &["--parallelism 129 is above spec.maxParallelism", "hint: "],
        ),
    ];
    for (what, text, arguments, parts) in table {
        place.write("job.yaml", &text);
        place.check(what, &[&["run", "job.yaml"], arguments].concat(), USER_ERROR, parts);
        assert!((place.lines("out"), place.lines("bad")) == before, "{what}: output was repeated");
    }
    place.write("job.yaml", &good);
    place.check("the job as it was", &["run", "job.yaml"], FINISHED, &["has finished"]);
}

/// The files below a folder, in order.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort_unstable();
    found
}

pub(crate) fn flip(path: &Path) {
    let mut body = fs::read(path).unwrap();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    fs::write(path, body).unwrap();
}

fn cut(path: &Path) {
    let body = fs::read(path).unwrap();
    fs::write(path, &body[..body.len() / 2]).unwrap();
}

#[test]
fn damage_is_named_and_repeats_no_output() {
    let damages: [(&str, fn(&Path)); 2] = [("flipped", flip), ("cut", cut)];
    for (how, damage) in damages {
        for (what, folder) in [("head", "chain"), ("state", "state")] {
            let place = after_a_stop(TOTALS);
            let before = (place.lines("out"), place.lines("bad"));
            let all = files(&place.path(".weir/job").join(folder));
            let damaged = if what == "head" { &all[all.len() - 1..] } else { &all[..] };
            damaged.iter().for_each(|file| damage(file));
            let parts: &[&str] = if what == "head" {
                &["chain/", "is damaged", "would repeat"]
            } else {
                &["state/group-aggregate-", "would repeat"]
            };
            place.check(&format!("{what} {how}"), &["run", "job.yaml", "--quiet"], USER_ERROR, parts);
            assert!((place.lines("out"), place.lines("bad")) == before, "{what} {how}: output was repeated");
        }
    }
}

#[test]
fn a_savepoint_whose_link_is_gone_is_told() {
    let place = after_a_stop(TOTALS);
    place.check("create", &["savepoint", "create", "named", "job.yaml"], FINISHED, &[]);
    place.check("go on", &["run", "job.yaml"], FINISHED, &["has finished"]);
    let pointer = fs::read_to_string(place.path(".weir/job/savepoints/named")).unwrap();
    let pointer: serde_json::Value = serde_json::from_str(pointer.lines().nth(1).unwrap()).unwrap();
    let link = pointer["pin"]["link"].as_u64().unwrap();
    fs::remove_file(place.path(&format!(".weir/job/chain/{link:020}"))).unwrap();
    let missing = format!("link {link} is missing");
    let restore = ["run", "job.yaml", "--restore", "named"];
    place.check("restore", &restore, USER_ERROR, &["savepoint \"named\" cannot be used", &missing]);
    place.check("what does not need it", &["run", "job.yaml"], FINISHED, &["has finished before"]);
}
