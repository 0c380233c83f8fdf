//! Jobs with their state in a bucket, as a user runs them.

use crate::bucket::gateway::{BUCKET, Gateway, KEY_ID, SECRET, Tls};
use crate::bucket::proxy::{Fault, Plan, Proxy};
use crate::queries::expected;
use crate::run::{self, PATIENCE};
use crate::self_signed;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use weir_worker::checkpoint::store::s3::Bucket;

/// Query 11 of the benchmark, with its state in a bucket and its output in a folder.
struct Job {
    folder: tempfile::TempDir,
}

impl Job {
    fn new(server: SocketAddr, storage: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let events = run::example("events.jsonl.gz");
        let source = format!("'connector' = 'filesystem', 'path' = '{}', 'format' = 'json'", events.display());
        let sink = format!(
            "'connector' = 'filesystem', 'path' = '{}', 'format' = 'csv', 'csv.field-delimiter' = '\\t'",
            folder.path().join("out").display()
        );
        let script = run::script("q11", &source, &sink);
        let manifest = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: q11, namespace: tests}}\nspec:\n  \
             parallelism: 2\n  checkpoint: {{interval: 50ms}}\n  storage:\n    s3: {{bucket: {BUCKET}, prefix: weir/jobs, \
             endpoint: 'http://{server}', region: us-east-1, forcePathStyle: true, {storage}}}\n  \
             pipeline:\n    sql: |\n      {script}\n"
        );
        fs::write(folder.path().join("job.yaml"), manifest).unwrap();
        Self { folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        run::weir(self.folder.path(), arguments)
    }

    /// Runs a command, which must end with `code` and say all of `parts`.
    fn check(&self, arguments: &[&str], code: i32, parts: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "weir {}\n{said}", arguments.join(" "));
        for part in parts {
            assert!(said.contains(part), "weir {} does not say {part:?}:\n{said}", arguments.join(" "));
        }
        said
    }

    /// Runs until it ends or `moment` comes, which kills it; its exit code, if it had one, and what it said.
    fn run_until(&self, moment: Duration, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = self.command(&["run", "job.yaml", "--quiet"]);
        command.args(arguments);
        run::run_until(moment, command)
    }

    fn finish(&self, arguments: &[&str]) {
        let (code, said) = self.run_until(PATIENCE, arguments);
        assert_eq!(code, Some(0), "{said}");
    }

    fn check_output(&self) {
        let left = self.check_visible_output();
        assert!(left.is_empty(), "{left:?} are left over");
    }

    /// The hidden files beside the output.
    fn check_visible_output(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join("out")).unwrap().map(|entry| entry.unwrap().path());
        let is_hidden = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with('.');
        let (hidden, visible): (Vec<_>, Vec<_>) = entries.partition(is_hidden);
        let lines = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
        let mut rows: Vec<String> = visible.iter().flat_map(lines).collect();
        rows.sort_unstable();
        let expected = expected("q11");
        assert!(rows == expected, "{} rows, {} expected", rows.len(), expected.len());
        hidden
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The folders of jobs in the bucket.
fn job_folders(gateway: &Gateway) -> Vec<String> {
    let entries = fs::read_dir(gateway.data().join("weir/jobs/tests")).unwrap();
    let folders = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn a_jobs_key_may_be_in_a_profile() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new(gateway.address, "");
    let profiles = job.folder.path().join("credentials");
    let key = |profile: &str, secret: &str| {
        format!("[{profile}]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {secret}\n")
    };
    fs::write(&profiles, key("default", "a wrong one") + &key("weir", SECRET)).unwrap();
    let run_as = |profile: &str| {
        let mut command = job.command(&["run", "job.yaml", "--quiet"]);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
        command.env("HOME", job.folder.path()).env("AWS_SHARED_CREDENTIALS_FILE", &profiles);
        command.env("AWS_PROFILE", profile);
        run::run_until(PATIENCE, command)
    };
    let (code, said) = run_as("default");
    assert!(code == Some(2) && !said.contains("a wrong one"), "{code:?}: {said}");
    let (code, said) = run_as("weir");
    assert_eq!(code, Some(0), "{said}");
    job.check_output();
}

