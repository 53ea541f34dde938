//! An image as one file, to be carried to another host: a description, the disk's blocks that hold
//! anything, and a digest of it all at the end.
//!
//! ```text
//! "warren image 1\n" | u64 length, description | (u64 number, block)* | u64::MAX | SHA-256 of what came before
//! ```
//! Numbers are little-endian. Nothing of a file is used before its digest was found right.

use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Seek, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

const MAGIC: &[u8] = b"warren image 1\n";
const BLOCK_BYTES: usize = 64 * 1024;
const END: u64 = u64::MAX;
/// Longest description, in bytes.
const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with such a file.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{} is not an image that `warren image export` wrote", .0.display())]
    NotBundle(PathBuf),
    #[error("{} is damaged: its digest is not that of its content", .0.display())]
    Damaged(PathBuf),
    #[error("{} {}", .doing, .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl BundleError {
    fn io<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

/// Writes through a digest.
struct Summing<W> {
    inner: W,
    digest: Sha256,
}

impl<W: Write> Summing<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<R: Read> Summing<R> {
    fn take(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.digest.update(&*bytes);
        Ok(())
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.take(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Writes `file`, which must not be there, with this description and the content of `disk`. Blocking.
pub fn pack(description: &[u8], disk: &Path, file: &Path) -> Result<(), BundleError> {
    let written = File::create_new(file)
        .and_then(|target| write_bundle(description, disk, target))
        .map_err(BundleError::io("writing", file));
    if let Err(BundleError::Io { source, .. }) = &written
        && source.kind() != io::ErrorKind::AlreadyExists
    {
        // Half of it is of no use; where it stays, its digest is missing.
        let _ = fs::remove_file(file);
    }
    written
}

fn write_bundle(description: &[u8], disk: &Path, target: File) -> io::Result<()> {
    let disk = File::open(disk)?;
    let size = disk.metadata()?.len();
    let mut out = Summing { inner: BufWriter::new(target), digest: Sha256::new() };
    out.put(MAGIC)?;
    out.put(&(description.len() as u64).to_le_bytes())?;
    out.put(description)?;
    out.put(&size.to_le_bytes())?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut number = 0;
    while let Some(next) = next_block(&disk, number, size)? {
        number = next;
        let at = number * BLOCK_BYTES as u64;
        let length = usize::try_from(size - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        block.fill(0);
        disk.read_exact_at(block.get_mut(..length).unwrap_or_default(), at)?;
        if block.iter().any(|byte| *byte != 0) {
            out.put(&number.to_le_bytes())?;
            out.put(&block)?;
        }
        number += 1;
    }
    out.put(&END.to_le_bytes())?;
    let Summing { mut inner, digest } = out;
    inner.write_all(&digest.finalize())?;
    inner.flush()?;
    inner.get_ref().sync_all()
}

/// The first block from `number` on that is not all hole.
fn next_block(disk: &File, number: u64, size: u64) -> io::Result<Option<u64>> {
    let from = number * BLOCK_BYTES as u64;
    if from >= size {
        return Ok(None);
    }
    match rustix::fs::seek(disk, rustix::fs::SeekFrom::Data(from)) {
        Ok(data) => Ok(Some(data / BLOCK_BYTES as u64)),
        // No data from here on.
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads what [`pack`] wrote: the disk goes into the new file `disk`; the description is returned.
/// Blocking.
pub fn unpack(file: &Path, disk: &Path) -> Result<Vec<u8>, BundleError> {
    let source = File::open(file).map_err(BundleError::io("opening", file))?;
    let unpacked = read_bundle(file, source, disk);
    if unpacked.is_err() {
        // It may not be there at all.
        let _ = fs::remove_file(disk);
    }
    unpacked
}

fn read_bundle(file: &Path, source: File, disk: &Path) -> Result<Vec<u8>, BundleError> {
    let damaged = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => BundleError::Damaged(file.to_owned()),
        _ => BundleError::io("reading", file)(error),
    };
    let writing = BundleError::io("writing", disk);
    let mut input = Summing { inner: BufReader::new(source), digest: Sha256::new() };
    let mut magic = vec![0; MAGIC.len()];
    if input.take(&mut magic).is_err() || magic != MAGIC {
        return Err(BundleError::NotBundle(file.to_owned()));
    }
    let length = input.number().map_err(damaged)?;
    if length > DESCRIPTION_BYTES_MAX {
        return Err(BundleError::Damaged(file.to_owned()));
    }
    let mut description = vec![0; usize::try_from(length).unwrap_or_default()];
    input.take(&mut description).map_err(damaged)?;
    let size = input.number().map_err(damaged)?;
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(disk)
        .and_then(|target| target.set_len(size).map(|()| target))
        .map_err(&writing)?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let number = input.number().map_err(damaged)?;
        if number == END {
            break;
        }
        input.take(&mut block).map_err(damaged)?;
        let at = number.checked_mul(BLOCK_BYTES as u64).filter(|at| *at < size);
        let at = at.ok_or_else(|| BundleError::Damaged(file.to_owned()))?;
        let length = usize::try_from(size - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        target.write_all_at(block.get(..length).unwrap_or_default(), at).map_err(&writing)?;
    }
    let Summing { mut inner, digest } = input;
    let mut sum = [0; 32];
    inner.read_exact(&mut sum).map_err(damaged)?;
    let more = inner.stream_position().and_then(|at| Ok(inner.get_ref().metadata()?.len() > at));
    if sum[..] != digest.finalize()[..] || more.map_err(damaged)? {
        return Err(BundleError::Damaged(file.to_owned()));
    }
    target.sync_all().map_err(&writing)?;
    Ok(description)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// A sparse disk of 10 MiB and some with three written places, packed.
    fn packed() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (disk, file) = (dir.path().join("disk"), dir.path().join("bundle"));
        let content = File::create(&disk).unwrap();
        content.set_len((10 << 20) + 5).unwrap();
        for at in [0, 5 << 20, 10 << 20] {
            content.write_all_at(b"warm", at).unwrap();
        }
        pack(b"{\"name\":\"x\"}", &disk, &file).unwrap();
        (dir, disk, file)
    }

    #[test]
    fn an_image_arrives_as_it_left_and_its_holes_cost_nothing() {
        let (dir, disk, file) = packed();
        let arrived = dir.path().join("arrived");
        assert_eq!(unpack(&file, &arrived).unwrap(), b"{\"name\":\"x\"}");
        assert_eq!(fs::read(&arrived).unwrap(), fs::read(&disk).unwrap());
        assert!(fs::metadata(&file).unwrap().len() < 256 * 1024);
        assert!(fs::metadata(&arrived).unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_damaged_or_cut_image_is_refused_and_leaves_nothing() {
        let (dir, _, file) = packed();
        let arrived = dir.path().join("arrived");
        let whole = fs::read(&file).unwrap();
        for at in [MAGIC.len() + 9, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
            assert!(matches!(unpack(&file, &arrived), Err(BundleError::Damaged(_))), "{at}");
            assert!(!arrived.exists());
        }
        for cut in [whole.len() - 1, whole.len() - 40, 30] {
            fs::write(&file, &whole[..cut]).unwrap();
            assert!(matches!(unpack(&file, &arrived), Err(BundleError::Damaged(_))), "{cut}");
        }
        fs::write(&file, [&whole[..], b"more"].concat()).unwrap();
        assert!(matches!(unpack(&file, &arrived), Err(BundleError::Damaged(_))));
        fs::write(&file, b"PK\x03\x04").unwrap();
        assert!(matches!(unpack(&file, &arrived), Err(BundleError::NotBundle(_))));
    }
}
