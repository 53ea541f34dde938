//! Where tools run that handle what strangers made.
//!
//! A sandbox is a set of namespaces with a root of its own: root in it is a plain user of this host
//! ([`UID_BASE`]), who sees the host's programs read-only, the directories that were handed in, and
//! nothing else; its processes are counted and limited by a control group; its network is what
//! [`crate::network`] gives it.
//!
//! Its first process reads from a pipe whose other end is here. However this process ends, the pipe
//! closes, the first process ends, and the kernel ends every other one of the sandbox.

use crate::{
    error::BuildError,
    limits::{Group, Limits},
    network::{Link, Reach},
    tool::{Job, Tool, ToolError},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
};

/// First of the 65,536 users of this host that the sandbox's users are. systemd keeps the range from
/// here to 2^31 free of users and of its own containers.
pub(crate) const UID_BASE: u32 = 0x7000_0000;
const UIDS: u32 = 65_536;

/// Making namespaces and mounts takes milliseconds; a host under load may be slow.
const START_WAIT_MAX: Duration = Duration::from_secs(20);
const START_POLL: Duration = Duration::from_millis(3);
/// What is killed is gone at once unless the kernel hangs.
const END_WAIT_MAX: Duration = Duration::from_secs(5);

/// Run as root of this host in a mount namespace of its own. First argument: owner of the scratch
/// directories; then pairs of `r` or `w` and a path.
const SETUP: &str = r#"
set -eu
owner=$1; shift
new=/run/warren/sandbox
mkdir -p "$new"
mount -t tmpfs -o mode=755 tmpfs "$new"
cd "$new"
for name in bin sbin lib lib32 lib64 libx32 usr etc; do
  if [ -L "/$name" ]; then cp -P "/$name" "$name"
  elif [ -d "/$name" ]; then
    mkdir "$name"; mount --rbind "/$name" "$name"; mount -o remount,bind,ro "$name"
  fi
done
mkdir -m 755 dev dev/pts dev/shm dev/mqueue proc sys run run/buildah var var/lib var/cache
mkdir -m 1777 tmp var/tmp
chown "$owner:$owner" run/buildah var/lib var/cache
for name in null zero full random urandom tty; do
  : > "dev/$name"; mount --bind "/dev/$name" "dev/$name"
