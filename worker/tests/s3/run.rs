//! The binary beside a bucket, and the queries of the benchmark that it runs there.

use crate::bucket::gateway::{KEY_ID, SECRET};
use crate::queries::{QUERIES, root};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// A run that takes longer is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// The source and the views of the benchmark; `SOURCE` are the source's options.
const TABLES: &str = include_str!("../nexmark/tables.sql");

/// Queries of the benchmark that write what only grows: rows as they come, and windows.
pub(crate) const APPENDING: [&str; 2] = ["q0", "q11"];

/// The script of a query between tables with these options, indented for a manifest.
pub(crate) fn script(query: &str, source: &str, sink: &str) -> String {
    let (_, columns, select) = QUERIES.iter().find(|(name, ..)| *name == query).unwrap();
    let tables = TABLES.replace("SOURCE", source);
    format!("{tables}\nCREATE TABLE sink ({columns}) WITH ({sink});\nINSERT INTO sink {select};")
        .replace('\n', "\n      ")
}

/// The binary in `folder`, with the bucket's key and nothing else that this machine has of its own.
pub(crate) fn weir(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).current_dir(folder);
    for name in ["AWS_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_PROFILE"] {
        command.env_remove(name);
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("STORE_SECRET", SECRET);
    command.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET);
    command
}

/// Runs until it ends or `moment` comes, which kills it; its exit code, if it had one, and what it said.
pub(crate) fn run_until(moment: Duration, mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let (ended, end) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        let _ = ended.send(());
        text
    });
    let _ = end.recv_timeout(moment);
    let _ = child.kill();
    (child.wait().unwrap().code(), reader.join().unwrap())
}

/// A file of the benchmark.
pub(crate) fn example(path: &str) -> PathBuf {
    root().join("examples/nexmark").join(path)
}
