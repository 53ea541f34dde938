//! `warren cp`: files between here and a VM, as a tar stream through the image's own tar.

use super::Context;
use crate::{
    args::{Cp, Place},
    client::{Client, ClientError, ExecStream, Sender},
    failure::{Exit, Outcome, Remedy},
    protocol::{Down, Exec, PIECE_BYTES_MAX, Up},
};
use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use tokio::sync::mpsc;
use wire::ExitStatus;

/// Pieces of the stream that may wait between tar here and the VM.
const QUEUE_PIECES_MAX: usize = 16;

/// What the VM's tar said, in an error.
const SAID_BYTES_MAX: usize = 4096;

#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error("one side of a copy is a VM, as VM:PATH, the other a path here")]
    Sides,
    #[error("{path} has no name to be copied under")]
    NoName { path: PathBuf },
    #[error("{path} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the image has no tar, which copies files")]
    NoTar,
    #[error("tar in the VM failed: {said}")]
    Tar { said: String },
    #[error("the stream of files broke")]
    Stream(#[source] io::Error),
}

impl Remedy for CopyError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Sides => Some("warren cp ./file 3f2a:/workspace, or the other way round".into()),
            Self::NoTar => Some(
                "put tar into the image; a single file: warren exec VM -- cat PATH > file".into(),
            ),
            Self::NoName { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Tar { .. }
            | Self::Stream(_) => None,
        }
    }
}

pub(crate) async fn cp(context: &Context, cp: Cp) -> Outcome {
    let client = context.client()?;
    let user = cp.user;
    match (cp.from, cp.to) {
        (Place::InVm { vm, path }, to @ (Place::Here(_) | Place::Stream)) => {
            let vm = Vm { id: client.vm(&vm).await?.microvm_id, client, user };
            vm.fetch(context, &path, to).await
        }
        (from @ (Place::Here(_) | Place::Stream), Place::InVm { vm, path }) => {
            let vm = Vm { id: client.vm(&vm).await?.microvm_id, client, user };
            vm.send(from, &path).await
        }
        (Place::InVm { .. }, Place::InVm { .. })
        | (Place::Here(_) | Place::Stream, Place::Here(_) | Place::Stream) => {
            Err(CopyError::Sides.into())
        }
    }
}

/// The VM's side of a copy.
struct Vm {
    client: Client,
    id: String,
    user: String,
}

/// Where a path leads: a directory to work in, and the name in it.
fn split(path: &str) -> (String, String) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        None if path.is_empty() => ("/".into(), ".".into()),
        None => (".".into(), path.into()),
        Some(("", name)) => ("/".into(), name.into()),
        Some((dir, name)) => (dir.into(), name.into()),
    }
}

impl Vm {
    async fn exec(&self, argv: &[&str]) -> Result<(Sender, ExecStream), ClientError> {
        let exec = Exec {
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            working_dir: String::new(),
            user: self.user.clone(),
            terminal: None,
        };
        self.client.exec(&self.id, &exec).await
    }

    async fn is_directory(&self, path: &str) -> Result<bool, ClientError> {
        let (mut sender, mut stream) = self.exec(&["test", "-d", path]).await?;
        sender.send(&Up::Close).await?;
        loop {
            if let Down::Exit(status) = stream.next().await? {
                return Ok(status == ExitStatus::Code(0));
            }
        }
    }

    async fn send(&self, from: Place, to: &str) -> Outcome {
        let (dir, name) = if self.is_directory(to).await? {
            (to.to_owned(), None)
        } else {
            let (dir, name) = split(to);
            (dir, Some(name))
        };
        let (mut sender, stream) = self.exec(&["tar", "-C", &dir, "-xf", "-"]).await?;
        let (pieces, mut queued) = mpsc::channel(QUEUE_PIECES_MAX);
        let packing = tokio::task::spawn_blocking(move || pack(&from, name, Pieces(pieces)));
        let feeding = tokio::spawn(async move {
            while let Some(piece) = queued.recv().await {
                // Where the VM's tar has ended, its end tells why.
                if sender.send(&Up::Stdin(piece)).await.is_err() {
                    return;
                }
            }
            let _ = sender.send(&Up::Close).await;
        });
        let unpacked = tar_ended(stream, None).await;
        feeding.abort();
        // What cannot be read here is the cause of what the VM says of a stream that broke off.
        match packing.await {
            Ok(Err(error @ (CopyError::Read { .. } | CopyError::NoName { .. }))) => {
                Err(error.into())
            }
            Ok(_) | Err(_) => unpacked,
        }
    }

