//! Beginning with state of another place.

use super::place::*;
use super::rows::{numbered, values};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// The numbers of each auction, after all changes: what a reader of the changelog holds in the end.
fn folded(lines: &[(String, String)]) -> BTreeMap<i64, i64> {
    let mut totals: BTreeMap<i64, i64> = BTreeMap::new();
    for (_, line) in lines {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let (auction, n) = (row["auction"].as_i64().unwrap(), row["n"].as_i64().unwrap());
        let sign = if row["op"].as_str().unwrap().starts_with('+') { 1 } else { -1 };
        *totals.entry(auction).or_default() += sign * n;
    }
    totals.retain(|_, n| *n != 0);
    totals
}

/// What the changelogs in these folders, one after the other, come to.
fn totals(place: &Place, folders: &[&str]) -> BTreeMap<i64, i64> {
    let lines = folders.iter().flat_map(|folder| {
        let folder = (*folder).to_owned();
        place.lines(&folder).into_iter().map(move |line| (folder.clone(), line))
    });
    folded(&lines.collect::<Vec<_>>())
}

fn rows(auctions: &[i64]) -> String {
    let row = |auction: &i64| format!("{{\"auction\":{auction},\"price\":1,\"at\":\"2026-01-01 00:00:00\"}}\n");
    auctions.iter().map(row).collect()
}

/// A job of this name that counts rows per auction into a folder of its own.
fn counting(name: &str, spec: &str) -> String {
    let sink = TOTALS.replace("'out'", &format!("'out-{name}'"));
    let spec = format!("  checkpoint: {{interval: 20ms}}\n{spec}");
    manifest(&spec, &[BIDS, &sink, COUNT]).replace("name: job", &format!("name: {name}"))
}

/// A place where the job `first` has counted what there was, and more has come since.
fn after_first() -> Place {
    let place = Place::new(&counting("first", ""), &rows(&[1, 2, 2, 3]));
    place.check("first", &["run", "job.yaml"], FINISHED, &["has finished"]);
    place.check("first", &["savepoint", "create", "named", "job.yaml"], FINISHED, &[]);
    place.write("in/b.json", &rows(&[2, 3, 4]));
    place
}

#[test]
fn a_job_goes_on_from_the_state_of_another_with_exact_results() {
    let link = |place: &Place| {
        let mut links: Vec<_> =
            fs::read_dir(place.path(".weir/first/chain")).unwrap().map(|link| link.unwrap().file_name()).collect();
        links.sort();
        let number: u64 = links.last().unwrap().to_str().unwrap().parse().unwrap();
        format!(".weir/first/chain/{number}")
    };
    let expected = BTreeMap::from([(1, 1), (2, 3), (3, 2), (4, 1)]);
    let ways: [(&str, &str, fn(&Place) -> Option<String>); 6] = [
        ("newest", "", |_| Some(".weir/first".into())),
        ("savepoint", "", |_| Some(".weir/first/savepoints/named".into())),
        ("link", "", |_| Some(String::new())),
        ("job", "  restoreFrom: {job: {name: first}}\n", |_| None),
        ("path", "  restoreFrom: {path: .weir/first}\n", |_| None),
        ("savepoint of another", "  restoreFrom: {savepoint: named}\n", |_| None),
    ];
    for (what, spec, path) in ways {
        let place = after_first();
        place.write("second.yaml", &counting("second", spec));
        let path = path(&place).map(|path| if path.is_empty() { link(&place) } else { path });
        let mut arguments = vec!["run", "second.yaml", "--parallelism", "3"];
        if let Some(path) = &path {
            arguments.extend(["--restore", path]);
        }
        place.check(what, &arguments, FINISHED, &["job second begins with checkpoint", "of job first", "has finished"]);
        // What the first had written is its own; the second writes what has changed since.
        assert_eq!(totals(&place, &["out-first", "out-second"]), expected, "{what}");
        let second = place.lines("out-second");
        assert!(!second.iter().any(|line| line.contains("\"auction\":1,")), "{what}: {second:?}");

        // All of the state is its own now.
        fs::rename(place.path(".weir/first"), place.path("elsewhere")).unwrap();
        place.check(what, &["savepoint", "create", "own", "second.yaml"], FINISHED, &[]);
        place.write("in/c.json", &rows(&[1, 1]));
        place.check(what, &["run", "second.yaml", "--restore", "own"], FINISHED, &["has finished"]);
        let expected = BTreeMap::from([(1, 3), (2, 3), (3, 2), (4, 1)]);
        assert_eq!(totals(&place, &["out-first", "out-second"]), expected, "{what}");
        // What the first had counted of it is part of the number.
        let second = place.lines("out-second");
        assert!(second.iter().any(|line| line.contains("\"auction\":1,\"n\":3")), "{what}: {second:?}");

        // The first is where it was: it counts the same rows for itself.
        fs::rename(place.path("elsewhere"), place.path(".weir/first")).unwrap();
        place.check(what, &["run", "job.yaml", "--restore", "named"], FINISHED, &["has finished"]);
        assert_eq!(totals(&place, &["out-first"]), expected, "{what}");
    }
}

