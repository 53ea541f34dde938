//! A VM as it is at one moment, kept for others to begin as.
//!
//! A running VM is stopped for as long as its memory is copied; its disk is not copied at all: what it
//! has written so far is frozen as a layer, and it goes on with a new one on top. Both then share the
//! layers by hard links ([`crate::layers`]).

use super::{
    Inner, Running,
    arguments::{disk_node, file_node},
    blocking,
    clone::vmm_failed,
    qmp::{Blocks, Qmp, QmpError},
    remains,
    suspend::{save_memory, seal},
};
use crate::{
    CheckpointId, CheckpointInfo, EngineError, VmId,
    layers::LAYERS_MAX,
    state::{
        CheckpointDir, CheckpointRecord, Manifest, VmDir, VmRecord, host_error, read_json,
        remove_directory, sync, write_json,
    },
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// Bringing a VM's layers into one, while it runs: as long as its disk takes to copy what is in them.
const SHORTEN_WAIT_MAX: Duration = Duration::from_secs(600);
const SHORTEN_JOB: &str = "shorten";

impl Inner {
    pub(super) async fn checkpoint(
        self: &Arc<Self>,
        id: &VmId,
        checkpoint: &CheckpointId,
    ) -> Result<CheckpointInfo, EngineError> {
        let dir = self.state.checkpoint(checkpoint);
        let part = dir.part();
        if dir.path().exists() {
            return Err(EngineError::CheckpointExists(checkpoint.clone()));
        }
        fs::create_dir(part.path()).map_err(|e| match e.kind() {
            // One is in the making: what an engine before left was removed when this one was opened.
            io::ErrorKind::AlreadyExists => EngineError::CheckpointExists(checkpoint.clone()),
            _ => host_error(part.path(), "create", e),
        })?;
        let result = match self.running(id, "saving a checkpoint") {
            Ok(running) => self.copy_running(id, &running, &part).await,
            Err(_) if remains::is_saved(&self.state.vm(id)) => {
                let (inner, vm, to) = (self.clone(), id.clone(), part.clone());
                blocking(move || inner.copy_suspended(&vm, &to)).await.map(|()| Duration::ZERO)
            }
            Err(e) => Err(e),
        };
        let (inner, vm) = (self.clone(), id.clone());
        let sealed = match result {
            Ok(pause) => blocking(move || inner.seal_checkpoint(&vm, &dir, pause)).await,
            Err(e) => Err(e),
        };
        match sealed {
            Ok(record) => {
                tracing::debug!(vm = %id, %checkpoint, pause_us = record.pause_us, "saved a checkpoint");
                record
                    .info(checkpoint)
                    .ok_or_else(|| EngineError::NoSuchCheckpoint(checkpoint.clone()))
            }
            Err(e) => {
                remove_directory(part.path())?;
                Err(e)
            }
        }
    }

    /// Copies a running VM; returns for how long it stood still.
    async fn copy_running(
        self: &Arc<Self>,
        id: &VmId,
        running: &Arc<Running>,
        part: &CheckpointDir,
    ) -> Result<Duration, EngineError> {
        self.shorten_chain(id).await?;
        let (inner, vm, to) = (self.clone(), id.clone(), part.clone());
        let copy = blocking(move || inner.prepare_copy(&vm, to)).await?;
        let start = Instant::now();
        self.hold(id, running).await;
        let pid = running.process.pid;
        let copied = blocking(move || copy.take(pid)).await;
        match copied {
            Ok(()) => running.wake().await?,
            Err(e) => {
                self.go_on(id, running).await;
                return Err(e);
            }
        }
        Ok(start.elapsed())
    }

    /// All that can be done while the VM still runs.
    fn prepare_copy(&self, id: &VmId, part: CheckpointDir) -> Result<Copy, EngineError> {
        let dir = self.state.vm(id);
        let body = part.body();
        dir.body().template().link_to(&body.template())?;
        fs::create_dir(body.saved().path())
            .map_err(|e| host_error(body.saved().path(), "create", e))?;
        let layer = dir.body().layers().add(disk_bytes(&dir)?)?;
        let failed = |e: QmpError| vmm_failed(id, &dir, &e);
        let mut qmp = Qmp::connect(&dir.qmp_socket()).map_err(failed)?;
        let (below, top) = add_layer(&mut qmp, &layer).map_err(failed)?;
        Ok(Copy { id: id.clone(), dir, part, qmp, below, top })
    }

    /// A suspended VM is on disk already: its files get further names.
    fn copy_suspended(&self, id: &VmId, part: &CheckpointDir) -> Result<(), EngineError> {
        let dir = self.state.vm(id);
        let (from, to) = (dir.body(), part.body());
        from.template().link_to(&to.template())?;
        from.saved().link_to(&to.saved())?;
        from.layers().add_unless_empty(disk_bytes(&dir)?)?;
        from.layers().link_frozen_to(&to.layers())
    }

    /// What was copied becomes durable and a checkpoint.
    fn seal_checkpoint(
        &self,
        id: &VmId,
        dir: &CheckpointDir,
        pause: Duration,
    ) -> Result<CheckpointRecord, EngineError> {
        let (vm, part) = (self.state.vm(id), dir.part());
        let record: VmRecord =
            read_json(&vm.record())?.ok_or_else(|| EngineError::NoSuchVm(id.clone()))?;
        let (saved, layers) = (part.body().saved(), part.body().layers());
        if !layers.path().exists() {
            vm.body().layers().link_frozen_to(&layers)?;
        }
        let sealed = match read_json(&saved.record())? {
            Some(sealed) => sealed,
            None => seal(&saved, record.machine)?,
        };
        for layer in layers.files()? {
            sync(&layer)?;
        }
        let record = CheckpointRecord {
            template: record.template,
            memory_bytes: sealed.memory_bytes,
            disk_bytes: layers.bytes()?,
            pause_us: pause.as_micros() as u64,
        };
        write_json(&part.record(), &record)?;
        sync(&part.record())?;
        sync(part.path())?;
        fs::rename(part.path(), dir.path()).map_err(|e| host_error(dir.path(), "rename", e))?;
        sync(dir.path().parent().unwrap_or(dir.path()))?;
        Ok(record)
    }

    /// Makes one of a running VM's layers where they have become many. The VM runs on meanwhile.
    pub(super) async fn shorten_chain(self: &Arc<Self>, id: &VmId) -> Result<(), EngineError> {
        let (dir, id) = (self.state.vm(id), id.clone());
        blocking(move || {
            let layers = dir.body().layers();
            if layers.files()?.len() < LAYERS_MAX {
                return Ok(());
            }
            let shorten = || shorten(&mut Qmp::connect(&dir.qmp_socket())?);
            shorten().map_err(|e| vmm_failed(&id, &dir, &e))?;
            layers.remove_below_top()
        })
        .await
    }

    pub(super) fn checkpoint_info(
        &self,
        id: &CheckpointId,
    ) -> Result<Option<CheckpointInfo>, EngineError> {
        let record: Option<CheckpointRecord> = read_json(&self.state.checkpoint(id).record())?;
        Ok(record.and_then(|record| record.info(id)))
    }

    pub(super) fn list_checkpoints(&self) -> Result<Vec<CheckpointInfo>, EngineError> {
        let mut found = Vec::new();
        for id in self.state.checkpoints()? {
            found.extend(self.checkpoint_info(&id)?);
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }
}

fn disk_bytes(dir: &VmDir) -> Result<u64, EngineError> {
    let path = dir.body().template().manifest();
    let manifest: Option<Manifest> = read_json(&path)?;
    let missing = || host_error(&path, "read", io::ErrorKind::NotFound.into());
    Ok(manifest.ok_or_else(missing)?.disk_size_bytes)
}

/// A running VM that is about to be copied.
struct Copy {
    id: VmId,
    dir: VmDir,
    part: CheckpointDir,
    qmp: Qmp,
    /// Nodes of the layer that becomes frozen and of the one that is written to from then on.
    below: String,
    top: String,
}

impl Copy {
    /// Stops the guest, copies it, and lets it go on; where it fails, the guest is left as it is.
    fn take(mut self, pid: i32) -> Result<(), EngineError> {
        let saved = self.part.body().saved();
        let failed = |e: QmpError| vmm_failed(&self.id, &self.dir, &e);
        self.qmp.execute("stop", json!({})).map_err(failed)?;
        self.qmp.save_devices(&saved.device_state(), Blocks::Keep).map_err(failed)?;
        let layers = json!({ "node": self.below, "overlay": self.top });
        self.qmp.execute("blockdev-snapshot", layers).map_err(failed)?;
        save_memory(&self.dir, pid, &saved)?;
        self.qmp.execute("cont", json!({})).map(drop).map_err(failed)
    }
}

/// Opens an empty layer in the VMM; returns the node that the guest writes to now, and the new one.
fn add_layer(qmp: &mut Qmp, layer: &Path) -> Result<(String, String), QmpError> {
    let below = top_node(qmp)?;
    let number =
        nodes(qmp)?.iter().filter_map(|node| number_of(node, "disk")).max().unwrap_or(0) + 1;
    let (disk, file) = (disk_node(number), file_node(number));
    let path = qmp.add_file(&File::options().read(true).write(true).open(layer)?)?;
    let add = |qmp: &mut Qmp, options: Value| qmp.execute("blockdev-add", options).map(drop);
    add(
        qmp,
        json!({ "driver": "file", "node-name": file, "filename": path, "locking": "off",
                "discard": "unmap" }),
    )?;
    add(
        qmp,
        json!({ "driver": "qcow2", "node-name": disk, "file": file, "backing": null,
                "discard": "unmap" }),
    )?;
    Ok((below, disk))
}

/// Copies what is in the layers between the template's and the top one into the top one, and lets go of
/// them.
fn shorten(qmp: &mut Qmp) -> Result<(), QmpError> {
    let top = top_node(qmp)?;
    let job = json!({ "job-id": SHORTEN_JOB, "device": top, "base-node": disk_node(1) });
    qmp.execute("block-stream", job)?;
    let ended = qmp.wait_event(SHORTEN_WAIT_MAX, |event| match event["event"].as_str() {
        Some("BLOCK_JOB_COMPLETED") => Some(event["data"]["error"].as_str().map(str::to_owned)),
        Some("BLOCK_JOB_CANCELLED") => Some(Some("it was cancelled".to_owned())),
        _ => None,
    })?;
    if let Some(reason) = ended {
        return Err(QmpError::Refused { command: "block-stream".into(), reason });
    }
    let top = number_of(&top, "disk").unwrap_or_default();
    let between = |node: &String| number_of(node, "disk").filter(|n| *n > 1 && *n != top);
    let mut unused: Vec<usize> = nodes(qmp)?.iter().filter_map(between).collect();
    // Each is the backing of the next.
    unused.sort_unstable_by(|a, b| b.cmp(a));
    for number in unused {
        for node in [disk_node(number), file_node(number)] {
            qmp.execute("blockdev-del", json!({ "node-name": node }))?;
        }
    }
    Ok(())
}

/// The node that the guest's disk writes to.
fn top_node(qmp: &mut Qmp) -> Result<String, QmpError> {
    let devices = qmp.execute("query-block", json!({}))?;
    let node = devices[0]["inserted"]["node-name"].as_str().map(str::to_owned);
    node.ok_or_else(|| QmpError::Protocol(format!("query-block: {devices}")))
}

fn nodes(qmp: &mut Qmp) -> Result<Vec<String>, QmpError> {
    let nodes = qmp.execute("query-named-block-nodes", json!({ "flat": true }))?;
    let names = nodes.as_array().into_iter().flatten();
    Ok(names.filter_map(|node| node["node-name"].as_str().map(str::to_owned)).collect())
}

fn number_of(node: &str, kind: &str) -> Option<usize> {
    node.strip_prefix(kind)?.parse().ok()
}
