//! Where the engine keeps its files, and what it writes about a template and a VM.
//!
//! ```text
//! DIR/templates/ID/{manifest.json, ram, device.state, disk.qcow2, rootfs.ext4}
//! DIR/vms/ID/{vm.json, template/, layers/, saved/, console.log, vmm.log, qmp.sock, agent.sock, root/}
//! DIR/checkpoints/ID/{checkpoint.json, template/, layers/, saved/}
//! DIR/initrd-DIGEST.cpio, DIR/calibration.json
//! ```
//! A template's directory, a checkpoint's and a VM's `saved` appear whole, by a rename; a VM's directory
//! is made after its slot was taken and removed before the slot is given back, so that nothing can be
//! left without an owner.
//!
//! What several use is linked, not counted: `template/` holds hard links to the template's files, and
//! `layers/` shares its frozen files with those of checkpoints and forks. So a template, a checkpoint or a
//! VM can be removed at any time and without a look at the others, and the file system keeps what
//! someone still needs, whenever we die.

use crate::{
    CheckpointId, CheckpointInfo, EngineError, TemplateId, TemplateInfo, VmId, layers::Layers,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use wire::App;

/// The engine's directory.
#[derive(Debug, Clone)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    pub(crate) fn open(path: &Path) -> Result<Self, EngineError> {
        let dir = Self(path.to_owned());
        for sub in ["templates", "vms", "checkpoints"].map(|name| dir.0.join(name)) {
            fs::create_dir_all(&sub).map_err(|e| host_error(&sub, "create the directory", e))?;
        }
        // Memory and disks of VMs are in it: nobody else on the host reads them.
        fs::set_permissions(&dir.0, Permissions::from_mode(0o700))
            .map_err(|e| host_error(&dir.0, "make private", e))?;
        Ok(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Removes templates, checkpoints and savings whose making was broken off, and what a measurement
    /// left.
    pub(crate) fn remove_incomplete(&self) -> Result<(), EngineError> {
        let incomplete = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".part") || VmId::new(name).is_ok_and(|id| id.is_internal())
        };
        let mut folders =
            vec![self.0.join("templates"), self.0.join("checkpoints"), self.0.clone()];
        folders.extend(self.vms()?.iter().map(|id| self.vm(id).0));
        for folder in folders {
            let entries = fs::read_dir(&folder).map_err(|e| host_error(&folder, "list", e))?;
            for path in
                entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|p| incomplete(p))
            {
                let removed =
                    if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.map_err(|e| host_error(&path, "remove", e))?;
            }
        }
        Ok(())
    }

    pub(crate) fn template(&self, id: &TemplateId) -> TemplateDir {
        TemplateDir(self.0.join("templates").join(id.as_str()))
    }

    pub(crate) fn vm(&self, id: &VmId) -> VmDir {
        VmDir(self.0.join("vms").join(id.as_str()))
    }

    pub(crate) fn checkpoint(&self, id: &CheckpointId) -> CheckpointDir {
        CheckpointDir(self.0.join("checkpoints").join(id.as_str()))
    }

    /// The names of all checkpoints that are whole.
    pub(crate) fn checkpoints(&self) -> Result<Vec<CheckpointId>, EngineError> {
        self.names("checkpoints", |name| CheckpointId::new(name).ok())
    }

    /// The names of all VM directories.
    pub(crate) fn vms(&self) -> Result<Vec<VmId>, EngineError> {
        self.names("vms", |name| VmId::new(name).ok())
    }

    /// The names of all whole templates.
    pub(crate) fn templates(&self) -> Result<Vec<TemplateId>, EngineError> {
        self.names("templates", |name| TemplateId::new(name).ok())
    }

    fn names<T>(
        &self,
        folder: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, EngineError> {
        let dir = self.0.join(folder);
        let failed = |e| host_error(&dir, "list", e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // What has another kind of name was not put there by us, or is not whole.
            names.extend(name.to_str().and_then(&parse));
        }
        Ok(names)
    }
}

