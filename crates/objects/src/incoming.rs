//! Bytes on their way in: written and summed as they come, and nobody's until they are whole.
//!
//! Hashing and writing happen on threads that may block, a block at a time, so that a slow client
//! holds no thread and a fast one does not hold up the others.

use crate::{
    Checksum, ChecksumAlgorithm, ObjectsError, Sums,
    files::{Files, failed, new_id},
};
use std::{fs::File, io::Write, path::PathBuf};

/// Bytes that are gathered before a thread takes them.
const BLOCK_BYTES: usize = 512 * 1024;

/// A file that is being written. Dropped, it leaves nothing behind.
pub struct Incoming {
    /// None: a block broke off, or failed.
    writing: Option<Writing>,
    gathered: Vec<u8>,
    size: u64,
    size_max: u64,
}

/// A file that is whole and on the disk. It becomes part of an object, or is removed with this value.
#[derive(Debug)]
pub struct Written {
    pub(crate) file: FileGuard,
    /// In bytes.
    pub size: u64,
    /// Of the content, in hex.
    pub md5: String,
    pub checksum: Option<Checksum>,
}

/// Removes a file unless it was kept.
#[derive(Debug)]
pub(crate) struct FileGuard {
    files: Files,
    id: Option<String>,
}

impl FileGuard {
    pub(crate) fn new(files: &Files, id: String) -> Self {
        Self { files: files.clone(), id: Some(id) }
    }

    pub(crate) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Gives the file up to whoever writes its row. That is done before the row is written: should
    /// the writing be broken off, a stray file is left, which the next start removes, and never a
    /// row without its file.
    pub(crate) fn keep(mut self) -> Option<String> {
        self.id.take()
    }
}

impl Drop for FileGuard {
    fn drop(&mut self) {
        self.files.remove(&self.id);
    }
}

struct Writing {
    files: Files,
    file: File,
    path: PathBuf,
    kept: bool,
    sums: Sums,
}

impl Writing {
    fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectsError> {
        self.sums.update(bytes);
        self.file.write_all(bytes).map_err(failed("writing", &self.path))
    }

    fn finish(mut self, size: u64) -> Result<Written, ObjectsError> {
        let id = new_id();
        self.files.keep(&self.file, &self.path, &id)?;
        self.kept = true;
        let file = FileGuard::new(&self.files, id);
        let (md5, checksum) = std::mem::replace(&mut self.sums, Sums::new(None)).finish();
        Ok(Written { file, size, md5, checksum })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.kept {
            // The next start empties the directory anyway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Incoming {
    pub(crate) fn begin(
        files: &Files,
        checksum: Option<ChecksumAlgorithm>,
        size_max: u64,
    ) -> Result<Self, ObjectsError> {
        let (file, path) = files.create_incoming(&new_id())?;
        let (files, sums) = (files.clone(), Sums::new(checksum));
        let writing = Writing { files, file, path, kept: false, sums };
        Ok(Self { writing: Some(writing), gathered: Vec::new(), size: 0, size_max })
    }

    /// # Errors
    /// [`ObjectsError::TooLarge`], [`ObjectsError::File`]; the file is lost then.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ObjectsError> {
        self.size += bytes.len() as u64;
        if self.size > self.size_max {
            self.writing = None;
            return Err(ObjectsError::TooLarge { max: self.size_max });
        }
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= BLOCK_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), ObjectsError> {
        let block = std::mem::take(&mut self.gathered);
        let mut writing = self.writing.take().ok_or(ObjectsError::BrokenOff)?;
        let (writing, mut block) = tokio::task::spawn_blocking(move || {
            writing.write(&block)?;
            Ok::<_, ObjectsError>((writing, block))
        })
        .await
        .map_err(|_| ObjectsError::BrokenOff)??;
        block.clear();
        self.gathered = block;
        self.writing = Some(writing);
        Ok(())
    }

    /// Returns when the bytes are on the disk.
    ///
    /// # Errors
    /// [`ObjectsError::File`].
    pub async fn finish(mut self) -> Result<Written, ObjectsError> {
        let block = std::mem::take(&mut self.gathered);
        let mut writing = self.writing.take().ok_or(ObjectsError::BrokenOff)?;
        let size = self.size;
        tokio::task::spawn_blocking(move || {
            writing.write(&block)?;
            writing.finish(size)
        })
        .await
        .map_err(|_| ObjectsError::BrokenOff)?
    }

    /// The bytes of `pieces` (file and range), one after the other, as a new file.
    pub(crate) async fn copy(
        mut self,
        files: Files,
        pieces: Vec<(String, std::ops::Range<u64>)>,
    ) -> Result<Written, ObjectsError> {
        let mut writing = self.writing.take().ok_or(ObjectsError::BrokenOff)?;
        let size = pieces.iter().map(|(_, range)| range.end - range.start).sum();
        tokio::task::spawn_blocking(move || {
            for (id, range) in pieces {
                files.read_range(&id, range, |bytes| writing.write(bytes))?;
            }
            writing.finish(size)
        })
        .await
        .map_err(|_| ObjectsError::BrokenOff)?
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("size", &self.size).finish_non_exhaustive()
    }
}