    async fn fetch(&self, context: &Context, from: &str, to: Place) -> Outcome {
        let (dir, name) = split(from);
        let (mut sender, stream) = self.exec(&["tar", "-C", &dir, "-cf", "-", &name]).await?;
        sender.send(&Up::Close).await?;
        let (pieces, queued) = mpsc::channel(QUEUE_PIECES_MAX);
        let to = match to {
            Place::Here(path) => path,
            Place::Stream | Place::InVm { .. } => {
                return tar_ended(stream, Some(Sink::Printer(context))).await;
            }
        };
        let unpacking =
            tokio::task::spawn_blocking(move || unpack(&to, &name, Source::new(queued)));
        let packed = tar_ended(stream, Some(Sink::Queue(pieces))).await;
        let unpacked = unpacking.await;
        packed?;
        match unpacked {
            Ok(Ok(())) => Ok(Exit::Success),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(CopyError::Stream(io::Error::other(error)).into()),
        }
    }
}

/// Where the output of the VM's tar goes.
enum Sink<'a> {
    Printer(&'a Context),
    Queue(mpsc::Sender<Vec<u8>>),
}

async fn tar_ended(mut stream: ExecStream, mut sink: Option<Sink<'_>>) -> Outcome {
    let mut said = Vec::new();
    loop {
        match stream.next().await? {
            Down::Stdout(data) => match &sink {
                Some(Sink::Printer(context)) => context.printer.bytes(&data)?,
                // Whoever unpacks has failed, and says so.
                Some(Sink::Queue(queue)) if queue.send(data).await.is_err() => sink = None,
                Some(Sink::Queue(_)) | None => {}
            },
            Down::Stderr(data) => {
                said.extend_from_slice(&data);
                said.truncate(SAID_BYTES_MAX);
            }
            Down::Exit(ExitStatus::Code(0)) => return Ok(Exit::Success),
            Down::Exit(ExitStatus::NotStarted(_)) => return Err(CopyError::NoTar.into()),
            Down::Exit(ExitStatus::Code(_) | ExitStatus::Signal(_)) => {
                let said = String::from_utf8_lossy(&said).trim().to_owned();
                return Err(CopyError::Tar { said }.into());
            }
        }
    }
}