/// Wraps an I/O error with what was tried on which path.
pub(crate) fn host_error(subject: &Path, action: &str, source: io::Error) -> EngineError {
    EngineError::Host { subject: subject.display().to_string(), action: action.to_owned(), source }
}

/// Makes what stands in a file or directory outlast the host.
pub(crate) fn sync(path: &Path) -> Result<(), EngineError> {
    fs::File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|e| host_error(path, "make durable", e))
}

/// Removes a directory with all that is in it; succeeds where there is none.
pub(crate) fn remove_directory(path: &Path) -> Result<(), EngineError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(host_error(path, "remove", e)),
        _ => Ok(()),
    }
}

/// Removes a template or checkpoint at once, whatever becomes of us while its files are removed; succeeds
/// where there is none.
pub(crate) fn discard(path: &Path) -> Result<(), EngineError> {
    let gone = path.with_extension("gone.part");
    match fs::rename(path, &gone) {
        Ok(()) => remove_directory(&gone),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(host_error(path, "remove", e)),
    }
}

/// Bytes on disk of a file.
pub(crate) fn bytes_on_disk(path: &Path) -> Result<u64, EngineError> {
    fs::metadata(path).map(|m| m.blocks() * 512).map_err(|e| host_error(path, "measure", e))
}

/// Writes a file whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    let part = path.with_extension("part");
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, path))
        .map_err(|e| host_error(path, "write", e))
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), EngineError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| host_error(path, "encode", io::Error::other(e)))?;
    write_whole(path, &bytes)
}

/// None where there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EngineError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| host_error(path, "decode", io::Error::other(e))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(host_error(path, "read", e)),
    }
}

#[derive(Debug, Clone)]
pub(crate) struct TemplateDir(PathBuf);

impl TemplateDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
    pub(crate) fn ram(&self) -> PathBuf {
        self.0.join("ram")
    }
    pub(crate) fn device_state(&self) -> PathBuf {
        self.0.join("device.state")
    }
    pub(crate) fn disk(&self) -> PathBuf {
        self.0.join("disk.qcow2")
    }
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs.ext4")
    }
    pub(crate) fn manifest(&self) -> PathBuf {
        self.0.join("manifest.json")
    }
    /// Where it is made before it is complete.
    pub(crate) fn part(&self) -> TemplateDir {
        Self(self.0.with_extension("part"))
    }
    fn files(&self) -> [PathBuf; 5] {
        [self.ram(), self.device_state(), self.disk(), self.rootfs(), self.manifest()]
    }

    /// Makes `to` another name of this template.
    pub(crate) fn link_to(&self, to: &TemplateDir) -> Result<(), EngineError> {
        fs::create_dir(&to.0).map_err(|e| host_error(&to.0, "create", e))?;
        for (from, to) in self.files().iter().zip(to.files()) {
            fs::hard_link(from, &to).map_err(|e| host_error(from, "link", e))?;
        }
        Ok(())
    }
}

/// What a VM or a checkpoint is made of: its template, its disk's layers, and where it does not run,
/// its memory.
#[derive(Debug, Clone)]
pub(crate) struct Body(PathBuf);

impl Body {
    pub(crate) fn template(&self) -> TemplateDir {
        TemplateDir(self.0.join("template"))
    }
    pub(crate) fn layers(&self) -> Layers {
        Layers::of(self.0.join("layers"))
    }
    pub(crate) fn saved(&self) -> SavedDir {
        SavedDir(self.0.join("saved"))
    }
}

/// A VM's memory and devices at the moment when it was stopped.
#[derive(Debug, Clone)]
pub(crate) struct SavedDir(PathBuf);