#[test]
fn a_job_in_a_bucket_gives_what_flink_gave() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new(gateway.address, "");
    job.finish(&[]);
    job.check_output();
    let [folder] = &job_folders(&gateway)[..] else { panic!("one job has one folder") };
    assert!(folder.starts_with("q11-"));
    assert!(!job.folder.path().join(".weir").exists());
    job.check(&["run", "job.yaml"], 0, &["job q11 has finished before"]);
    job.check_output();
    job.check(&["savepoint", "create", "end", "job.yaml"], 0, &["savepoint 'end' is complete"]);
    job.check(&["savepoint", "list", "job.yaml"], 0, &["end"]);
    let url = format!("s3://{BUCKET}/weir/jobs/tests/{folder}");
    job.check(&["check", "job.yaml", "--against", &url], 0, &["fits checkpoint", "the job has finished"]);
    let endpoint = format!("http://{}", gateway.address);
    let mut inspect = job.command(&["savepoint", "inspect", "end", "--state-dir", &url]);
    let inspected = inspect.env("AWS_ENDPOINT_URL", endpoint).output().unwrap();
    assert!(text(&inspected).contains("job           q11"), "{}", text(&inspected));
    job.check(&["savepoint", "delete", "end", "job.yaml"], 0, &["savepoint 'end' is deleted"]);
    job.check(&["savepoint", "delete", "end", "job.yaml"], 2, &["has no savepoint 'end'"]);
    fs::remove_dir_all(job.folder.path().join("out")).unwrap();
    job.finish(&["--fresh"]);
    job.check_output();
}

#[test]
fn a_killed_job_in_a_bucket_loses_and_repeats_nothing() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new(gateway.address, "");
    let mut seed = 20_261_121u64;
    for _ in 0..12 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let moment = Duration::from_millis(300 + (seed >> 33) % 1_200);
        let (code, said) = job.run_until(moment, &["--speed", "10"]);
        assert!(matches!(code, None | Some(0)), "{said}");
    }
    job.finish(&[]);
    job.check_output();
    assert_eq!(job_folders(&gateway).len(), 1);
}

#[test]
fn a_job_heals_from_whatever_its_store_does() {
    let Some(gateway) = Gateway::start() else { return };
    let proxy = Proxy::start(gateway.address, gateway.data());
    let plans = [
        ("PUT", "chain/", Fault::AppliedThenError, 5),
        ("PUT", "chain/", Fault::AppliedThenCut, 7),
        ("PUT", "state/", Fault::SlowDown, 11),
        ("PUT", "state/", Fault::AppliedThenCut, 13),
        ("PUT", "generations/", Fault::AppliedThenError, 1),
        ("GET", "chain/", Fault::CutContent, 3),
        ("GET", "state/", Fault::CutContent, 4),
        ("GET", "list-type=2", Fault::SlowDown, 9),
    ];
    for (method, target, fault, every) in plans {
        proxy.plan(Plan { method, target, fault, every, times: 6 });
    }
    let job = Job::new(proxy.address, "");
    // A slow machine needs more runs until enough has gone wrong.
    for _ in 0..12 {
        if proxy.met() > 20 {
            break;
        }
        let (code, said) = job.run_until(Duration::from_secs(3), &["--speed", "1"]);
        assert!(matches!(code, None | Some(0)), "{said}");
    }
    job.finish(&[]);
    job.check_output();
    assert!(proxy.met() > 20, "{} faults", proxy.met());
}

#[test]
fn a_second_run_of_a_job_fences_the_first() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new(gateway.address, "");
    // So slow that it does not end by itself.
    let mut first = job.command(&["run", "job.yaml", "--speed", "0.1", "--http", "127.0.0.1:0"]);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find(|line| line.starts_with("http://")).unwrap();
    let (said, rest) = mpsc::channel();
    let reader = std::thread::spawn(move || lines.for_each(|line| drop(said.send(line))));
    // It has claimed by the time it has a checkpoint.
    while !get(&address, "/v1/checkpoints").contains("\"checkpoint\"") {
        std::thread::yield_now();
    }
    // Still running when the first one notices: of a job that has finished it would only say so.
    let mut second = job.command(&["run", "job.yaml", "--quiet", "--speed", "0.1"]).spawn().unwrap();
    let code = first.wait().unwrap().code();
    second.kill().unwrap();
    second.wait().unwrap();
    reader.join().unwrap();
    let said: Vec<String> = rest.try_iter().collect();
    assert_eq!(code, Some(4), "{said:?}");
    // Which sign of the other one it sees first is chance.
    let fenced = ["generation 2 has been claimed", "was written by another leader"];
    assert!(said.iter().any(|line| fenced.iter().any(|sign| line.contains(sign))), "{said:?}");
    // Who is fenced touches nothing any more, also not what it has begun.
    job.finish(&[]);
    job.check_visible_output();
}

#[test]
fn workers_share_a_job_in_a_bucket() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new(gateway.address, "");
    let (code, said) = job.run_until(Duration::from_secs(4), &["--workers", "2", "--speed", "10"]);
    assert!(matches!(code, None | Some(0)), "{said}");
    job.finish(&["--workers", "3", "--parallelism", "3"]);
    job.check_output();
    job.finish(&[]);
    job.check_output();
}

