//! Which files differ between two checkpoints.
//!
//! Only the guest knows what its memory holds beyond its disk, so each checkpoint is woken for a
//! moment, without network and without anything of Warren's to talk to, and the guest's own program
//! lists its files. These VMs have no row: their names are known here, and what a crash leaves of
//! them the reconciler removes.

use crate::{
    Change, CheckpointName, Control, ControlError, FileChange, error::chain, fleet::Fleet,
    store::CheckpointRow,
};
use engine::{Attach, ExecOutput, ExecRequest, ExitStatus, LaunchSpec, Origin, VmId};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tracing::warn;
use uuid::Uuid;

/// How the names of these VMs begin; a MicroVM's never does.
const PREFIX: &str = "look-";

/// The guest's own program, which is there whatever the image holds.
const GUEST: &str = "/proc/1/exe";

/// Longest time for one list.
const LIST_MAX: Duration = Duration::from_secs(60);

/// Most that a list may hold, in bytes: some hundred thousand files.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a VM is given when it wakes, and what changes in every one that runs.
const OWN: [&str; 4] = ["/etc/hostname", "/etc/hosts", "/etc/machine-id", "/etc/resolv.conf"];

/// VMs that exist for a look.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<HashSet<VmId>>);

impl Looks {
    /// What is on the host for a look that nobody takes any more.
    pub(crate) fn is_stray(&self, id: &VmId) -> bool {
        id.as_str().starts_with(PREFIX) && !self.ids().contains(id)
    }

    fn ids(&self) -> std::sync::MutexGuard<'_, HashSet<VmId>> {
        // Nothing that panics runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control {
    /// Files that were added, modified or removed between two checkpoints, by path. Files on the disk
    /// only: `/proc`, `/dev` and what else the guest mounts is left out.
    ///
    /// # Errors
    /// [`ControlError::CheckpointNotFound`], [`ControlError::CheckpointUnreadable`],
    /// [`ControlError::Engine`].
    pub async fn file_changes(
        &self,
        from: &CheckpointName,
        to: &CheckpointName,
    ) -> Result<Vec<FileChange>, ControlError> {
        let before = self.fleet.store.checkpoint_named(from).await?;
        let after = self.fleet.store.checkpoint_named(to).await?;
        let fleet = self.fleet.clone();
        // In a task of its own: a caller that goes away leaves no VM behind.
        let listing = self.fleet.tasks.spawn(async move {
            let before = files(&fleet, &before).await?;
            Ok((before, files(&fleet, &after).await?))
        });
        let (before, after) = listing.await.unwrap_or(Err(ControlError::ShuttingDown))?;
        Ok(compare(before, after))
    }
}

/// What tells whether a file is the same: its kind, mode, owner, size and times, and where a link leads.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Seen {
    /// None for what is no regular file.
    size: Option<u64>,
    mark: String,
}

type Files = BTreeMap<String, Seen>;

async fn files(fleet: &Fleet, checkpoint: &CheckpointRow) -> Result<Files, ControlError> {
    let id = VmId::new(format!("{PREFIX}{}", Uuid::new_v4().hyphenated()))
        .expect("a uuid with a prefix has 41 letters, digits and '-'");
    fleet.looks.ids().insert(id.clone());
    let listed = look(fleet, checkpoint, &id).await;
    if let Err(error) = fleet.outside.engine.stop(&id, None).await {
        warn!(vm = %id, "it is not removed yet: {}", chain(&error));
    }
    fleet.looks.ids().remove(&id);
    parse(&listed?).ok_or_else(|| unreadable(checkpoint, "the guest's list is broken off"))
}

fn unreadable(checkpoint: &CheckpointRow, reason: impl Into<String>) -> ControlError {
    let name = checkpoint.name.as_ref().map_or("of a fork", CheckpointName::as_str).to_owned();
    ControlError::CheckpointUnreadable { name, reason: reason.into() }
}

