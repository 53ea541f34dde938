//! Puts files into a VM's /workspace: a tar stream into `tar x` in the VM.

use crate::failure::{Exit, Remedy};
use control::{Control, ControlError, MicrovmId};
use engine::{Attach, ExecInput, ExecOutput, ExecRequest, ExecSession, ExitStatus};
use std::{
    io,
    path::{Path, PathBuf},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::mpsc,
};
use tokio_util::io::SyncIoBridge;

const TARGET: &str = "/workspace";
const PIPE_BYTES: usize = 256 * 1024;
const PIECE_BYTES: usize = 32 * 1024;
/// Of what `tar` in the VM says when it fails.
const COMPLAINT_BYTES_MAX: usize = 4096;

/// The project that the default script works on.
const EXAMPLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/example.tar"));

/// What is copied into /workspace before the first call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Workspace {
    Empty,
    Example,
    Directory(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    #[error("{path} is not a directory that can be read")]
    NotDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} cannot be packed")]
    Pack {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the VM does not take files")]
    Exec(#[from] ControlError),
    #[error("tar in the VM failed: {0}")]
    Unpack(String),
}

impl Remedy for WorkspaceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotDirectory { .. } => Some("name a directory with --workspace".into()),
            Self::Pack { .. } => Some("can all of its files be read?".into()),
            Self::Unpack(_) => {
                Some("does the image have tar, and a disk that is large enough?".into())
            }
            Self::Exec(e) => e.hint(),
        }
    }
    fn exit(&self) -> Exit {
        match self {
            Self::NotDirectory { .. } => Exit::Usage,
            Self::Pack { .. } | Self::Exec(_) | Self::Unpack(_) => Exit::Failed,
        }
    }
}

impl Workspace {
    /// Found out before anything is started.
    pub(crate) fn check(&self) -> Result<(), WorkspaceError> {
        match self {
            Self::Empty | Self::Example => Ok(()),
            Self::Directory(path) => std::fs::read_dir(path)
                .map(|_| ())
                .map_err(|source| WorkspaceError::NotDirectory { path: path.clone(), source }),
        }
    }

    /// Copies it into a running VM.
    pub(crate) async fn copy(
        &self,
        control: &Control,
        vm: &MicrovmId,
    ) -> Result<(), WorkspaceError> {
        match self {
            Self::Empty => Ok(()),
            Self::Example => unpack(control, vm, EXAMPLE).await,
            Self::Directory(path) => {
                let (reader, writer) = tokio::io::duplex(PIPE_BYTES);
                let dir = path.clone();
                let packing =
                    tokio::task::spawn_blocking(move || pack(&dir, SyncIoBridge::new(writer)));
                let unpacked = unpack(control, vm, reader).await;
                // A VM that took no more has broken the pipe: then that is the cause.
                let packed = packing.await.unwrap_or_else(|e| Err(io::Error::other(e)));
                unpacked?;
                packed.map_err(|source| WorkspaceError::Pack { path: path.clone(), source })
            }
        }
    }
}

fn pack(dir: &Path, writer: impl io::Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(writer);
    tar.follow_symlinks(false);
    tar.append_dir_all(".", dir)?;
    tar.into_inner()?.flush()
}

async fn unpack(
    control: &Control,
    vm: &MicrovmId,
    archive: impl AsyncRead + Unpin,
) -> Result<(), WorkspaceError> {
    let argv = ["tar", "-x", "-f", "-", "-C", TARGET, "--no-same-owner"].map(str::to_owned);
    let request =
        ExecRequest { argv: argv.into(), attach: Attach::Input, ..ExecRequest::default() };
    let ExecSession { input, output } = control.exec(vm, request).await?;
    let (_, ended) = tokio::join!(feed(archive, input), wait(output));
    ended
}

/// Ends with the archive, or with a command that takes no more; its exit then says why.
async fn feed(mut archive: impl AsyncRead + Unpin, input: mpsc::Sender<ExecInput>) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = archive.read(&mut piece).await {
        let data = piece.get(..count).unwrap_or_default().to_vec();
        if input.send(ExecInput::Data(data)).await.is_err() {
            return;
        }
    }
    let _ = input.send(ExecInput::Close).await;
}

async fn wait(mut output: mpsc::Receiver<ExecOutput>) -> Result<(), WorkspaceError> {
    let mut complaint = Vec::new();
    while let Some(piece) = output.recv().await {
        match piece {
            ExecOutput::Stdout(data) | ExecOutput::Stderr(data) => {
                let room = COMPLAINT_BYTES_MAX.saturating_sub(complaint.len());
                complaint.extend(data.into_iter().take(room));
            }
            ExecOutput::Exited(ExitStatus::Code(0)) => return Ok(()),
            ExecOutput::Exited(ExitStatus::NotStarted(reason)) => {
                return Err(WorkspaceError::Unpack(reason));
            }
            ExecOutput::Exited(ExitStatus::Code(_) | ExitStatus::Signal(_)) => {
                let words = String::from_utf8_lossy(&complaint).trim().to_owned();
                return Err(WorkspaceError::Unpack(words));
            }
        }
    }
    Err(WorkspaceError::Unpack("the VM ended".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_in_the_binary() {
        let mut tar = tar::Archive::new(EXAMPLE);
        let names: Vec<String> = tar
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert!(names.iter().any(|n| n == "inventory/reorder.py"), "{names:?}");
        assert!(!names.iter().any(|n| n.contains("script.json")));
    }

    #[test]
    fn a_directory_that_is_not_there_is_found_out_early() {
        let missing = Workspace::Directory("/nonexistent".into());
        assert!(matches!(missing.check(), Err(WorkspaceError::NotDirectory { .. })));
    }
}
