//! The binary as its user meets it: help, messages, exit codes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const FINISHED: i32 = 0;
const USER_ERROR: i32 = 2;

/// Runs `weir` in `folder`.
fn weir(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments).current_dir(folder).output().unwrap()
}

/// Standard output, then standard error.
fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs `weir` in `folder`; it must end with `code` and say all of `parts`.
fn check(folder: &Path, arguments: &[&str], code: i32, parts: &[&str]) -> String {
    let output = weir(folder, arguments);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(code), "weir {}\n{said}", arguments.join(" "));
    for part in parts {
        assert!(said.contains(part), "weir {} does not say {part:?}:\n{said}", arguments.join(" "));
    }
    said
}

/// A manifest of a job that counts 2000 rows in groups; `spec` is added to its spec.
fn manifest(name: &str, spec: &str, query: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1
kind: StreamJob
metadata: {{name: {name}}}
spec:
  parallelism: 2
  checkpoint: {{interval: 20ms}}
{spec}  pipeline:
    sql: |
      CREATE TABLE numbers (k BIGINT, v INT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000000',
        'number-of-rows' = '2000', 'fields.k.min' = '0', 'fields.k.max' = '9');
      CREATE TABLE nowhere (k BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
      {query}
"
    )
}

const COUNT: &str = "INSERT INTO nowhere SELECT k, count(*) FROM numbers GROUP BY k;";

/// A folder with `job.yaml`, whose job has run to its end.
fn after_a_run() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("job.yaml"), manifest("count", "", COUNT)).unwrap();
    check(folder.path(), &["run", "job.yaml", "--quiet"], FINISHED, &[]);
    folder
}

#[test]
fn every_command_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let table: [(&[&str], &[&str]); 13] = [
        (&["--help"], &["run", "check", "explain", "savepoint", "bench", "completion", "Exit codes"]),
        (&["run", "--help"], &["--fresh", "--restore", "--state-dir", "Examples"]),
        (&["check", "--help"], &["--against", "Examples"]),
        (&["explain", "--help"], &["--dot", "Examples"]),
        (&["savepoint", "--help"], &["list", "inspect", "create", "delete"]),
        (&["savepoint", "list", "--help"], &["--json", "--state-dir"]),
        (&["savepoint", "inspect", "--help"], &["latest"]),
        (&["savepoint", "create", "--help"], &["POST /v1/savepoints"]),
        (&["bench", "--help"], &["nexmark", "exchange"]),
        (&["bench", "exchange", "--help"], &["--megabytes", "--lz4", "--insecure", "Examples"]),
        (&["bench", "nexmark", "--help"], &["--queries", "--rate", "--checkpoint-interval", "Examples"]),
        (&["completion", "--help"], &["bash"]),
        (&["--version"], &["weir "]),
    ];
    for (arguments, parts) in table {
        let said = check(folder.path(), arguments, FINISHED, parts);
        assert!(
            !said.contains("\n  measure") && !said.contains("\n  send"),
            "the benchmark's own command is nobody else's business:\n{said}"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        check(folder.path(), &["completion", shell], FINISHED, &["weir", "savepoint"]);
    }
}

#[test]
fn a_bad_manifest_is_refused_with_its_place_and_nothing_is_written() {
    let good = manifest("job", "", COUNT);
    let table: [(&str, String, &[&str]); 7] = [
        ("broken YAML", "kind: [StreamJob".to_owned(), &["job.yaml", "line 1"]),
        ("unknown field", good.replace("parallelism", "paralelism"), &["spec.paralelism", "parallelism"]),
        ("wrong type", good.replace("parallelism: 2", "parallelism: two"), &["spec.parallelism", "line 5"]),
        ("two choices", manifest("job", "  restart: {none: {}, fixedDelay: {}}\n", COUNT), &["spec.restart"]),
        ("too parallel", manifest("job", "  maxParallelism: 1\n", COUNT), &["parallelism", "maxParallelism"]),
        ("SQL", manifest("job", "", "INSERT INTO nowhere SELECT k, count( FROM numbers;"), &["line 12", "^"]),
        (
            "table",
            manifest("job", "", &COUNT.replace("FROM numbers", "FROM number")),
            &["line 12", "number", "numbers"],
        ),
    ];
    for (what, text, parts) in table {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("job.yaml"), text).unwrap();
        for command in ["check", "explain", "run"] {
            let said = check(folder.path(), &[command, "job.yaml"], USER_ERROR, parts);
            assert!(said.starts_with("error: "), "{what}: {said}");
        }
        assert!(!folder.path().join(".weir").exists(), "{what}");
    }
}

