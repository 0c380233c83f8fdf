//! From a manifest to a job that can be run: read, check, plan, open its state.

use super::exit::Refusal;
use crate::checkpoint::store::directory::DirectoryStore;
use crate::connector::Environment;
use crate::diagnostic::{Diagnostic, Position};
use crate::failure::Failure;
use crate::job::directory::lock::DirectoryLock;
use crate::job::directory::state;
use crate::plan::Plan;
use crate::sql;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weir_crds::{Mistake, Sql, Storage, ValidatedJob};

/// A manifest that has been read and checked, with its SQL planned.
pub(super) struct Planned {
    /// The manifest.
    pub job: ValidatedJob,
    /// Its dataflow.
    pub plan: Arc<Plan>,
}

/// Finds a secret: `<folder>/<name>/<key>`, else the environment variable `NAME_KEY`.
fn secret(folder: Option<&Path>, name: &str, key: &str) -> Result<String, String> {
    let file = folder.map(|folder| folder.join(name).join(key));
    if let Some(text) = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()) {
        return Ok(text.trim_end_matches('\n').to_owned());
    }
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let variable: String = format!("{name}_{key}").chars().map(upper).collect();
    std::env::var(&variable).map_err(|_| match file {
        Some(file) => format!("neither the file {} nor the environment variable {variable} is there", file.display()),
        None => format!("the environment variable {variable} is not set; or give a folder with --secrets"),
    })
}

/// Reads and plans the manifest in `file`; `-` is standard input.
pub(super) fn plan(file: &str, secrets: Option<&Path>) -> Result<Planned, Refusal> {
    let (name, text) = read(file)?;
    plan_text(&name, &text, secrets)
}

/// Checks the manifest in `text`, which mistakes call `name`.
pub(super) fn parse(name: &str, text: &str) -> Result<ValidatedJob, Refusal> {
    weir_crds::parse(text).map_err(|mistakes| of_manifest(name, text, &mistakes))
}

/// Plans the manifest in `text`, which mistakes call `name`.
pub(super) fn plan_text(name: &str, text: &str, secrets: Option<&Path>) -> Result<Planned, Refusal> {
    let job = parse(name, text)?;
    let Sql::Inline(script) = &job.sql else {
        return Err(Refusal::user(format!(
            "error: {name}: spec.pipeline.sqlFrom names a ConfigMap, which only a cluster has\nhint: put the SQL into spec.pipeline.sql"
        )));
    };
    let environment =
        Environment { working_directory: std::env::current_dir().unwrap_or_default(), ..Environment::default() };
    let connectors = sql::BuiltInConnectors { environment };
    let resolve = |name: &str, key: &str| secret(secrets, name, key);
    let plan = sql::plan(script, &sql::PlanConfig { connectors: &connectors, secrets: &resolve, state_ttl: None })
        .map_err(|mistakes| of_sql(name, text, &job, script, mistakes))?;
    Ok(Planned { job, plan: Arc::new(plan) })
}

/// What to call the manifest in `file` (`-` is standard input), and its text.
pub(super) fn read(file: &str) -> Result<(String, String), Refusal> {
    let (name, read) = match file {
        "-" => ("standard input", std::io::read_to_string(std::io::stdin())),
        file => (file, std::fs::read_to_string(file)),
    };
    let text = read.map_err(|error| Refusal::user(format!("error: {name} could not be read: {error}")))?;
    Ok((name.to_owned(), text))
}

fn of_manifest(name: &str, text: &str, mistakes: &[Mistake]) -> Refusal {
    let shown = mistakes.iter().map(|mistake| {
        let position = mistake.line.zip(mistake.column).map(|(line, column)| Position { line, column });
        let message = if mistake.path.is_empty() {
            mistake.message.clone()
        } else {
            format!("{}: {}", mistake.path, mistake.message)
        };
        render(name, text, &Diagnostic { message, position, hint: mistake.hint.clone() })
    });
    Refusal::user(shown.collect::<Vec<_>>().join("\n"))
}

/// Places in the SQL become places in the file, where its lines are lines of the file.
fn of_sql(name: &str, text: &str, job: &ValidatedJob, script: &str, mistakes: Vec<Diagnostic>) -> Refusal {
    let shown = mistakes.into_iter().map(|mut mistake| match job.sql_position {
        Some(start) => {
            mistake.position = mistake
                .position
                .map(|at| Position { line: start.line + at.line - 1, column: start.column + at.column - 1 });
            render(name, text, &mistake)
        }
        None => render(&format!("{name}: spec.pipeline.sql"), script, &mistake),
    });
    Refusal::user(shown.collect::<Vec<_>>().join("\n"))
}

fn render(name: &str, text: &str, mistake: &Diagnostic) -> String {
    format!("error: {name}: {}", mistake.render(text))
}

/// The state of a job in a directory, held by this process.
pub(super) struct OpenState {
    /// Its objects.
    pub store: Arc<DirectoryStore>,
    /// Unique for the job.
    pub uid: String,
    _lock: Option<DirectoryLock>,
}

/// Opens the directory of a job's state: `given`, else what the manifest says, else `.weir/<name>`.
pub(super) fn open_state(job: &ValidatedJob, given: Option<&Path>) -> Result<OpenState, Refusal> {
    let directory = directory_of(job, given)?;
    let store = Arc::new(DirectoryStore::open(&directory)?);
    let lock = DirectoryLock::take(&directory)?;
    store.remove_partial()?;
    let uid = state::uid(&directory, &job.name)?;
    Ok(OpenState { store, uid, _lock: Some(lock) })
}

/// Opens the directory of a job's state that the job's other workers open too: generations fence each other there.
pub(super) fn join_state(job: &ValidatedJob, given: Option<&Path>) -> Result<OpenState, Refusal> {
    let directory = directory_of(job, given)?;
    let store = Arc::new(DirectoryStore::open(&directory)?);
    let uid = state::uid(&directory, &job.name)?;
    Ok(OpenState { store, uid, _lock: None })
}

/// The directory of a job's state.
pub(super) fn directory_of(job: &ValidatedJob, given: Option<&Path>) -> Result<PathBuf, Failure> {
    match (given, &job.storage) {
        (Some(given), _) => Ok(given.to_path_buf()),
        (None, None) => Ok(Path::new(".weir").join(&job.name)),
        (None, Some(Storage::Local(local))) => Ok(Path::new(&local.path).join(&job.name)),
        (None, Some(_)) => Err(Failure::user(
            "spec.storage: this version keeps state in a directory only; \
             use spec.storage.local, or give a directory with --state-dir",
        )),
    }
}
