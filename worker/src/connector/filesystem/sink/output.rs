//! Where the bytes of a growing file go: under a hidden name beside its place, or into the parts of an upload, which is
//! no object before it is completed.
//!
//! ```text
//! Output ──close──▶ Closing ──finish──▶ Committable
//! grows             nothing follows     all bytes are durable; a commit makes them visible
//! ```
//!
//! Small files are uploads of one part, too. Bytes that wait in a manifest for a put at the commit would make manifests
//! large, and a repeated put would bring a file back that a reader has taken away meanwhile: an upload can be completed
//! only once.

use super::super::place::{BucketFolder, Place};
use super::commit::Rename;
use super::complete::Completion;
use crate::checkpoint::store::s3::GrowingUpload;
use crate::failure::{Failure, Kind, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use weir_protocol::snapshot::Committable;

/// A file is tried again when its folder went away.
const MOST_TRIES: u32 = 3;

/// A growing file's bytes.
pub(super) enum Output {
    /// A hidden file.
    File(HiddenFile),
    /// An upload.
    Upload(Box<Growing>),
}

/// A file under its hidden name.
pub(super) struct HiddenFile {
    path: PathBuf,
    rename: Rename,
    file: File,
}

/// An upload that grows.
pub(super) struct Growing {
    upload: GrowingUpload,
    /// Below the sink's folder.
    name: String,
    /// For people.
    shown: String,
}

/// A file to which nothing is added.
pub(super) enum Closing {
    /// A file.
    File(HiddenFile),
    /// An upload whose last parts are under way.
    Upload(Box<Growing>),
}

impl Output {
    /// Begins the file `name` of a partition; nobody else has one of this name.
    pub(super) fn create(place: &Place, partition: &str, name: &str) -> Result<Self> {
        let rename = Rename::new(partition, name);
        match place {
            Place::Folder(root) => {
                let path = root.join(&rename.from);
                let file = create(&path).map_err(|error| not_created(&path, error))?;
                Ok(Self::File(HiddenFile { path, rename, file }))
            }
            Place::Bucket(folder) => Ok(Self::Upload(Box::new(Growing::begin(folder, rename.to)?))),
        }
    }

    /// Its name for people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::File(hidden) => hidden.path.display().to_string(),
            Self::Upload(growing) => growing.shown.clone(),
        }
    }

    /// The hidden name below the sink's folder, of a file.
    pub(super) fn hidden_name(&self) -> Option<&str> {
        match self {
            Self::File(hidden) => Some(&hidden.rename.from),
            Self::Upload(_) => None,
        }
    }

    /// Bytes in memory, at most.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::File(_) => 0,
            Self::Upload(growing) => growing.upload.held(),
        }
    }

    /// The most bytes that it can have.
    pub(super) fn limit(&self) -> u64 {
        match self {
            Self::File(_) => u64::MAX,
            Self::Upload(_) => GrowingUpload::MOST_BYTES,
        }
    }

    /// Appends the first `length` bytes of another file.
    pub(super) fn copy_from(&mut self, from: &Path, length: u64) -> Result<()> {
        let shown = self.shown();
        let copied = File::open(from).and_then(|source| io::copy(&mut source.take(length), self));
        match copied {
            Ok(copied) if copied == length => Ok(()),
            Ok(copied) => Err(Failure::corrupt(format!(
                "{} has {copied} bytes, the checkpoint has {length} of it: rows are missing from the output",
                from.display()
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::corrupt(format!(
                "{} is gone, the checkpoint has {length} bytes of it: rows are missing from the output",
                from.display()
            ))),
            Err(error) => Err(failure(&shown, error)),
        }
    }

    /// Makes all bytes so far durable, where the file goes on.
    pub(super) fn sync(&mut self) -> Result<()> {
        match self {
            Self::File(hidden) => hidden.file.sync_all().map_err(|error| failure(&hidden.path.display(), error)),
            Self::Upload(_) => Err(Failure::bug("an upload ends at each checkpoint")),
        }
    }

    /// Ends the file. Of an upload the last part is sent on its way.
    pub(super) fn close(self) -> Result<Closing> {
        match self {
            Self::File(hidden) => Ok(Closing::File(hidden)),
            Self::Upload(mut growing) => {
                growing.upload.close()?;
                Ok(Closing::Upload(growing))
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(hidden) => hidden.file.write(bytes),
            Self::Upload(growing) => growing.upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Closing {
    /// Bytes in memory, at most.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::File(_) => 0,
            Self::Upload(growing) => growing.upload.held(),
        }
    }

    /// Makes all bytes durable, and a file's name too. A commit of the answer makes them visible.
    pub(super) fn finish(self) -> Result<Committable> {
        match self {
            Self::File(HiddenFile { path, rename, file }) => {
                let durable = file.sync_all().and_then(|()| sync_folder_of(&path));
                durable.map_err(|error| failure(&path.display(), error))?;
                Ok(rename.committable())
            }
            Self::Upload(growing) => growing.finish(),
        }
    }
}

impl Growing {
    fn begin(folder: &BucketFolder, name: String) -> Result<Self> {
        let (key, shown) = (folder.key(&name), folder.shown(&name));
        Ok(Self { upload: GrowingUpload::begin(folder.bucket()?, &key), name, shown })
    }

    fn finish(self) -> Result<Committable> {
        let (bucket, key) = (self.upload.bucket().name().to_owned(), self.upload.key().to_owned());
        let whole = self.upload.finish()?;
        let completion = Completion {
            bucket,
            key,
            upload: whole.upload.id,
            etags: whole.parts.into_iter().map(|part| part.etag).collect(),
            bytes: whole.bytes,
        };
        completion.committable(self.name)
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut tries = 0;
    loop {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match OpenOptions::new().write(true).create_new(true).open(path) {
            // Whoever reads the output may have removed the folder, which was empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < MOST_TRIES => tries += 1,
            created => return created,
        }
    }
}

/// Where no file can be made, none can be made at the next attempt: something is in the way, or the place takes none.
fn not_created(path: &Path, error: io::Error) -> Failure {
    use io::ErrorKind as E;
    match error.kind() {
        E::NotFound | E::AlreadyExists | E::PermissionDenied | E::ReadOnlyFilesystem | E::NotADirectory => {
            let folder = path.parent().unwrap_or(path).display();
            let message =
                format!("no file can be created in {folder}: make it a folder that can be written, or change 'path'");
            Failure::user(message).because(error)
        }
        _ => failure(&path.display(), error),
    }
}

/// Makes a file's name durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// The failure that came as an error of a stream. A full disk may have room again; what may not be written will not be
/// writable at the next attempt either.
pub(super) fn failure(shown: &dyn std::fmt::Display, error: io::Error) -> Failure {
    use io::ErrorKind as E;
    let error = match error.downcast::<Failure>() {
        Ok(failure) => return failure,
        Err(error) => error,
    };
    let kind = match error.kind() {
        E::PermissionDenied | E::ReadOnlyFilesystem | E::NotADirectory | E::IsADirectory | E::InvalidFilename => {
            Kind::User
        }
        _ => Kind::Transient,
    };
    Failure::new(kind, format!("{shown} could not be written")).because(error)
}