async fn look(
    fleet: &Fleet,
    checkpoint: &CheckpointRow,
    id: &VmId,
) -> Result<Vec<u8>, ControlError> {
    let engine = &fleet.outside.engine;
    let origin = Origin::Checkpoint(checkpoint.id.clone());
    engine.launch(LaunchSpec { id: id.clone(), origin, internet: false }).await?;
    let request = ExecRequest {
        argv: vec![GUEST.to_owned(), "list-files".to_owned()],
        working_dir: "/".to_owned(),
        user: "0".to_owned(),
        attach: Attach::NoInput,
        ..ExecRequest::default()
    };
    let mut session = engine.exec(id, request).await?;
    let listing = async {
        let (mut list, mut said) = (Vec::new(), Vec::new());
        while let Some(output) = session.output.recv().await {
            match output {
                ExecOutput::Stdout(data) => list.extend_from_slice(&data),
                ExecOutput::Stderr(data) => said.extend_from_slice(&data),
                ExecOutput::Exited(ExitStatus::Code(0)) => return Ok(list),
                ExecOutput::Exited(status) => {
                    let said = String::from_utf8_lossy(&said);
                    return Err(format!("listing its files ended with {status:?}: {said}"));
                }
            }
            if list.len() > LIST_BYTES_MAX {
                return Err(format!("the list of its files is over {LIST_BYTES_MAX} bytes"));
            }
        }
        Err("the guest ended while it listed its files".to_owned())
    };
    let listed = tokio::time::timeout(LIST_MAX, listing).await;
    let listed = listed.unwrap_or_else(|_| Err(format!("over {} s passed", LIST_MAX.as_secs())));
    listed.map_err(|reason| unreadable(checkpoint, reason))
}

/// Records of `kind size mark path`, separated by spaces and ended by NUL, as `guest/src/files.rs`
/// writes them; the last one is empty, so that a list that was cut is known.
fn parse(list: &[u8]) -> Option<Files> {
    let text = String::from_utf8_lossy(list);
    let records = text.strip_suffix('\0')?;
    if !records.is_empty() && !records.ends_with('\0') {
        return None;
    }
    let mut files = Files::new();
    for record in records.split_terminator('\0') {
        let mut fields = record.splitn(4, ' ');
        let (kind, size, mark) = (fields.next()?, fields.next()?, fields.next()?);
        let path = fields.next()?;
        if OWN.contains(&path) {
            continue;
        }
        let size = if kind == "f" { Some(size.parse().ok()?) } else { None };
        // A directory's times change with what is in it, which is told by itself.
        let mark = if kind == "d" { "d".to_owned() } else { format!("{kind} {mark}") };
        files.insert(path.to_owned(), Seen { size, mark });
    }
    Some(files)
}

fn compare(before: Files, mut after: Files) -> Vec<FileChange> {
    let mut changes = Vec::new();
    for (path, old) in before {
        let (change, new) = match after.remove(&path) {
            Some(new) if new == old => continue,
            Some(new) => (Change::Modified, Some(new)),
            None => (Change::Removed, None),
        };
        let size_after = new.and_then(|new| new.size);
        changes.push(FileChange { change, path, size_before: old.size, size_after });
    }
    let added = after.into_iter().map(|(path, new)| FileChange {
        change: Change::Added,
        path,
        size_before: None,
        size_after: new.size,
    });
    changes.extend(added);
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(records: &[&str]) -> Files {
        let list: String = records.iter().map(|record| format!("{record}\0")).collect();
        parse(format!("{list}\0").as_bytes()).unwrap()
    }

    #[test]
    fn what_was_added_modified_and_removed_is_told_by_path() {
        let before = files(&["d 0 a /w", "f 3 x /w/kept", "f 3 y /w/old", "f 3 z /w/c d"]);
        let after = files(&["d 0 b /w", "f 3 x /w/kept", "f 9 y2 /w/c d", "l 0 t /w/a"]);
        let told: Vec<_> = compare(before, after)
            .into_iter()
            .map(|c| (c.change.as_str(), c.path, c.size_before, c.size_after))
            .collect();
        assert_eq!(
            told,
            [
                ("added", "/w/a".to_owned(), None, None),
                ("modified", "/w/c d".to_owned(), Some(3), Some(9)),
                ("removed", "/w/old".to_owned(), Some(3), None),
            ]
        );
    }

    #[test]
    fn a_list_that_was_cut_is_none() {
        assert_eq!(parse(b"f 3 x /a\0"), None);
        assert_eq!(parse(b"f 3 x /a\0\0").map(|files| files.len()), Some(1));
        assert_eq!(parse(b"f three x /a\0\0"), None);
    }
}