/// What the job at this address answers, with the head of the answer.
pub(crate) fn get(address: &str, path: &str) -> String {
    use std::io::Write;
    let host = address.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn what_is_wrong_with_a_bucket_is_said_before_anything_runs() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new(gateway.address, "credentialsSecretRef: {name: store-key}");
    job.check(&["run", "job.yaml"], 2, &["spec.storage.s3.credentialsSecretRef", "STORE_KEY_AWS_ACCESS_KEY_ID"]);
    let secrets = job.folder.path().join("secrets/store-key");
    fs::create_dir_all(&secrets).unwrap();
    fs::write(secrets.join("AWS_ACCESS_KEY_ID"), KEY_ID).unwrap();
    fs::write(secrets.join("AWS_SECRET_ACCESS_KEY"), "wrong").unwrap();
    let run = ["run", "job.yaml", "--secrets", "secrets"];
    job.check(&run, 2, &["there are no good credentials", "secrets/store-key"]);
    fs::write(secrets.join("AWS_SECRET_ACCESS_KEY"), SECRET).unwrap();
    let manifest = fs::read_to_string(job.folder.path().join("job.yaml")).unwrap();
    let with = |from: &str, to: &str| {
        fs::write(job.folder.path().join("job.yaml"), manifest.replace(from, to)).unwrap();
    };
    with("bucket: states", "bucket: elsewhere");
    job.check(&run, 2, &["there is no bucket 'elsewhere'"]);
    with("region: us-east-1", "region: mars-west-1");
    job.check(&run, 2, &["is not in the region 'mars-west-1'"]);
    assert!(!job.folder.path().join("out").exists());
    assert_eq!(
        fs::read_dir(gateway.data()).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count(),
        0
    );
    with("", "");
    job.check(&["savepoint", "list", "job.yaml", "--secrets", "secrets"], 2, &["holds no state of a job"]);
}

/// Neither the store nor the job's folder has anything.
fn has_nothing(job: &Job, gateway: &Gateway) {
    let bucket = Bucket::open(gateway.settings()).unwrap();
    assert_eq!((bucket.list("").unwrap(), bucket.list_uploads("").unwrap()), (vec![], vec![]));
    assert!(!job.folder.path().join("out").exists() && !job.folder.path().join(".weir").exists());
}

/// In one process and on several workers.
const RUNS: [&[&str]; 2] = [&["run", "job.yaml"], &["run", "job.yaml", "--workers", "2"]];

#[test]
fn a_job_whose_stores_certificate_is_not_trusted_says_so_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [tls, foreign] = ["own", "foreign"].map(|name| self_signed(folder.path(), name));
    let Some(gateway) = Gateway::start_with(Some(&tls)) else { return };
    let job = Job::new(gateway.address, "");
    let path = job.folder.path().join("job.yaml");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("http://", "https://")).unwrap();
    let run = |authorities: Option<&Tls>, arguments: &[&str]| {
        let mut command = job.command(arguments);
        command.envs(authorities.map(|of| ("AWS_CA_BUNDLE", &of.certificate)));
        run::run_until(PATIENCE, command)
    };
    let own = format!("https://{}", gateway.address);
    for (authorities, hint) in
        [(Some(&foreign), "foreign.pem (AWS_CA_BUNDLE) has no authority"), (None, "in AWS_CA_BUNDLE")]
    {
        for arguments in RUNS {
            let (code, said) = run(authorities, arguments);
            assert_eq!(code, Some(2), "{arguments:?}: {said}");
            let parts = ["error: ", &own, "is not trusted: ", hint];
            assert!(parts.iter().all(|part| said.contains(part)), "{arguments:?}: {said}");
            let entries = fs::read_dir(gateway.data()).unwrap();
            assert_eq!(entries.count(), 0, "{arguments:?}");
            assert!(!job.folder.path().join("out").exists());
        }
    }
    let (code, said) = run(Some(&tls), RUNS[0]);
    assert_eq!(code, Some(0), "{said}");
    job.check_output();
}

#[test]
fn a_job_whose_bucket_has_no_conditional_writes_says_so_and_leaves_nothing_there() {
    let Some(gateway) = Gateway::start() else { return };
    for (method, target, fault, expected) in [
        ("PUT", ".probe-", Fault::IgnoreCondition, "ignores If-None-Match"),
        ("POST", "uploadId=", Fault::NotImplemented, "does not do CompleteMultipartUpload with If-None-Match"),
        ("POST", "uploadId=", Fault::IgnoreCondition, "ignores If-None-Match of CompleteMultipartUpload"),
    ] {
        let proxy = Proxy::start(gateway.address, gateway.data());
        proxy.fault(method, target, fault, usize::MAX);
        let job = Job::new(proxy.address, "");
        for run in RUNS {
            job.check(run, 2, &["error: ", &format!("http://{}", proxy.address), BUCKET, expected]);
            has_nothing(&job, &gateway);
        }
    }
}