#[test]
fn what_is_wrong_with_files_and_folders_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("job.yaml"), manifest("job", "", COUNT)).unwrap();
    fs::write(
        path.join("config.yaml"),
        manifest("job", "", COUNT).split("  pipeline:").next().unwrap().to_owned()
            + "  pipeline: {sqlFrom: {configMapKeyRef: {name: a, key: b}}}\n",
    )
    .unwrap();
    fs::write(path.join("file"), "").unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    let table: [(&[&str], &[&str]); 9] = [
        (&["run", "nothing.yaml"], &["nothing.yaml could not be read", "No such file"]),
        (&["check", "."], &["could not be read"]),
        (&["check", "config.yaml"], &["sqlFrom", "hint: "]),
        (&["run", "job.yaml", "--parallelism", "200"], &["--parallelism 200", "maxParallelism", "128"]),
        (&["run", "job.yaml", "--state-dir", "file/state"], &["file/state", "could not be created"]),
        (&["check", "job.yaml", "--against", "missing"], &["missing could not be read"]),
        (&["savepoint", "list"], &["--state-dir"]),
        (&["savepoint", "list", "job.yaml"], &[".weir/job could not be read"]),
        (&["savepoint", "list", "--state-dir", "empty"], &["empty holds no state", "hint: "]),
    ];
    for (arguments, parts) in table {
        check(path, arguments, USER_ERROR, parts);
    }
    assert!(!path.join(".weir").exists());
    check(path, &["check", "job.yaml", "--against", "empty"], FINISHED, &["ok: job job", "holds no state"]);
    check(path, &["bench", "nexmark", "--queries", "q0,q99"], USER_ERROR, &["no query q99", "q0, q1"]);
}

#[test]
fn a_folder_that_may_not_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("job.yaml"), manifest("job", "", COUNT)).unwrap();
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write everywhere.
    if fs::write(locked.join("probe"), "").is_err() {
        check(
            folder.path(),
            &["run", "job.yaml", "--state-dir", "locked/state"],
            USER_ERROR,
            &["locked/state", "denied"],
        );
    }
}

#[test]
fn a_finished_job_says_so_and_its_state_is_checked_against_changes() {
    let folder = after_a_run();
    let path = folder.path();
    check(path, &["run", "job.yaml"], FINISHED, &["has finished before", "--fresh"]);
    check(
        path,
        &["check", "job.yaml", "--against", ".weir/count"],
        FINISHED,
        &["ok: job count", "fits checkpoint", "has finished"],
    );
    let write = |name: &str, text: String| fs::write(path.join(name), text).unwrap();
    write("other.yaml", manifest("other", "", COUNT));
    write("groups.yaml", manifest("count", "  maxParallelism: 64\n", COUNT));
    write("wider.yaml", manifest("count", "", COUNT).replace("parallelism: 2", "parallelism: 3"));
    let dropped = "INSERT INTO nowhere SELECT k, v FROM numbers;";
    write("dropped.yaml", manifest("count", "", dropped));
    write("allowed.yaml", manifest("count", "  allowDroppedState: true\n", dropped));
    let state = ["--against", ".weir/count"];
    let table: [(&str, i32, &[&str]); 5] = [
        ("other.yaml", USER_ERROR, &["belongs to the job 'count', not to 'other'"]),
        ("groups.yaml", USER_ERROR, &["spec.maxParallelism", "64", "128"]),
        ("wider.yaml", FINISHED, &["written at parallelism 2, the job goes on with 3"]),
        ("dropped.yaml", USER_ERROR, &["no longer has the operator", "group by k", "allowDroppedState"]),
        ("allowed.yaml", FINISHED, &["will be lost"]),
    ];
    for (manifest, code, parts) in table {
        check(path, &["check", manifest, state[0], state[1]], code, parts);
    }
    check(path, &["run", "other.yaml", "--state-dir", ".weir/count"], USER_ERROR, &["belongs to the job 'count'"]);
}