#[test]
fn a_time_to_live_is_added_to_a_state_and_taken_away() {
    let place = Place::new(&counting("first", ""), &rows(&[1, 2, 2, 3]));
    place.check("without", &["run", "job.yaml"], FINISHED, &["has finished"]);
    let ttl = "SET 'table.exec.state.ttl' = '1 h';\n      CREATE TABLE bids";
    let with = counting("first", "").replace("CREATE TABLE bids", ttl);
    let mut expected = BTreeMap::from([(1, 1), (2, 2), (3, 1)]);
    for (at, (what, text)) in
        [("with", &with), ("without again", &counting("first", "")), ("with again", &with)].into_iter().enumerate()
    {
        let savepoint = format!("named-{at}");
        place.check(what, &["savepoint", "create", &savepoint, "job.yaml"], FINISHED, &[]);
        place.write("job.yaml", text);
        place.write(&format!("in/{}.json", ["b", "c", "d"][at]), &rows(&[2, 3]));
        place.check(what, &["check", "job.yaml", "--against", ".weir/first"], FINISHED, &[]);
        place.check(what, &["run", "job.yaml", "--restore", &savepoint], FINISHED, &["has finished"]);
        expected.entry(2).and_modify(|n| *n += 1);
        expected.entry(3).and_modify(|n| *n += 1);
        assert_eq!(totals(&place, &["out-first"]), expected, "{what}");
    }
}

#[test]
fn what_a_job_is_to_begin_with_is_checked_beforehand() {
    let place = after_first();
    place.write("second.yaml", &counting("second", ""));
    let other = counting("second", "").replace("GROUP BY auction", "GROUP BY auction, price");
    place.write("other.yaml", &other);
    let check = |manifest: &str, from: &str, code, parts: &[&str]| {
        let arguments = ["check", manifest, "--restore", from];
        let output =
            Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).current_dir(place.path("")).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{from}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{from}: {said}");
    };
    check("job.yaml", "named", FINISHED, &["fits savepoint 'named'"]);
    check("job.yaml", "nowhere", USER_ERROR, &["job first has no savepoint 'nowhere'"]);
    for from in [".weir/first", ".weir/first/savepoints/named"] {
        check("second.yaml", from, FINISHED, &["fits checkpoint", ".weir/first"]);
        check("other.yaml", from, USER_ERROR, &["does not fit checkpoint", "new in the plan: group-aggregate"]);
    }
    check("second.yaml", "./gone", USER_ERROR, &["gone could not be read"]);
    place.check("both", &["check", "job.yaml", "--restore", "named", "--against", "own"], USER_ERROR, &["--against"]);
    assert!(!place.path(".weir/second").exists(), "nothing is made");
}

#[test]
fn a_value_of_restore_from_is_used_once() {
    let place = after_first();
    let write = |spec: &str| place.write("second.yaml", &counting("second", spec));
    let run = |what: &str, parts: &[&str]| place.check(what, &["run", "second.yaml"], FINISHED, parts);
    write("  restoreFrom: {job: {name: first}}\n");
    run("the first run", &["begins with checkpoint", "has finished"]);
    let after = totals(&place, &["out-first", "out-second"]);
    run("the same value again", &["has finished before"]);
    fs::rename(place.path(".weir/first"), place.path("elsewhere")).unwrap();
    run("without its place", &["has finished before"]);
    assert_eq!(totals(&place, &["out-first", "out-second"]), after);
    write("  restoreFrom: {path: elsewhere}\n");
    run("another value", &["begins with checkpoint", "has finished"]);
    write("");
    run("no value", &["has finished before"]);
    write("  restoreFrom: {path: elsewhere}\n");
    run("a value that was used last", &["has finished before"]);
}

