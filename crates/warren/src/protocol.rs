//! What the client commands and the running service say to each other under `/_warren/v1`.
//!
//! Requests are signed like those to any AWS service, under the signing name [`SERVICE`]. Lists are
//! JSON; a build's progress is JSON lines; a command in a VM is an HTTP upgrade to frames of
//! [`Up`] and [`Down`]: a big-endian u32 of the length, then postcard.

mod life;

pub(crate) use life::{
    Begun, Checkpoint, CheckpointRequest, Event, FileChange, ForkRequest, HookCalls, Idle,
    Inspection, Origin, RunRequest, Step,
};

use crate::{config::LauncherMode, print::Row};
use bytes::Bytes;
use control::Hook;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{collections::BTreeMap, io, path::PathBuf};
use tokio_util::codec::LengthDelimitedCodec;
use wire::{ExitStatus, TerminalSize};

/// Signing name of Warren's own service.
pub(crate) const SERVICE: &str = "warren";
pub(crate) const VMS: &str = "/_warren/v1/vms";
pub(crate) const IMAGES: &str = "/_warren/v1/images";
pub(crate) const IMAGE_PRUNE: &str = "/_warren/v1/image-prune";
pub(crate) const IMAGE_EXPORT: &str = "/_warren/v1/image-export";
pub(crate) const IMAGE_IMPORT: &str = "/_warren/v1/image-import";
pub(crate) const CHECKPOINTS: &str = "/_warren/v1/checkpoints";
pub(crate) const EVENTS: &str = "/_warren/v1/events";
pub(crate) const STATUS: &str = "/_warren/v1/status";
pub(crate) const SHUTDOWN: &str = "/_warren/v1/shutdown";
pub(crate) const CHECKS: &str = "/_warren/v1/checks";
/// Value of the `Upgrade` header of an exec.
pub(crate) const EXEC_UPGRADE: &str = "warren-exec";
/// Largest artifact that `image build` sends, in bytes.
pub(crate) const ARTIFACT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Largest piece of a stream in one frame, in bytes.
pub(crate) const PIECE_BYTES_MAX: usize = 32 * 1024;
/// Largest frame that is taken, in bytes; pieces of output are as large as the guest cuts them.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// How messages are cut out of an exec's stream.
pub(crate) fn frames() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES_MAX).new_codec()
}

pub(crate) fn encode<M: Serialize>(message: &M) -> io::Result<Bytes> {
    postcard::to_extend(message, Vec::new()).map(Bytes::from).map_err(io::Error::other)
}

pub(crate) fn decode<M: DeserializeOwned>(frame: &[u8]) -> io::Result<M> {
    postcard::from_bytes(frame).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// One VM, as `warren ps` shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Vm {
    pub(crate) microvm_id: String,
    /// The session that it serves, where the launcher runs here.
    pub(crate) session_id: Option<String>,
    pub(crate) image: String,
    pub(crate) version: String,
    pub(crate) state: String,
    pub(crate) state_reason: Option<String>,
    /// RFC 3339.
    pub(crate) started_at: String,
    /// None until `/run` was answered.
    pub(crate) launch: Option<Launch>,
    /// None where it does not run.
    pub(crate) usage: Option<Usage>,
}

/// A launch, in milliseconds since RunMicrovm was accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// `standby` or `clone`.
    pub(crate) path: String,
    pub(crate) restored_ms: f64,
    pub(crate) run_hook_answered_ms: f64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) pss_kib: u64,
    pub(crate) cpu_ms: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) disk_read_bytes: u64,
    pub(crate) disk_written_bytes: u64,
    /// What it wrote on top of its image's disk.
    pub(crate) disk_bytes: u64,
    /// The saved memory of a suspended VM.
    pub(crate) saved_bytes: u64,
}

impl Row for Vm {
    const HEADS: &'static [&'static str] =
        &["MICROVM", "SESSION", "IMAGE", "STATE", "STARTED", "MEMORY", "CPU", "SENT", "RECEIVED"];

    fn cells(&self) -> Vec<String> {
        let usage = |show: fn(&Usage) -> String| self.usage.as_ref().map_or("-".into(), show);
        let state = match &self.state_reason {
            Some(reason) => format!("{} ({reason})", self.state),
            None => self.state.clone(),
        };
        vec![
            self.microvm_id.clone(),
            self.session_id.clone().unwrap_or_else(|| "-".into()),
            format!("{}:{}", self.image, self.version),
            state,
            self.started_at.clone(),
            usage(|u| bytes(u.pss_kib * 1024)),
            usage(|u| format!("{:.1}s", u.cpu_ms as f64 / 1000.0)),
            usage(|u| bytes(u.sent_bytes)),
            usage(|u| bytes(u.received_bytes)),
        ]
    }
}

/// One version of an image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) state: String,
    /// Why it failed: AWS' code, then a sentence.
    pub(crate) state_reason: Option<String>,
    pub(crate) memory_mib: Option<u32>,
    pub(crate) cold_boot_ms: Option<u64>,
    pub(crate) disk_bytes: Option<u64>,
    pub(crate) created_at: String,
}

