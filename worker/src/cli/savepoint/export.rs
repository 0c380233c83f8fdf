//! `weir savepoint export`.

use crate::checkpoint::store::s3::Settings;
use crate::cli::exit::{Code, Refusal};
use crate::cli::found::Place;
use crate::cli::progress::size;
use crate::cli::{job, restore};
use crate::export::target::Target;
use crate::export::{Export, FILE_BYTES};
use crate::failure::{Failure, Kind};
use crate::job::directory::foreign::{self, Point, Which};
use std::path::Path;

/// Exports the checkpoint of this name or path.
pub(super) fn run(name: &str, place: &Place, to: &str) -> Result<Code, Refusal> {
    let (point, bucket) = point(name, place)?;
    let savepoint = match &point.which {
        Which::Savepoint(name) => Some(name.as_str()),
        // A job at work deletes checkpoints without a name.
        Which::Newest | Which::Link(_) => {
            point.place.refuse_running()?;
            None
        }
    };
    let found = point.read()?;
    let own = point.place.look()?.ok_or_else(|| Failure::user(format!("{} holds no state of a job", point.place)))?;
    let files = foreign::files(&found.location, own.store.as_ref())?;
    let target = target(to, bucket.as_ref())?;
    let shown = target.to_string();
    let export = Export { store: files.as_ref(), manifest: &found.manifest, savepoint, file_bytes: FILE_BYTES };
    let index = export.run(target).map_err(refused)?;
    if index.in_flight_rows > 0 {
        eprintln!(
            "warning: {} rows were in flight when the checkpoint was taken: no table has them",
            index.in_flight_rows
        );
    }
    let (files, rows) = index.files().fold((0_u64, 0_u64), |(files, rows), file| (files + 1, rows + file.rows));
    let bytes = index.files().map(|file| file.bytes).sum();
    let (checkpoint, job, tables) = (index.checkpoint, &index.job, index.tables().count());
    println!(
        "checkpoint {checkpoint} of job {job}: {rows} rows of {tables} tables in {files} files, {}, are in {shown}",
        size(bytes)
    );
    Ok(Code::Done)
}

/// The checkpoint, and how the manifest's bucket is reached.
fn point(name: &str, place: &Place) -> Result<(Point, Option<Settings>), Refusal> {
    if restore::is_path(name) {
        let manifest = place.manifest()?;
        let bucket = manifest.map(|manifest| job::bucket_of(&manifest.job, place.secrets.as_deref())).transpose()?;
        let bucket = bucket.flatten();
        return Ok((restore::point(name, bucket.as_ref()), bucket));
    }
    let found = place.find()?;
    // A savepoint may be called so, and then that one is meant.
    let which = match name {
        "latest" if !found.history.savepoints().contains_key(name) => Which::Newest,
        name => {
            found.pin(name)?;
            Which::Savepoint(name.to_owned())
        }
    };
    let bucket = found.manifest.as_ref().map(|manifest| job::bucket_of(&manifest.job, place.secrets.as_deref()));
    Ok((Point { place: found.place, which }, bucket.transpose()?.flatten()))
}

fn target(to: &str, bucket: Option<&Settings>) -> Result<Target, Failure> {
    let Some(url) = to.strip_prefix("s3://") else { return Target::folder(Path::new(to)) };
    let (name, prefix) = url.split_once('/').unwrap_or((url, ""));
    let settings = bucket.filter(|bucket| bucket.bucket == name).cloned();
    Target::objects(settings.unwrap_or_else(|| Settings::from_environment(name)), prefix)
}

fn refused(failure: Failure) -> Refusal {
    match failure.kind {
        Kind::Corrupt => Refusal::user(format!(
            "error: {}\nhint: nothing was exported; restore the file from a backup, or export another savepoint",
            failure.chain()
        )),
        _ => Refusal::from(failure),
    }
}
