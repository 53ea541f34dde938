//! Removing what builds keep for later ones: disks that no template is made from, and layers.
//!
//! Nothing that is in use is touched: a template has its own name of its disk's file, and while a
//! build runs the layers stay.

use crate::{
    base::BASE_NAME,
    buildah::Storage,
    builder::Works,
    error::BuildError,
    lock::{Hold, Lock},
    network::Reach,
    tool::Job,
};
use std::{fs, path::Path, time::Duration};
use walkdir::WalkDir;

/// A disk that a build has just made may be waiting for its template.
const FRESH: Duration = Duration::from_secs(600);

/// What is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pruning {
    /// All that can be made again.
    Everything,
    /// The longest unused, until disks and layers together take no more than so many bytes.
    DownTo(u64),
}

/// What went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    pub disks: usize,
    /// Space that was given back, in bytes.
    pub bytes: u64,
}

impl Works {
    /// While another build runs, its layers and locks stay; a later call takes them.
    pub(crate) async fn prune(&self, pruning: Pruning, job: &Job) -> Result<Pruned, BuildError> {
        self.records.open()?;
        let storage = Storage::open(&self.config.share_dir)?;
        let alone = Lock::try_take(&storage.dir().join("lock"), Hold::Exclusive)?;
        let layers = space_of(storage.dir());
        let disks = self.records.unused_disks()?;
        let mut kept: u64 = layers + disks.iter().map(|disk| disk.bytes).sum::<u64>();
        let mut pruned = Pruned::default();
        for disk in disks {
            let goes = match pruning {
                Pruning::Everything => alone.is_some() || disk.age() > FRESH,
                Pruning::DownTo(bytes) => kept > bytes && disk.age() > FRESH,
            };
            if goes {
                fs::remove_file(&disk.path)
                    .map_err(|source| BuildError::io("removing", &disk.path, source))?;
                kept = kept.saturating_sub(disk.bytes);
                pruned.disks += 1;
                pruned.bytes += disk.bytes;
            }
        }
        if alone.is_none() {
            return Ok(pruned);
        }
        self.records.remove_orphans()?;
        let layers_go = match pruning {
            Pruning::Everything => true,
            Pruning::DownTo(bytes) => kept > bytes,
        };
        if layers_go {
            let buildah = self.buildah(&storage, (&[], &[]), Reach::Nothing, job).await?;
            let removed = buildah.remove_images(BASE_NAME, job).await;
            buildah.close().await;
            removed?;
            pruned.bytes += layers.saturating_sub(space_of(storage.dir()));
        }
        Ok(pruned)
    }
}

/// Space that the files below a directory take, in bytes.
fn space_of(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    // What goes meanwhile takes none.
    let entries = WalkDir::new(dir).into_iter().filter_map(Result::ok);
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.blocks() * 512).sum()
}