/// Writes a tar stream into a queue; for a thread that may wait.
struct Pieces(mpsc::Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let piece = data.get(..data.len().min(PIECE_BYTES_MAX)).unwrap_or_default();
        let sent = self.0.blocking_send(piece.to_owned());
        sent.map(|()| piece.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a tar stream from a queue; for a thread that may wait.
struct Source {
    queue: mpsc::Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
}

impl Source {
    fn new(queue: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { queue, piece: io::Cursor::default() }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.piece.read(buffer)? {
                0 => match self.queue.blocking_recv() {
                    Some(piece) => self.piece = io::Cursor::new(piece),
                    None => return Ok(0),
                },
                count => return Ok(count),
            }
        }
    }
}

/// Packs a path here under its own name, or under another.
fn pack(from: &Place, name: Option<String>, mut pieces: Pieces) -> Result<(), CopyError> {
    let path = match from {
        Place::Here(path) => path,
        Place::Stream | Place::InVm { .. } => {
            let copied = io::copy(&mut io::stdin().lock(), &mut pieces);
            return copied.map(drop).map_err(CopyError::Stream);
        }
    };
    let read = |source| CopyError::Read { path: path.clone(), source };
    let whole = std::fs::canonicalize(path).map_err(read)?;
    let name = match name {
        Some(name) => PathBuf::from(name),
        None => whole.file_name().map(PathBuf::from).unwrap_or_else(|| PathBuf::from(".")),
    };
    let mut tar = tar::Builder::new(pieces);
    tar.follow_symlinks(false);
    let packed = if whole.is_dir() {
        tar.append_dir_all(&name, &whole)
    } else {
        tar.append_path_with_name(&whole, &name)
    };
    packed.and_then(|()| tar.finish()).map_err(read)
}

/// Unpacks what was packed as `name`: into `to` where that is a directory, else as `to`. Nothing
/// is written elsewhere, whatever the VM sends.
fn unpack(to: &Path, name: &str, source: Source) -> Result<(), CopyError> {
    let write = |source| CopyError::Write { path: to.to_owned(), source };
    let into = to.is_dir();
    let parent = match to.parent() {
        _ if into => to,
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let own = to.file_name().filter(|_| !into);
    if own.is_none() && !into {
        return Err(CopyError::NoName { path: to.to_owned() });
    }
    let mut archive = tar::Archive::new(source);
    archive.set_preserve_permissions(true);
    let scratch = tempfile::tempdir_in(parent).map_err(write)?;
    for entry in archive.entries().map_err(CopyError::Stream)? {
        let mut entry = entry.map_err(CopyError::Stream)?;
        // Refuses what would leave the directory, by its path or through a link.
        entry.unpack_in(scratch.path()).map_err(write)?;
    }
    // Whole or not at all: it is moved to its place at the end.
    if name == "." {
        for entry in std::fs::read_dir(scratch.path()).map_err(write)? {
            let entry = entry.map_err(write)?;
            std::fs::rename(entry.path(), to.join(entry.file_name())).map_err(write)?;
        }
        return Ok(());
    }
    let unpacked = scratch.path().join(name);
    if std::fs::symlink_metadata(&unpacked).is_err() {
        // The VM's tar says why.
        return Ok(());
    }
    let target = match own {
        Some(_) => to.to_owned(),
        None => to.join(name),
    };
    if target.is_dir() && unpacked.is_dir() {
        return merge(&unpacked, &target).map_err(write);
    }
    std::fs::rename(&unpacked, &target).map_err(write)
}

/// Moves what is in one directory over what is in another.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() && target.is_dir() {
            merge(&entry.path(), &target)?;
        } else {
            std::fs::rename(entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_directory_and_a_name_in_it() {
        let split = |path: &str| super::split(path);
        assert_eq!(split("/etc/hosts"), ("/etc".into(), "hosts".into()));
        assert_eq!(split("/workspace/"), ("/".into(), "workspace".into()));
        assert_eq!(split("notes"), (".".into(), "notes".into()));
        assert_eq!(split("/"), ("/".into(), ".".into()));
    }

    /// Packs `from` as `name` and unpacks that to `to`, without a VM between them.
    fn copy(from: &Path, name: Option<&str>, to: &Path) -> Result<(), CopyError> {
        let (sender, queue) = mpsc::channel(QUEUE_PIECES_MAX);
        let place = Place::Here(from.to_owned());
        let given = name.map(str::to_owned);
        let packing = std::thread::spawn(move || pack(&place, given, Pieces(sender)));
        let own = from.file_name().unwrap().to_string_lossy().into_owned();
        unpack(to, name.unwrap_or(&own), Source::new(queue))?;
        packing.join().unwrap()
    }

    #[test]
    fn files_and_directories_arrive_whole_under_the_name_that_was_meant() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("from/sub")).unwrap();
        std::fs::write(at("from/sub/tool"), vec![7; 3 * PIECE_BYTES_MAX]).unwrap();
        std::fs::set_permissions(at("from/sub/tool"), std::fs::Permissions::from_mode(0o755))
            .unwrap();
        symlink("tool", at("from/sub/alias")).unwrap();
        std::fs::create_dir(at("there")).unwrap();
        copy(&at("from"), None, &at("there")).unwrap();
        copy(&at("from"), None, &at("there")).unwrap();
        let tool = std::fs::metadata(at("there/from/sub/tool")).unwrap();
        assert_eq!((tool.len(), tool.permissions().mode() & 0o777), (3 * 32768, 0o755));
        assert_eq!(std::fs::read_link(at("there/from/sub/alias")).unwrap(), Path::new("tool"));
        copy(&at("from/sub/tool"), None, &at("renamed")).unwrap();
        assert!(at("renamed").is_file());
        assert!(matches!(copy(&at("absent"), None, &at("x")), Err(CopyError::Read { .. })));
    }

    #[test]
    fn nothing_is_written_outside_of_where_it_was_meant() {
        let dir = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        let name = b"../escaped";
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        tar.append(&header, &b"bad"[..]).unwrap();
        let bytes = tar.into_inner().unwrap();
        let (sender, queue) = mpsc::channel(QUEUE_PIECES_MAX);
        sender.blocking_send(bytes).unwrap();
        drop(sender);
        std::fs::create_dir(dir.path().join("to")).unwrap();
        unpack(&dir.path().join("to"), "escaped", Source::new(queue)).unwrap();
        assert!(!dir.path().join("escaped").exists());
    }
}