#[test]
fn what_cannot_be_begun_with_is_told() {
    let place = after_first();
    place.write("second.yaml", &counting("second", ""));
    let from = |path: &'static str, parts: &[&str]| {
        place.check(path, &["run", "second.yaml", "--restore", path], USER_ERROR, parts);
    };
    fs::create_dir(place.path("empty")).unwrap();
    from("./nowhere", &["./nowhere could not be read", "No such file"]);
    from("./empty", &["./empty holds no state of a job"]);
    from(".weir/first/savepoints/name", &["has no savepoint 'name'", "perhaps 'named' is meant"]);
    from(".weir/first/chain/99", &["link 99", "is not a checkpoint that is kept", "those that are: "]);
    from(".weir/first/chain/1", &["link 1", "is not a checkpoint that is kept"]);
    from("s3://bucket/state", &["the region of the bucket 'bucket' is not known", "AWS_REGION"]);
    fs::rename(place.path(".weir/first"), place.path("first")).unwrap();
    from("first", &["no savepoint 'first' of this job", "--restore ./first"]);
    // Nothing of the job that did not begin is there.
    place.has_only("refused", &[".weir", "empty", "first", "in", "job.yaml", "out-first", "second.yaml"]);
    assert!(!place.path(".weir/second").exists());

    let other_key = counting("second", "").replace("SELECT auction, count(*)", "SELECT price, count(*)");
    place.write("second.yaml", &other_key.replace("GROUP BY auction", "GROUP BY price"));
    from("./first", &["group by auction", "--fresh", "new in the plan: ", "group by price"]);

    let held = weir_worker::job::directory::lock::DirectoryLock::take(&place.path("first")).unwrap();
    from("./first", &["first is in use by process", "take a savepoint"]);
    place.write("second.yaml", &counting("second", ""));
    // A savepoint stays as long as it is wanted, whatever the job does.
    let path = ["run", "second.yaml", "--restore", "first/savepoints/named"];
    place.check("a savepoint of a running job", &path, FINISHED, &["has finished"]);
    drop(held);
}

#[test]
fn damaged_state_of_another_place_ends_the_run() {
    let place = after_first();
    place.write("second.yaml", &counting("second", ""));
    for file in super::damage::files(&place.path(".weir/first/state")) {
        super::damage::flip(&file);
    }
    let parts = ["state/group-aggregate-", "the state that the job was to begin with cannot be used", "--fresh"];
    place.check("damaged", &["run", "second.yaml", "--restore", ".weir/first"], USER_ERROR, &parts);
    // Where it was to begin is written down, so the next run does not begin anew by mistake.
    place.check("damaged, again", &["run", "second.yaml"], USER_ERROR, &parts);
    place.check("begun anew", &["run", "second.yaml", "--fresh"], FINISHED, &["has finished"]);
    assert_eq!(totals(&place, &["out-second"]), BTreeMap::from([(1, 1), (2, 3), (3, 2), (4, 1)]));
}

#[test]
fn a_killed_run_begins_with_the_other_state_again_until_it_has_its_own() {
    let all = super::rows::numbered_rows(1500);
    let (before, after) = all.split_at(all.find("{\"auction\":1,\"price\":701,").unwrap());
    let named = |name: &str| {
        numbered(super::rows::TABLE, TOTALS, PRICES)
            .replace("'out'", &format!("'out-{name}'"))
            .replace("'path' = 'bad'", &format!("'path' = 'bad-{name}'"))
            .replace("name: job", &format!("name: {name}"))
    };
    let place = Place::new(&named("first"), before);
    place.check("first", &["run", "job.yaml"], FINISHED, &["has finished"]);
    place.write("in/b.json", after);
    place.write("second.yaml", &named("second"));
    let first = ["run", "second.yaml", "--quiet", "--speed", "10", "--restore", ".weir/first"];
    // Killed at once. What has begun is written in the chain; what has not is to be said again.
    let (code, said) = place.start(&first).end(Duration::from_millis(150));
    assert!(matches!(code, None | Some(FINISHED)), "{said}");
    let links = fs::read_dir(place.path(".weir/second/chain"));
    let begun = links.is_ok_and(|mut links| links.any(|link| is_visible(&link.unwrap().path())));
    if !begun {
        place.check("the second run", &first, FINISHED, &[]);
    }
    for moment in [200, 350, 300] {
        let (code, said) =
            place.start(&["run", "second.yaml", "--quiet", "--speed", "10"]).end(Duration::from_millis(moment));
        assert!(matches!(code, None | Some(FINISHED)), "{said}");
    }
    place.check("the last run", &["run", "second.yaml"], FINISHED, &["has finished"]);
    let both = [place.lines("out-first"), place.lines("out-second")].concat();
    let mut expected: Vec<String> = (0..1500).map(|n: u32| n.to_string()).collect();
    expected.sort_unstable();
    assert_eq!(values(&both, "n"), expected);
}