impl SavedDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
    pub(crate) fn memory(&self) -> PathBuf {
        self.0.join("memory")
    }
    pub(crate) fn device_state(&self) -> PathBuf {
        self.0.join("device.state")
    }
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("saved.json")
    }
    /// Where it is made before it is complete.
    pub(crate) fn part(&self) -> SavedDir {
        Self(self.0.with_extension("part"))
    }
    /// Where it goes when it is not true any more: another place each time, since its removal takes a while.
    pub(crate) fn withdrawn(&self) -> PathBuf {
        self.0.with_extension(format!("{}.part", uuid::Uuid::new_v4().simple()))
    }

    /// Makes `to` another name of it.
    pub(crate) fn link_to(&self, to: &SavedDir) -> Result<(), EngineError> {
        fs::create_dir(&to.0).map_err(|e| host_error(&to.0, "create", e))?;
        for (from, to) in [
            (self.memory(), to.memory()),
            (self.device_state(), to.device_state()),
            (self.record(), to.record()),
        ] {
            fs::hard_link(&from, &to).map_err(|e| host_error(&from, "link", e))?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
pub(crate) struct CheckpointDir(PathBuf);

impl CheckpointDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("checkpoint.json")
    }
    pub(crate) fn body(&self) -> Body {
        Body(self.0.clone())
    }
    /// Where it is made before it is complete.
    pub(crate) fn part(&self) -> CheckpointDir {
        Self(self.0.with_extension("part"))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct VmDir(PathBuf);

impl VmDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("vm.json")
    }
    pub(crate) fn body(&self) -> Body {
        Body(self.0.clone())
    }
    pub(crate) fn console(&self) -> PathBuf {
        self.0.join("console.log")
    }
    /// What the jail and QEMU say on their standard error.
    pub(crate) fn vmm_log(&self) -> PathBuf {
        self.0.join("vmm.log")
    }
    pub(crate) fn qmp_socket(&self) -> PathBuf {
        self.0.join("qmp.sock")
    }
    pub(crate) fn agent_socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }
    /// Mount point of the jail's root; always empty on the host.
    pub(crate) fn jail_root(&self) -> PathBuf {
        self.0.join("root")
    }
}

/// What is known of a template, on disk beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// What must be the same on the loading side: QEMU does not check it (`spec/engine-qemu.md`, 12).
    pub(crate) fingerprint: String,
    pub(crate) memory_mib: u32,
    pub(crate) vcpus: u8,
    pub(crate) disk_size_bytes: u64,
    pub(crate) cold_boot_ms: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) rootfs_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) app: App,
    pub(crate) ready: Option<ReadyRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ReadyRecord {
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) timeout_ms: u32,
}

impl Manifest {
    pub(crate) fn info(&self, id: &TemplateId) -> TemplateInfo {
        TemplateInfo {
            id: id.clone(),
            memory_mib: self.memory_mib,
            vcpus: self.vcpus,
            cold_boot_ms: self.cold_boot_ms,
            memory_bytes: self.memory_bytes,
            rootfs_bytes: self.rootfs_bytes,
            disk_bytes: self.disk_bytes,
        }
    }
}

/// What is known of a VM, on disk beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VmRecord {
    pub(crate) template: String,
    /// Whether its namespace lets it out.
    pub(crate) internet: bool,
    /// The VMM and machine that it runs on: no other loads its device state.
    pub(crate) machine: String,
}

/// What is known of a VM's saved memory, on disk beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SavedRecord {
    pub(crate) machine: String,
    pub(crate) memory_bytes: u64,
}

/// What is known of a checkpoint, on disk beside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CheckpointRecord {
    pub(crate) template: String,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) pause_us: u64,
}

impl CheckpointRecord {
    /// None where the template's name is none: not a record of ours.
    pub(crate) fn info(&self, id: &CheckpointId) -> Option<CheckpointInfo> {
        Some(CheckpointInfo {
            id: id.clone(),
            template: TemplateId::new(self.template.clone()).ok()?,
            memory_bytes: self.memory_bytes,
            disk_bytes: self.disk_bytes,
            pause_ms: self.pause_us as f64 / 1e3,
        })
    }
}