impl Row for Image {
    const HEADS: &'static [&'static str] =
        &["NAME", "VERSION", "STATE", "MEMORY", "DISK", "COLD BOOT", "CREATED"];

    fn cells(&self) -> Vec<String> {
        // The code alone; the sentence was told by the build, and stands in the JSON.
        let code = self.state_reason.as_ref().and_then(|reason| reason.split(':').next());
        let state = match code {
            Some(code) => format!("{} ({code})", self.state),
            None => self.state.clone(),
        };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        vec![
            self.name.clone(),
            self.version.clone(),
            state,
            or_dash(self.memory_mib.map(|mib| format!("{mib} MiB"))),
            or_dash(self.disk_bytes.map(bytes)),
            or_dash(self.cold_boot_ms.map(|ms| format!("{ms} ms"))),
            self.created_at.clone(),
        ]
    }
}

/// A size for people.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

/// An image to be built of the artifact that comes with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageRequest {
    pub(crate) name: String,
    pub(crate) memory_mib: u32,
    /// None: no hook is called.
    pub(crate) hooks_port: Option<u16>,
    /// Seconds for each hook that is called, by its name on AWS.
    pub(crate) timeouts_s: BTreeMap<String, u32>,
    /// Of the application, on top of what its Dockerfile says.
    #[serde(default)]
    pub(crate) environment: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) capabilities: OsCapabilities,
}

/// What the application's root may do in its VM (`additionalOsCapabilities`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OsCapabilities {
    /// As in a container.
    #[default]
    Container,
    All,
}

impl ImageRequest {
    /// All six hooks, with the times of the sample on AWS.
    pub(crate) fn usual_timeouts() -> BTreeMap<String, u32> {
        Hook::ALL
            .into_iter()
            .map(|hook| {
                let seconds = match hook {
                    Hook::Ready | Hook::Validate => 300,
                    Hook::Run | Hook::Resume | Hook::Suspend | Hook::Terminate => 5,
                };
                (hook.name().to_owned(), seconds)
            })
            .collect()
    }
}

/// An image that is written to or read from a file of the service's host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageBundle {
    /// None: the name that it has in the file.
    pub(crate) name: Option<String>,
    /// None: the newest that may be run.
    pub(crate) version: Option<String>,
    /// Absolute.
    pub(crate) file: PathBuf,
}

/// What `image prune` gave back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PrunedImages {
    pub(crate) disks: usize,
    pub(crate) bytes: u64,
}

impl Row for PrunedImages {
    const HEADS: &'static [&'static str] = &["DISKS", "GIVEN BACK"];

    fn cells(&self) -> Vec<String> {
        vec![self.disks.to_string(), bytes(self.bytes)]
    }
}

/// Carries an [`ImageRequest`] as JSON beside the artifact, which is the body.
pub(crate) const IMAGE_HEADER: &str = "x-warren-image";

/// A line of a build's progress.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum BuildLine {
    Stage { stage: String },
    Log { text: String },
    Built { image: Image },
    Failed { error: String, hint: Option<String> },
}

/// A command to be run in a VM: the body of the request that is upgraded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exec {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    pub(crate) terminal: Option<TerminalSize>,
}

/// From the client to the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Up {
    Stdin(Vec<u8>),
    /// End of input.
    Close,
    Resize(TerminalSize),
    /// Linux signal number.
    Signal(i32),
}

/// From the command to the client; [`Down::Exit`] is the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Down {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Exit(ExitStatus),
}

/// What the service says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) vmm: String,
    pub(crate) accelerator: String,
    pub(crate) accelerator_reason: String,
    pub(crate) environment_id: Option<String>,
    pub(crate) launcher_mode: LauncherMode,
    pub(crate) image: String,
    pub(crate) platform_url: String,
}

/// How a link of the chain was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    /// Works, but not as it should.
    Warn,
    Broken,
    /// Not looked at, since an earlier link is broken.
    Skipped,
}

/// A line of `warren doctor` and `warren verify`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    pub(crate) found: String,
    /// What to do, where it is not [`Verdict::Ok`].
    pub(crate) remedy: Option<String>,
}

/// The body of an error answer of this service, in the form of AWS' JSON protocols.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 * 1024 * 1024 * 1024), "3.0 GiB");
    }

    #[test]
    fn a_message_survives_its_frame() {
        let message = Down::Exit(ExitStatus::Signal(9));
        assert_eq!(decode::<Down>(&encode(&message).unwrap()).unwrap(), message);
        assert!(decode::<Down>(&[9]).is_err());
    }

    #[test]
    fn a_row_has_a_cell_for_each_head() {
        let vm = Vm {
            microvm_id: "microvm-1".into(),
            session_id: None,
            image: "claude-worker".into(),
            version: "1.0".into(),
            state: "RUNNING".into(),
            state_reason: None,
            started_at: "2026-11-23T00:00:00Z".into(),
            launch: None,
            usage: None,
        };
        assert_eq!(vm.cells().len(), Vm::HEADS.len());
    }
}
