//! A VM's own disk: a chain of qcow2 layers on top of its template's.
//!
//! They are files named by rising numbers. The highest is the VM's own and written to; all below it are
//! frozen for ever and may be hard links that checkpoints and forks share. The chain *is* the list
//! of files, so there is no other record to be wrong: an empty layer too many (we died before the VMM
//! took it into use) and old ones too many (we died while they were removed, after the newest took over all
//! that they hold) read the same.

use crate::{
    EngineError, qcow2,
    state::{bytes_on_disk, host_error},
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// From this many on, the layers of a running VM are made one before it gets another. Each costs an open
/// file in the VMM and a look-up on each read of what no layer has.
pub(crate) const LAYERS_MAX: usize = 8;

#[derive(Debug, Clone)]
pub(crate) struct Layers(PathBuf);

impl Layers {
    pub(crate) fn of(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn create_directory(&self) -> Result<(), EngineError> {
        fs::create_dir(&self.0).map_err(|e| host_error(&self.0, "create", e))
    }

    /// Numbers of the layers, the oldest first.
    fn numbers(&self) -> Result<Vec<u32>, EngineError> {
        let failed = |e| host_error(&self.0, "list", e);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let number: Option<u32> = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn file(&self, number: u32) -> PathBuf {
        self.0.join(format!("{number}.qcow2"))
    }

    /// The files, the oldest first.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, EngineError> {
        Ok(self.numbers()?.into_iter().map(|number| self.file(number)).collect())
    }

    /// Adds an empty layer on top; from then on all below it are frozen.
    pub(crate) fn add(&self, disk_bytes: u64) -> Result<PathBuf, EngineError> {
        let path = self.file(self.numbers()?.last().map_or(0, |last| last + 1));
        qcow2::create_overlay(&path, disk_bytes).map_err(|e| host_error(&path, "create", e))?;
        Ok(path)
    }

    /// The same, unless the top is empty already. The VM must not run.
    pub(crate) fn add_unless_empty(&self, disk_bytes: u64) -> Result<(), EngineError> {
        let top = self.files()?.pop();
        if top.is_none_or(|top| !qcow2::is_empty(&top)) {
            self.add(disk_bytes)?;
        }
        Ok(())
    }

    /// Makes `to` hold the layers below the top one, under their own numbers.
    pub(crate) fn link_frozen_to(&self, to: &Layers) -> Result<(), EngineError> {
        to.create_directory()?;
        let mut numbers = self.numbers()?;
        numbers.pop();
        for number in numbers {
            link(&self.file(number), &to.file(number))?;
        }
        Ok(())
    }

    /// Makes `to` hold all of these layers: they are frozen, none is a VM's own.
    pub(crate) fn link_all_to(&self, to: &Layers) -> Result<(), EngineError> {
        to.create_directory()?;
        for number in self.numbers()? {
            link(&self.file(number), &to.file(number))?;
        }
        Ok(())
    }

    /// Removes all but the top one, which has taken over what they hold.
    pub(crate) fn remove_below_top(&self) -> Result<(), EngineError> {
        let mut files = self.files()?;
        files.pop();
        for file in files {
            fs::remove_file(&file).map_err(|e| host_error(&file, "remove", e))?;
        }
        Ok(())
    }

    /// Bytes on disk, shared ones included.
    pub(crate) fn bytes(&self) -> Result<u64, EngineError> {
        self.files()?.iter().map(|file| bytes_on_disk(file)).sum()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

fn link(from: &Path, to: &Path) -> Result<(), EngineError> {
    // Nobody writes to it any more, by whatever name.
    fs::set_permissions(from, Permissions::from_mode(0o444))
        .and_then(|()| fs::hard_link(from, to))
        .map_err(|e| host_error(from, "share", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    const DISK: u64 = 1 << 30;

    fn layers(dir: &tempfile::TempDir, name: &str) -> Layers {
        Layers::of(dir.path().join(name))
    }

    fn names(layers: &Layers) -> Vec<String> {
        let name = |file: &PathBuf| file.file_name().unwrap().to_string_lossy().into_owned();
        layers.files().unwrap().iter().map(name).collect()
    }

    #[test]
    fn the_chain_is_in_the_order_of_its_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let layers = layers(&dir, "vm");
        layers.create_directory().unwrap();
        for _ in 0..11 {
            layers.add(DISK).unwrap();
        }
        assert_eq!(names(&layers)[8..], ["8.qcow2", "9.qcow2", "10.qcow2"]);
        layers.remove_below_top().unwrap();
        assert_eq!(names(&layers), ["10.qcow2"]);
        // Never a number again that a checkpoint may hold.
        layers.add(DISK).unwrap();
        assert_eq!(names(&layers), ["10.qcow2", "11.qcow2"]);
    }

    #[test]
    fn what_is_shared_lives_as_long_as_its_last_user() {
        let dir = tempfile::tempdir().unwrap();
        let (vm, checkpoint, fork) =
            (layers(&dir, "vm"), layers(&dir, "checkpoint"), layers(&dir, "fork"));
        vm.create_directory().unwrap();
        fs::write(vm.add(DISK).unwrap(), "written").unwrap();
        vm.add(DISK).unwrap();
        vm.link_frozen_to(&checkpoint).unwrap();
        checkpoint.link_all_to(&fork).unwrap();
        fork.add(DISK).unwrap();
        assert_eq!((names(&checkpoint).len(), names(&fork).len()), (1, 2));
        let shared = fork.files().unwrap().remove(0);
        assert_eq!(fs::metadata(&shared).unwrap().nlink(), 3);
        fs::remove_dir_all(vm.path()).unwrap();
        fs::remove_dir_all(checkpoint.path()).unwrap();
        assert_eq!(fs::read(&shared).unwrap(), b"written");
        assert_eq!(fs::metadata(&shared).unwrap().mode() & 0o777, 0o444);
    }

    #[test]
    fn a_vm_that_wrote_nothing_gets_no_further_layer() {
        let dir = tempfile::tempdir().unwrap();
        let layers = layers(&dir, "vm");
        layers.create_directory().unwrap();
        layers.add_unless_empty(DISK).unwrap();
        layers.add_unless_empty(DISK).unwrap();
        assert_eq!(names(&layers), ["0.qcow2"]);
        fs::write(&layers.files().unwrap()[0], vec![1; 300_000]).unwrap();
        layers.add_unless_empty(DISK).unwrap();
        assert_eq!(names(&layers), ["0.qcow2", "1.qcow2"]);
    }
}
