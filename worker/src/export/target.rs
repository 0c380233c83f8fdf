//! Where an export goes: a folder of this machine, which appears as a whole, or objects of a bucket, whose uploads are
//! completed when all are there; the index comes last.

use crate::checkpoint::store::s3::{Bucket, Completed, Condition, GrowingUpload, IfAbsent, Put, Settings, WholeUpload};
use crate::failure::{Failure, Result};
use bytes::Bytes;
use std::fmt;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The name of the index.
const INDEX: &str = "index.json";

/// Where an export goes.
pub enum Target {
    /// To a folder.
    Folder(Folder),
    /// To a bucket.
    Objects(Objects),
}

/// A folder that is made under a hidden name beside its place.
pub struct Folder {
    place: PathBuf,
    hidden: PathBuf,
}

/// Objects whose names begin alike.
pub struct Objects {
    bucket: Bucket,
    /// With a slash at its end, unless it is empty.
    prefix: String,
    whole: Vec<WholeUpload>,
}

/// A file that grows.
pub enum File {
    /// In the hidden folder.
    Local(BufWriter<fs::File>),
    /// An upload.
    Upload(Unclosed),
}

/// An upload that is aborted unless it is closed: then its export has failed.
pub struct Unclosed(Option<Box<GrowingUpload>>);

impl Target {
    /// A folder that is not there yet, or is empty. Fails with kind `User` when it is neither.
    pub fn folder(place: &Path) -> Result<Self> {
        let failed = |error: io::Error| {
            let message = format!("no folder can be made at {}: choose another place with --to", place.display());
            Failure::user(message).because(error)
        };
        match fs::read_dir(place).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Err(occupied(&place.display())),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let name = place.file_name().ok_or_else(|| {
            Failure::user(format!("{} has no name of its own: name a folder to make", place.display()))
        })?;
        let above = place.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let hidden = above.join(format!(".{}.partial-{}", name.display(), uuid::Uuid::new_v4()));
        fs::create_dir_all(&hidden).map_err(failed)?;
        Ok(Self::Folder(Folder { place: place.to_owned(), hidden }))
    }

    /// Objects whose names begin with `prefix` and a slash. Fails with kind `User` when there are such already.
    pub fn objects(settings: Settings, prefix: &str) -> Result<Self> {
        let bucket = Bucket::open(settings)?;
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let objects = Objects { bucket, prefix, whole: Vec::new() };
        if objects.bucket.has_any(&objects.prefix)? {
            return Err(occupied(&objects));
        }
        Ok(Self::Objects(objects))
    }

    /// Begins a file.
    pub(super) fn create(&mut self, path: &str) -> Result<File> {
        match self {
            Self::Folder(folder) => {
                let path = folder.hidden.join(path);
                let above = path.parent().unwrap_or(&folder.hidden);
                let file = fs::create_dir_all(above).and_then(|()| fs::File::create_new(&path));
                Ok(File::Local(BufWriter::new(file.map_err(|error| not_written(&path, error))?)))
            }
            Self::Objects(objects) => {
                let key = format!("{}{path}", objects.prefix);
                Ok(File::Upload(Unclosed(Some(Box::new(GrowingUpload::begin(objects.bucket.clone(), &key))))))
            }
        }
    }

    /// Makes a file durable that has all of its bytes; how many these are.
    pub(super) fn close(&mut self, file: File) -> Result<u64> {
        match (self, file) {
            (Self::Folder(folder), File::Local(file)) => {
                let file = file.into_inner().map_err(io::IntoInnerError::into_error);
                let durable = file.and_then(|file| file.sync_all().and_then(|()| Ok(file.metadata()?.len())));
                durable.map_err(|error| not_written(&folder.hidden, error))
            }
            (Self::Objects(objects), File::Upload(mut upload)) => {
                let mut upload = upload.0.take().ok_or_else(|| Failure::bug("an upload was closed twice"))?;
                upload.close()?;
                let whole = upload.finish()?;
                let bytes = whole.bytes;
                objects.whole.push(whole);
                Ok(bytes)
            }
            _ => Err(Failure::bug("a file was closed at another target")),
        }
    }

    /// Makes everything visible, the index last. When that fails, nothing is left.
    pub(super) fn commit(self, index: &[u8]) -> Result<()> {
        match self {
            Self::Folder(folder) => {
                let done = folder.appear(index);
                if done.is_err() {
                    folder.remove();
                }
                done
            }
            Self::Objects(objects) => objects.complete(index),
        }
    }

