//! From a manifest to a job that can be run: read, check, plan, open its state.

use super::exit::Refusal;
use crate::checkpoint::store::s3::{Credentials, Settings};
use crate::connector::Environment;
use crate::diagnostic::{Diagnostic, Position};
use crate::failure::Failure;
use crate::job::directory::bucket::BucketPlace;
use crate::job::directory::place::{Held, Place};
use crate::plan::Plan;
use crate::sql;
use std::path::Path;
use std::sync::Arc;
use weir_crds::{Mistake, S3StorageSpec, Sql, Storage, ValidatedJob};

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

/// The name of the job in `file`, if its manifest can be read.
pub(super) fn name_in(file: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    weir_crds::parse(&text).ok().map(|job| job.name)
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

/// Opens the state of a job to work on it.
pub(super) fn open_state(job: &ValidatedJob, given: Option<&Path>, secrets: Option<&Path>) -> Result<Held, Refusal> {
    let bucket = bucket_of(job, secrets)?;
    Ok(place_of(job, given, bucket.as_ref())?.hold(&job.name)?)
}

/// How to reach the bucket that the manifest names, if it does.
pub(super) fn bucket_of(job: &ValidatedJob, secrets: Option<&Path>) -> Result<Option<Settings>, Failure> {
    match &job.storage {
        Some(Storage::S3(storage)) => Ok(Some(settings_of(storage, secrets)?)),
        _ => Ok(None),
    }
}

/// Where the state of a job is: where `given` says, else where the manifest does, else in `.weir/<name>`. A manifest with
/// a uid, which a cluster gave it, says exactly in which folder: `<namespace>/<name>-<uid>` below that of the storage.
pub(super) fn place_of(job: &ValidatedJob, given: Option<&Path>, bucket: Option<&Settings>) -> Result<Place, Failure> {
    if let Some(given) = given {
        return Ok(Place::at(given, bucket));
    }
    let metadata = &job.raw.metadata;
    let exact = metadata.uid.as_ref().map(|uid| format!("{}/{}-{uid}", job.namespace, job.name));
    match (&job.storage, bucket) {
        (None, _) => Ok(Place::Directory(Path::new(".weir").join(&job.name))),
        (Some(Storage::Local(local)), _) => {
            Ok(Place::Directory(Path::new(&local.path).join(exact.as_ref().unwrap_or(&job.name))))
        }
        (Some(Storage::S3(storage)), Some(settings)) => {
            let (settings, prefix) = (settings.clone(), &storage.prefix);
            Ok(Place::Bucket(Box::new(match exact {
                Some(folder) => BucketPlace::exactly(settings, &format!("{prefix}/{folder}")),
                None => BucketPlace::of_job(settings, prefix, &job.namespace, &job.name),
            })))
        }
        (Some(_), _) => Err(Failure::user(
            "spec.storage.persistentVolumeClaim: only a cluster has volume claims; \
             use spec.storage.local, or give a directory with --state-dir",
        )),
    }
}

/// How to reach the bucket of a manifest: its credentials are a Secret's, which lies in the folder of secrets or in the
/// environment, or those of the surroundings.
fn settings_of(storage: &S3StorageSpec, secrets: Option<&Path>) -> Result<Settings, Failure> {
    let Some(reference) = &storage.credentials_secret_ref else {
        return Ok(Settings::of(storage, Credentials::Surroundings));
    };
    let folder = secrets.map(|folder| folder.join(&reference.name)).filter(|folder| folder.is_dir());
    if let Some(folder) = folder {
        return Ok(Settings::of(storage, Credentials::Folder(folder)));
    }
    let wanted = |key: &str| {
        let field = "spec.storage.s3.credentialsSecretRef";
        secret(secrets, &reference.name, key).map_err(|missing| Failure::user(format!("{field}: {missing}")))
    };
    let (key_id, secret_key) = (wanted("AWS_ACCESS_KEY_ID")?, wanted("AWS_SECRET_ACCESS_KEY")?);
    let token = secret(secrets, &reference.name, "AWS_SESSION_TOKEN").ok();
    Ok(Settings::of(storage, Credentials::Fixed { key_id, secret: secret_key, token }))
}