#[test]
fn savepoints_are_made_shown_restored_and_deleted() {
    let folder = after_a_run();
    let path = folder.path();
    check(path, &["savepoint", "list", "job.yaml"], FINISHED, &["has no savepoints"]);
    check(path, &["savepoint", "create", "before-upgrade", "job.yaml"], FINISHED, &["'before-upgrade' is complete"]);
    check(path, &["savepoint", "create", "before-upgrade", "job.yaml"], USER_ERROR, &["choose another name"]);
    check(path, &["savepoint", "create", "a/b", "job.yaml"], USER_ERROR, &["is no name for a savepoint"]);
    check(
        path,
        &["savepoint", "list", "--state-dir", ".weir/count"],
        FINISHED,
        &["name", "checkpoint", "before-upgrade"],
    );
    check(path, &["savepoint", "list", "job.yaml", "--json"], FINISHED, &["\"name\":\"before-upgrade\""]);
    check(
        path,
        &["savepoint", "inspect", "before-upgrade", "job.yaml"],
        FINISHED,
        &["group by k", "source numbers", "2 of 128 key groups"],
    );
    check(path, &["savepoint", "inspect", "latest", "job.yaml", "--json"], FINISHED, &["\"operators\""]);
    check(
        path,
        &["savepoint", "inspect", "before-upgrad", "job.yaml"],
        USER_ERROR,
        &["perhaps 'before-upgrade' is meant"],
    );
    check(
        path,
        &["savepoint", "delete", "befor-upgrade", "job.yaml"],
        USER_ERROR,
        &["perhaps 'before-upgrade' is meant"],
    );
    check(path, &["run", "job.yaml"], FINISHED, &["has finished before"]);
    check(
        path,
        &["run", "job.yaml", "--restore", "before-upgrade"],
        FINISHED,
        &["goes on from checkpoint", "has finished"],
    );
    check(path, &["savepoint", "delete", "before-upgrade", "--state-dir", ".weir/count"], FINISHED, &["is deleted"]);
    check(path, &["savepoint", "list", "job.yaml"], FINISHED, &["has no savepoints"]);
    check(path, &["run", "job.yaml", "--restore", "before-upgrade"], USER_ERROR, &["no savepoint"]);
}

#[test]
fn what_a_running_job_does_itself_is_told() {
    let folder = after_a_run();
    let state = folder.path().join(".weir/count");
    let held = weir_worker::job::directory::lock::DirectoryLock::take(&state).unwrap();
    let holder = format!("in use by process {}", std::process::id());
    let create = ["savepoint", "create", "a", "job.yaml"];
    check(folder.path(), &create, USER_ERROR, &[&holder, "weir run --http", "http://ADDRESS/v1/savepoints"]);
    check(folder.path(), &["run", "job.yaml"], USER_ERROR, &[&holder]);
    check(folder.path(), &["check", "job.yaml", "--against", ".weir/count"], FINISHED, &["fits checkpoint"]);
    check(folder.path(), &["savepoint", "list", "job.yaml"], FINISHED, &["has no savepoints"]);
    drop(held);
    check(folder.path(), &create, FINISHED, &["is complete"]);
}

#[test]
fn a_damaged_manifest_is_named() {
    let folder = after_a_run();
    let chain = folder.path().join(".weir/count/chain");
    let mut links: Vec<_> = fs::read_dir(&chain).unwrap().map(|entry| entry.unwrap().path()).collect();
    links.sort();
    for link in &links {
        let mut body = fs::read(link).unwrap();
        let place = body.len() / 2;
        body[place] ^= 1;
        fs::write(link, body).unwrap();
    }
    let head = links.last().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    let parts = [head.as_str(), "is damaged"];
    check(folder.path(), &["check", "job.yaml", "--against", ".weir/count"], USER_ERROR, &parts);
    check(folder.path(), &["run", "job.yaml"], USER_ERROR, &parts);
    check(folder.path(), &["savepoint", "inspect", "latest", "job.yaml"], USER_ERROR, &parts);
}

