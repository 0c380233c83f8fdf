//! The S3 server of the cluster, and what jobs have written to its bucket.

use crate::cluster::{Answer, kubectl, repository, run};
use crate::watch;
use std::fs;

const NAMESPACE: &str = "weir-s3";
const BUCKET: &str = "e2e";
/// The server's address within the cluster.
pub(crate) const ENDPOINT: &str = "http://s3.weir-s3.svc:9000";

/// Starts the server with its bucket, if it does not run.
pub(crate) fn start_server(image: &str) {
    let manifest = fs::read_to_string(repository().join("e2e/s3/server.yaml")).unwrap();
    run("kubectl", &["apply", "-f", "-"], &manifest.replace("@image@", image)).good();
    is_back().good();
    shell(&format!("mkdir -p /data/{BUCKET}"));
}

/// The server is away, with all connections to it, as long as this value lives. What lay in it comes back with it.
pub(crate) struct Away(());

impl Away {
    /// Takes it away.
    pub(crate) fn new() -> Self {
        let away = Self(());
        scale(0).good();
        kubectl(&["-n", NAMESPACE, "wait", "pod", "-l", "app=s3", "--for=delete", "--timeout=10m"]).good();
        away
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let (scaled, back) = (scale(1), is_back());
        if !std::thread::panicking() {
            scaled.good();
            back.good();
        }
    }
}

fn scale(replicas: u32) -> Answer {
    kubectl(&["-n", NAMESPACE, "scale", "deployment/s3", &format!("--replicas={replicas}")])
}

fn is_back() -> Answer {
    kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/s3", "--timeout=10m"])
}

/// The Secret `s3` of a namespace.
pub(crate) fn secret(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: s3, namespace: {namespace}}}\nstringData: \
         {{AWS_ACCESS_KEY_ID: weir-e2e, AWS_SECRET_ACCESS_KEY: weir-e2e-secret}}\n"
    )
}

/// `spec.storage` of a job whose state lies below a folder of the bucket.
pub(crate) fn storage(folder: &str) -> String {
    format!(
        "{{s3: {{bucket: {BUCKET}, prefix: {folder}, endpoint: \"{ENDPOINT}\", region: us-east-1, forcePathStyle: true, \
         credentialsSecretRef: {{name: s3}}}}}}"
    )
}

/// The options of a table that is written as JSON to a folder of the bucket.
pub(crate) fn sink(folder: &str) -> String {
    format!(
        "'connector' = 'filesystem', 'path' = 's3://{BUCKET}/{folder}', 'format' = 'json', 's3.endpoint' = '{ENDPOINT}', \
         's3.region' = 'us-east-1', 's3.access-key' = '${{secret:s3/AWS_ACCESS_KEY_ID}}', 's3.secret-key' = \
         '${{secret:s3/AWS_SECRET_ACCESS_KEY}}'"
    )
}

/// The rows in a folder of the bucket, in order. Only what was committed is seen: the rest lies in uploads.
pub(crate) fn rows(folder: &str) -> Vec<String> {
    let text = shell(&format!(
        "cd /data/{BUCKET}/{folder} 2>/dev/null && find . -type f -name 'part-*' -print0 | sort -z | xargs -0r cat"
    ));
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.sort_unstable();
    rows
}

/// A file that a job has committed.
pub(crate) struct File {
    /// When it was complete, in seconds since 1970 by the clock of the S3 server's node.
    pub(crate) at: f64,
    /// The generation of the job that wrote it.
    pub(crate) generation: u64,
}

/// The files in a folder of the bucket.
pub(crate) fn files(folder: &str) -> Vec<File> {
    let text =
        shell(&format!("cd /data/{BUCKET}/{folder} 2>/dev/null && find . -type f -name 'part-*' -printf '%T@ %f\\n'"));
    let file = |line: &str| {
        let (at, name) = line.split_once(' ')?;
        // part-<job>-<table>-<generation>-<subtask>-<number>.json
        let generation = name.rsplit('-').nth(2)?.parse().ok()?;
        Some(File { at: at.parse().ok()?, generation })
    };
    text.lines().filter_map(file).collect()
}

/// The newest generation that has written to a folder of the bucket; 0: none.
pub(crate) fn newest(folder: &str) -> u64 {
    files(folder).iter().map(|file| file.generation).max().unwrap_or(0)
}

/// Names of the objects below a folder of the bucket.
pub(crate) fn objects(folder: &str) -> Vec<String> {
    let text = shell(&format!("cd /data/{BUCKET}/{folder} 2>/dev/null && find . -type f | sort || true"));
    text.lines().map(|line| line.trim_start_matches("./").to_owned()).collect()
}

fn shell(script: &str) -> String {
    let script = format!("{script} || true");
    // The script is always successful; the connection to its pod may break.
    watch::ask("the S3 server's pod answers", || {
        let answer = kubectl(&["-n", NAMESPACE, "exec", "deployment/s3", "--", "sh", "-c", &script]);
        answer.is_good().then_some(answer.text)
    })
}
