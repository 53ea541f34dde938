//! What is asked and told about a VM's life: runs, forks, checkpoints, events, and all of a VM's record.

use super::bytes;
use crate::print::Row;
use serde::{Deserialize, Serialize};

/// A VM to be run: of an image, or to go on from a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunRequest {
    pub(crate) origin: Origin,
    /// For its `/run` hook.
    pub(crate) payload: Option<String>,
    /// None: eight hours, or as the checkpoint's source.
    pub(crate) max_duration_s: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    Image {
        name: String,
        version: Option<String>,
        /// Name of the execution role; none: the app gets no credentials.
        role: Option<String>,
        idle: Option<Idle>,
    },
    Checkpoint {
        name: String,
    },
}

/// An idle policy, as RunMicrovm has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Idle {
    pub(crate) max_idle_s: u64,
    pub(crate) suspended_s: u64,
    pub(crate) auto_resume: bool,
}

/// As many forks as there are payloads.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ForkRequest {
    pub(crate) payloads: Vec<Option<String>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CheckpointRequest {
    pub(crate) name: String,
}

/// A VM that was asked for, when it runs or has failed to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) microvm_id: String,
    pub(crate) state: String,
    pub(crate) state_reason: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// None: made for a fork that is under way.
    pub(crate) name: Option<String>,
    pub(crate) state: String,
    /// The VM that it was made of.
    pub(crate) microvm_id: String,
    /// The checkpoint that this VM came from.
    pub(crate) parent: Option<String>,
    pub(crate) image: String,
    pub(crate) version: String,
    /// What differs from the image's snapshot, in bytes on disk.
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) pause_ms: f64,
    /// RFC 3339.
    pub(crate) created_at: String,
}

impl Row for Checkpoint {
    const HEADS: &'static [&'static str] =
        &["NAME", "MICROVM", "PARENT", "IMAGE", "MEMORY", "DISK", "PAUSE", "CREATED"];

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let name = match (&self.name, self.state.as_str()) {
            (Some(name), "READY") => name.clone(),
            (Some(name), state) => format!("{name} ({state})"),
            (None, _) => "(fork)".into(),
        };
        vec![
            name,
            self.microvm_id.clone(),
            or_dash(&self.parent),
            format!("{}:{}", self.image, self.version),
            bytes(self.memory_bytes),
            bytes(self.disk_bytes),
            format!("{:.0} ms", self.pause_ms),
            self.created_at.clone(),
        ]
    }
}

/// A file that differs between two checkpoints.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FileChange {
    /// `added`, `modified` or `removed`.
    pub(crate) change: String,
    pub(crate) path: String,
    pub(crate) size_before: Option<u64>,
    pub(crate) size_after: Option<u64>,
}

impl Row for FileChange {
    const HEADS: &'static [&'static str] = &["CHANGE", "BEFORE", "AFTER", "PATH"];

    fn cells(&self) -> Vec<String> {
        let size = |size: Option<u64>| size.map_or("-".into(), bytes);
        vec![self.change.clone(), size(self.size_before), size(self.size_after), self.path.clone()]
    }
}

/// A step in the life of a VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// RFC 3339.
    pub(crate) at: String,
    pub(crate) microvm_id: String,
    pub(crate) image: String,
    #[serde(flatten)]
    pub(crate) step: Step,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) event: String,
    /// Since RunMicrovm was accepted.
    pub(crate) elapsed_ms: f64,
    /// Of the work that ended with it: a clone, a hook, a save.
    pub(crate) took_ms: Option<f64>,
    /// Its reason, or what came of it.
    pub(crate) detail: String,
}

impl Row for Step {
    const HEADS: &'static [&'static str] = &["AFTER", "TOOK", "EVENT", "DETAIL"];

    fn cells(&self) -> Vec<String> {
        vec![
            format!("{:.1} ms", self.elapsed_ms),
            self.took_ms.map_or("-".into(), |took| format!("{took:.1} ms")),
            self.event.clone(),
            self.detail.clone(),
        ]
    }
}

/// All of a VM's record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Inspection {
    #[serde(flatten)]
    pub(crate) vm: super::Vm,
    pub(crate) endpoint: String,
    pub(crate) memory_mib: u32,
    /// `image`, or the checkpoint that it goes on from.
    pub(crate) origin: String,
    pub(crate) execution_role: Option<String>,
    pub(crate) idle: Option<Idle>,
    pub(crate) max_duration_s: u64,
    pub(crate) terminated_at: Option<String>,
    pub(crate) ingress_connectors: Vec<String>,
    pub(crate) egress_connectors: Vec<String>,
    pub(crate) log_group: Option<String>,
    pub(crate) log_stream: Option<String>,
    pub(crate) hooks_port: Option<u16>,
    pub(crate) hooks: Vec<HookCalls>,
    pub(crate) timeline: Vec<Step>,
}

/// A hook of the image, and how its calls went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HookCalls {
    pub(crate) hook: String,
    pub(crate) timeout_s: u64,
    /// How long each call took, oldest first.
    pub(crate) took_ms: Vec<f64>,
}

impl Row for HookCalls {
    const HEADS: &'static [&'static str] = &["HOOK", "TIME-OUT", "CALLS TOOK"];

    fn cells(&self) -> Vec<String> {
        let took: Vec<String> = self.took_ms.iter().map(|took| format!("{took:.1} ms")).collect();
        let took = if took.is_empty() { "-".to_owned() } else { took.join(", ") };
        vec![format!("/{}", self.hook), format!("{} s", self.timeout_s), took]
    }
}