#[test]
fn a_plan_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("job.yaml"), manifest("count", "", COUNT)).unwrap();
    let output = weir(folder.path(), &["explain", "job.yaml"]);
    let page = String::from_utf8(output.stdout).unwrap();
    // The fingerprint and the ids change with the planner.
    let stable = |line: &str| match (line.split_once(", plan "), line.split_once('[')) {
        (Some((rest, _)), _) => rest.to_owned(),
        (None, Some((rest, _))) => format!("{rest}[id]"),
        (None, None) => line.to_owned(),
    };
    let stable: Vec<String> = page.lines().map(stable).collect();
    let expected = include_str!("cli/explain.txt").lines().collect::<Vec<_>>();
    assert_eq!(stable, expected, "{page}");
    let windowed = "CREATE TABLE late (ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1.5' SECOND) WITH (
        'connector' = 'datagen', 'number-of-rows' = '10');
      CREATE TABLE counts (n BIGINT, window_end TIMESTAMP(3)) WITH ('connector' = 'print');
      INSERT INTO counts SELECT count(*), window_end FROM TABLE(HOP(TABLE late, DESCRIPTOR(ts), INTERVAL '2' SECOND,
        INTERVAL '10' SECOND)) GROUP BY window_start, window_end;";
    fs::write(folder.path().join("late.yaml"), manifest("late", "", windowed)).unwrap();
    let parts = [
        "watermark: ts AS ts - INTERVAL '1.5' SECOND",
        "all rows to one task",
        "HOP windows of 10 s every 2 s",
        "new rows only",
    ];
    check(folder.path(), &["explain", "late.yaml"], FINISHED, &parts);
    check(
        folder.path(),
        &["explain", "job.yaml", "--dot"],
        FINISHED,
        &["digraph \"count\"", "subgraph cluster_1", "shuffled by key (k)"],
    );
}

#[test]
fn a_benchmark_sends_from_one_process_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["bench", "exchange", "--megabytes", "3", "--rows", "500", "--channels", "2", "--lz4", "--json"];
    let output = weir(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output));
    let objects: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let measured: Vec<_> = objects
        .iter()
        .map(|object| (object["connection"].as_str().unwrap(), object["rows_of"].as_str().unwrap()))
        .collect();
    assert_eq!(measured, [("plain", "numbers"), ("plain", "text"), ("mTLS", "numbers"), ("mTLS", "text")]);
    for object in objects {
        assert!(
            object["bytes"].as_u64().unwrap() >= 3_000_000 && object["sent_bytes"].as_u64().unwrap() > 0,
            "{object}"
        );
    }
}

#[test]
fn a_benchmark_measures_each_query_in_its_own_process() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["bench", "nexmark", "--queries", "q1,q2", "--events", "3000", "--json"];
    let output = weir(folder.path(), &arguments);
    assert!(output.status.success(), "{}", text(&output));
    let objects: Vec<serde_json::Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let queries: Vec<_> =
        objects.iter().map(|object| (object["query"].as_str().unwrap(), object["events"].as_u64().unwrap())).collect();
    assert_eq!(queries, [("q1", 3000), ("q2", 3000)]);
    assert!(objects.iter().all(|object| object["checkpoints"].as_u64().unwrap() >= 1));
    // Rows that event time sets free have come from somewhere too. Five thousand events are a hundred seconds of event time.
    let arguments = "bench nexmark --queries q11 --rate 5000 --seconds 1 --event-rate 50 --json";
    let output = weir(folder.path(), &arguments.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{}", text(&output));
    let measured: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(measured["p99_ms"].as_f64().unwrap() > 0.0, "{measured}");
}