    /// Removes what was written.
    pub(super) fn give_up(self) {
        match self {
            Self::Folder(folder) => folder.remove(),
            Self::Objects(objects) => objects.abort(&objects.whole),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.place.display()),
            Self::Objects(objects) => write!(f, "{objects}"),
        }
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket.name(), self.prefix)
    }
}

impl Folder {
    fn appear(&self, index: &[u8]) -> Result<()> {
        let path = self.hidden.join(INDEX);
        let written = fs::File::create_new(&path).and_then(|mut file| {
            file.write_all(index)?;
            file.sync_all()
        });
        written.and_then(|()| sync_folders(&self.hidden)).map_err(|error| not_written(&path, error))?;
        // An empty folder gives way, one that somebody has filled meanwhile does not.
        match fs::rename(&self.hidden, &self.place) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(occupied(&self.place.display()));
            }
            Err(error) => return Err(not_written(&self.place, error)),
        }
        let above = self.place.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(above).and_then(|above| above.sync_all()).map_err(|error| not_written(above, error))
    }

    fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.hidden) {
            let folder = self.hidden.display().to_string();
            tracing::warn!(folder, error = error.to_string(), "a folder stays behind");
        }
    }
}

impl Objects {
    fn complete(self, index: &[u8]) -> Result<()> {
        for (at, whole) in self.whole.iter().enumerate() {
            if let Err(failure) = self.complete_one(whole) {
                self.abort(&self.whole[at..]);
                self.delete(&self.whole[..=at]);
                return Err(failure);
            }
        }
        let key = format!("{}{INDEX}", self.prefix);
        match self.bucket.put(&key, Bytes::copy_from_slice(index), Condition::IfAbsent) {
            Put::Done(_) => {
                self.sweep();
                Ok(())
            }
            // Whose files these are now is not known.
            Put::Refused => Err(occupied(&self)),
            Put::Failed(failure) => {
                self.delete(&self.whole);
                Err(failure)
            }
            Put::Unknown(failure) => Err(failure),
        }
    }

    fn complete_one(&self, whole: &WholeUpload) -> Result<()> {
        let key = &whole.upload.key;
        match self.bucket.complete_upload(&whole.upload, &whole.parts, IfAbsent::No) {
            Completed::Done(_) => Ok(()),
            Completed::Unsupported(failure) | Completed::Failed(failure) | Completed::Unknown(failure) => Err(failure),
            Completed::Exists => Err(occupied(self)),
            // An attempt without an answer may have completed it.
            Completed::NoSuchUpload => match self.bucket.head(key)? {
                Some(entry) if entry.bytes == whole.bytes => Ok(()),
                _ => Err(Failure::transient(format!("the upload of {key} was aborted by somebody else: try again"))),
            },
        }
    }

    /// Takes away uploads that were begun and whose ids got lost on the way.
    fn sweep(&self) {
        let swept = self
            .bucket
            .list_uploads(&self.prefix)
            .and_then(|uploads| uploads.iter().try_for_each(|upload| self.bucket.abort_upload(upload)));
        if let Err(failure) = swept {
            tracing::warn!(prefix = self.prefix, error = failure.chain(), "uploads may stay behind");
        }
    }

    fn abort(&self, uploads: &[WholeUpload]) {
        for whole in uploads {
            if let Err(failure) = self.bucket.abort_upload(&whole.upload) {
                tracing::warn!(key = whole.upload.key, error = failure.chain(), "an upload stays behind");
            }
        }
    }

    fn delete(&self, uploads: &[WholeUpload]) {
        let keys: Vec<String> = uploads.iter().map(|whole| whole.upload.key.clone()).collect();
        if let Err(failure) = self.bucket.delete(&keys) {
            tracing::warn!(prefix = self.prefix, error = failure.chain(), "objects stay behind");
        }
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Local(file) => file.write(bytes),
            Self::Upload(Unclosed(Some(upload))) => upload.write(bytes),
            Self::Upload(Unclosed(None)) => Err(io::Error::other("the upload was closed")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Local(file) => file.flush(),
            Self::Upload(_) => Ok(()),
        }
    }
}

impl Drop for Unclosed {
    fn drop(&mut self) {
        if let Some(upload) = self.0.take() {
            upload.abort();
        }
    }
}

fn occupied(place: &dyn fmt::Display) -> Failure {
    Failure::user(format!("{place} is not empty: an export goes to a folder of its own, choose another with --to"))
}

fn not_written(path: &Path, error: io::Error) -> Failure {
    Failure::transient(format!("{} could not be written", path.display())).because(error)
}

/// Makes the names in a folder and in those below it durable.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    fs::File::open(folder)?.sync_all()
}
