//! Runs helm on the project's chart.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The chart's folder.
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/weir");

/// The helm program, and a home for its files that goes with it.
pub(crate) struct Helm {
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Helm {
    /// The helm of the end-to-end tests, or one on PATH. Without one the test is skipped, and says so.
    pub(crate) fn find(test: &str) -> Option<Self> {
        let home = std::env::var_os("HOME").unwrap_or_else(|| "/root".into());
        let cache = std::env::var_os("WEIR_CACHE").map_or_else(|| Path::new(&home).join(".cache/weir"), PathBuf::from);
        let mut folders: Vec<PathBuf> = cache.join("kind").read_dir().map_or_else(
            |_| Vec::new(),
            |entries| entries.map(|entry| entry.unwrap().path()).filter(|path| path.join("kind").is_file()).collect(),
        );
        let built = !folders.is_empty();
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let program = folders.into_iter().map(|folder| folder.join("helm")).find(|program| program.is_file());
        if program.is_none() {
            let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!(in_ci && built), "the programs of the end-to-end tests are built, but helm is not among them");
            eprintln!("{test} is skipped: there is no helm, neither in the cache of .ci/run nor on PATH");
        }
        Some(Self { program: program?, home: tempfile::tempdir().unwrap() })
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        Command::new(&self.program)
            .args(args)
            .env("HOME", self.home.path())
            .env_remove("KUBECONFIG")
            .env_remove("HELM_NAMESPACE")
            .output()
            .unwrap()
    }

    /// What the chart installs with these values, as text.
    pub(crate) fn template(&self, values: &[&str]) -> Result<String, String> {
        let mut args = vec!["template", "weir", CHART, "--namespace", "weir-system"];
        args.extend(values.iter().flat_map(|value| ["--set-json", value]));
        let output = self.run(&args);
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8(output.stderr).unwrap())
        }
    }

    /// The same, as objects.
    pub(crate) fn objects(&self, values: &[&str]) -> Vec<Value> {
        let text = self.template(values).unwrap();
        let documents: Vec<Value> = serde_yaml::from_multiple(&text).unwrap();
        documents.into_iter().filter(|document| !document.is_null()).collect()
    }
}
