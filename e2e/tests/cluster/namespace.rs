//! A namespace of one scenario, with the keys of the S3 server; what it holds is kept when the scenario fails.

use crate::cluster::{Answer, SYSTEM, kubectl, repository, run};
use crate::{output, watch};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

/// Deleted with this value, unless its scenario fails and `WEIR_E2E_KEEP` is set.
pub(crate) struct Namespace {
    /// Its name, new for each run.
    pub(crate) name: String,
}

impl Namespace {
    /// Makes it, with restricted pods and the Secret `s3`.
    pub(crate) fn new(scenario: &str) -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let name = format!("e2e-{scenario}-{:x}", seconds & 0xff_ffff);
        let new = Self { name };
        let manifest = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {0}\n  labels:\n    \
             pod-security.kubernetes.io/enforce: restricted\n---\n{1}",
            new.name,
            output::secret(&new.name),
        );
        run("kubectl", &["apply", "-f", "-"], &manifest).good();
        new
    }

    /// `kubectl` in this namespace.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Answer {
        kubectl(&[&["--namespace", &self.name], arguments].concat())
    }

    /// `kubectl apply` of a text.
    pub(crate) fn apply(&self, manifest: &str) -> Answer {
        run("kubectl", &["--namespace", &self.name, "apply", "-f", "-"], manifest)
    }

    /// An object as it is now.
    #[track_caller]
    pub(crate) fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", kind, name, "-o", "json"]).good()).unwrap()
    }

    /// Waits for objects of this namespace, see [`watch::until`].
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, selection: &[&str], look: impl FnMut(&watch::Objects) -> Option<T>) -> T {
        watch::until(what, &[&["--namespace", &self.name], selection].concat(), look)
    }

    /// Writes what may explain a failure into a folder of its own.
    fn keep(&self) {
        let logs = env::var_os("WEIR_E2E_LOGS").map_or_else(|| repository().join("target/e2e"), PathBuf::from);
        let folder = logs.join(&self.name);
        let write = |name: &str, text: String| {
            if let Err(error) = fs::write(folder.join(name), text) {
                eprintln!("{}/{name}: {error}", folder.display());
            }
        };
        if fs::create_dir_all(&folder).is_err() {
            return;
        }
        eprintln!("what is known of the failure is in {}", folder.display());
        let both = |answer: Answer| answer.text + &answer.said;
        let kinds = "streamjobs,savepoints,pods,services,configmaps,controllerrevisions,poddisruptionbudgets";
        write("objects.yaml", both(self.kubectl(&["get", kinds, "-o", "yaml", "--show-managed-fields=false"])));
        write("events.txt", both(self.kubectl(&["get", "events", "--sort-by=.lastTimestamp"])));
        write("pods.txt", both(self.kubectl(&["describe", "pods"])));
        write(
            "controller.log",
            both(kubectl(&[
                "-n",
                SYSTEM,
                "logs",
                "-l",
                "app.kubernetes.io/name=weir-operator",
                "--tail=-1",
                "--prefix",
            ])),
        );
        for pod in self.kubectl(&["get", "pods", "-o", "name"]).text.lines() {
            let name = pod.trim_start_matches("pod/");
            write(&format!("{name}.log"), both(self.kubectl(&["logs", pod, "--all-containers"])));
            write(
                &format!("{name}.previous.log"),
                both(self.kubectl(&["logs", pod, "--all-containers", "--previous"])),
            );
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
            if env::var_os("WEIR_E2E_KEEP").is_some() {
                return;
            }
        }
        kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}