done
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin; ln -s fd/1 dev/stdout; ln -s fd/2 dev/stderr
mount --rbind /proc proc
mount --rbind /sys sys
names=$(readlink -f /etc/resolv.conf || true)
case $names in
  /etc/*|'') ;;
  *) mkdir -p ".${names%/*}"; cp "$names" ".$names" ;;
esac
while [ $# -gt 0 ]; do
  mode=$1 path=$2; shift 2
  if [ -d "$path" ]; then mkdir -p ".$path"; else mkdir -p ".${path%/*}"; : > ".$path"; fi
  mount --bind "$path" ".$path"
  [ "$mode" = w ] || mount -o remount,bind,ro ".$path"
done
pivot_root . .
umount -l .
cd /
exec unshare --user --mount --pid --net --uts --ipc --fork --kill-child cat
"#;

/// Joins the control group by its files, which come before `--`, then becomes the command.
const ENTER: &str = r#"
while [ "$1" != -- ]; do echo 0 > "$1" || exit 126; shift; done
shift
exec "$@"
"#;

/// What a sandbox is given of the host.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    pub(crate) writable: Vec<PathBuf>,
    pub(crate) readable: Vec<PathBuf>,
}

/// Which network a tool is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    /// The host's: for tools that fetch what the operator's configuration names.
    Host,
    /// The sandbox's: for what an artifact says.
    Own,
}

/// A running sandbox. [`Sandbox::close`] waits for its end; dropping it ends it too.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// Holds the pipe.
    first: Child,
    /// A process in all of its namespaces, as this host numbers it.
    member: u32,
    group: Group,
    _link: Link,
}

impl Sandbox {
    pub(crate) async fn start(
        rooms: &Rooms,
        (limits, reach): (Limits, Reach),
        job: &Job,
    ) -> Result<Self, BuildError> {
        let link = Link::reserve(reach, job).await?;
        let group = Group::create(link.number(), limits)?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", SETUP, "sh", &UID_BASE.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for (mode, paths) in [("w", &rooms.writable), ("r", &rooms.readable)] {
            for path in paths {
                command.arg(mode).arg(path);
            }
        }
        let first =
            command.spawn().map_err(|source| ToolError::Spawn { program: "unshare", source })?;
        let mut sandbox = Self { first, member: 0, group, _link: link };
        match tokio::time::timeout(START_WAIT_MAX, sandbox.set_up(job)).await {
            Ok(Ok(())) => Ok(sandbox),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err(BuildError::Sandbox("it does not start".to_owned())),
        }
    }

    async fn set_up(&mut self, job: &Job) -> Result<(), BuildError> {
        let first = self.wait_for_namespaces().await?;
        for map in ["uid_map", "gid_map"] {
            let path = PathBuf::from(format!("/proc/{first}/{map}"));
            fs::write(&path, format!("0 {UID_BASE} {UIDS}\n"))
                .map_err(|source| BuildError::io("writing", &path, source))?;
        }
        self.group.add(first)?;
        self.group.add(self.member)?;
        self._link.connect(first, job).await?;
        let mount = self.tool(Net::Own, "mount", "mount", "of /proc");
        mount.args(["-t", "proc", "proc", "/proc"]).read(job).await?;
        Ok(())
    }

    /// Returns the pid of the process that made the namespaces; `member` is set to its child.
    async fn wait_for_namespaces(&mut self) -> Result<u32, BuildError> {
        let ours = fs::read_link("/proc/self/ns/user").unwrap_or_default();
        loop {
            let ended = self.first.try_wait();
            let Some(first) = self.first.id().filter(|_| matches!(ended, Ok(None))) else {
                let mut said = String::new();
                if let Some(stderr) = &mut self.first.stderr {
                    // What cannot be read is not shown.
                    let _ = stderr.read_to_string(&mut said).await;
                }
                return Err(BuildError::Sandbox(said.trim().replace('\n', "; ")));
            };
            let theirs = fs::read_link(format!("/proc/{first}/ns/user")).unwrap_or_default();
            let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
            let child = children.ok().and_then(|list| list.split(' ').next()?.parse().ok());
            if let (true, Some(child)) = (theirs != ours, child) {
                self.member = child;
                return Ok(first);
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    /// A tool in this sandbox, as its root. Arguments as for [`Tool::new`].
    pub(crate) fn tool(
        &self,
        net: Net,
        program: &'static str,
        package: &'static str,
        doing: &str,
    ) -> Tool {
        let mut tool = Tool::wrapped("sh", program, package, doing).args(["-c", ENTER, "sh"]);
        for file in self.group.files() {
            tool = tool.arg(file);
        }
        tool = tool.args(["--", "nsenter", "--target", &self.member.to_string()]);
        tool = tool.args(["--user", "--mount", "--pid", "--uts", "--ipc", "-S", "0", "-G", "0"]);
        if net == Net::Own {
            tool = tool.arg("--net");
        }
        tool.args(["--", program])
    }

    /// Ends every process in it and removes what it had.
    pub(crate) async fn close(mut self) {
        drop(self.first.stdin.take());
        if tokio::time::timeout(END_WAIT_MAX, self.first.wait()).await.is_err() {
            // It is killed with all its namespaces' processes.
            let _ = self.first.kill().await;
        }
        self.group.remove().await;
    }
}

/// Makes a directory that belongs to the sandbox's root.
pub(crate) fn make_room(path: &Path) -> Result<(), BuildError> {
    let made: io::Result<()> = fs::create_dir_all(path)
        .and_then(|()| std::os::unix::fs::chown(path, Some(UID_BASE), Some(UID_BASE)));
    made.map_err(|source| BuildError::io("making", path, source))
}
