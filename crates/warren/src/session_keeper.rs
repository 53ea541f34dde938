//! `launcher.at_end = "checkpoint"`: what is kept of a session beyond its VM.
//!
//! The worker suspends its VM at the end of its work, as with `suspend`. Here the suspended VM is
//! saved as the session's one checkpoint and terminated; when the session runs again, the launcher
//! asks for a VM that goes on from it. Until the checkpoint is there the VM is, so a crash loses
//! nothing; a session that runs again meanwhile has its VM resumed, which is then left alone.

use crate::failure::with_causes;
use async_trait::async_trait;
use control::{
    CheckpointName, ClientToken, Control, ControlError, Mark, MicrovmFilter, MicrovmId,
    MicrovmState, PageRequest, RunFrom,
};
use launcher::{Comeback, Launcher, Return, Returned};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::broadcast::error::RecvError;

const PAGE_ITEMS: usize = 50;

/// Brings sessions back from their checkpoints.
pub(crate) struct SessionKeeper {
    control: Arc<Control>,
    maximum_duration: Duration,
}

impl SessionKeeper {
    pub(crate) fn new(control: Arc<Control>, maximum_duration: Duration) -> Self {
        Self { control, maximum_duration }
    }
}

impl fmt::Debug for SessionKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeeper").finish_non_exhaustive()
    }
}

#[async_trait]
impl Comeback for SessionKeeper {
    async fn come_back(&self, asked: Return<'_>) -> Option<Returned> {
        let name = checkpoint_of(asked.session.as_str())?;
        let request = RunFrom {
            run_hook_payload: Some(asked.run_hook_payload.to_owned()),
            maximum_duration: Some(self.maximum_duration),
            client_token: ClientToken::parse(asked.client_token).ok(),
        };
        match self.control.run_from(&name, request).await {
            Ok(vm) => Some(Returned {
                microvm_id: vm.id.to_string(),
                started_at: vm.started_at.ms() / 1000,
            }),
            Err(ControlError::CheckpointNotFound(_)) => None,
            Err(error) => {
                let (session, error) = (asked.session, with_causes(&error));
                tracing::warn!(%session, error, "the session's checkpoint is not run; it begins anew");
                None
            }
        }
    }
}

/// The name that a session's checkpoint has.
fn checkpoint_of(session: &str) -> Option<CheckpointName> {
    let own = CheckpointName::parse(&format!("session-{session}"));
    let digest = || hex::encode(Sha256::digest(session)).chars().take(40).collect::<String>();
    own.or_else(|_| CheckpointName::parse(&format!("session-{}", digest()))).ok()
}

/// Until the service ends: keeps every session whose VM comes to rest.
pub(crate) async fn keep_sessions(control: Arc<Control>, launcher: Launcher) {
    let mut events = control.events();
    let mut resting = suspended(&control).await;
    loop {
        for id in resting.drain(..) {
            if let Err(error) = keep(&control, &launcher, &id).await {
                // The VM is suspended still, and its session can have it.
                let error = with_causes(error.as_ref());
                tracing::warn!(microvm = %id, error, "no checkpoint is made of it");
            }
        }
        resting = match events.recv().await {
            Ok(event) if event.entry.mark == Mark::Suspended => vec![event.id],
            Ok(_) => Vec::new(),
            Err(RecvError::Lagged(_)) => suspended(&control).await,
            Err(RecvError::Closed) => return,
        };
    }
}

async fn suspended(control: &Control) -> Vec<MicrovmId> {
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let page = PageRequest { items_max: PAGE_ITEMS, token };
        let Ok(page) = control.list_microvms(MicrovmFilter::default(), page).await else {
            return found;
        };
        let resting = page.items.into_iter().filter(|vm| vm.state == MicrovmState::Suspended);
        found.extend(resting.map(|vm| vm.id));
        token = page.next_token;
        if token.is_none() {
            return found;
        }
    }
}

async fn keep(
    control: &Control,
    launcher: &Launcher,
    id: &MicrovmId,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let sessions = launcher.sessions_by_vm().await?;
    let Some(name) = sessions.get(id.as_str()).and_then(|session| checkpoint_of(session)) else {
        return Ok(());
    };
    match control.delete_checkpoint(&name).await {
        Ok(()) | Err(ControlError::CheckpointNotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    control.checkpoint(id, name.clone()).await?;
    control.terminate_suspended(id).await?;
    tracing::info!(microvm = %id, checkpoint = %name, "what its session left is kept");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_has_a_checkpoints_name_of_its_own() {
        assert_eq!(checkpoint_of("sesn_01a").unwrap().as_str(), "session-sesn_01a");
        let (long, odd) = ("s".repeat(300), "a b");
        let names = [checkpoint_of(&long).unwrap(), checkpoint_of(odd).unwrap()];
        assert!(names.iter().all(|name| name.as_str().len() == 48), "{names:?}");
        assert_ne!(names[0], names[1]);
    }
}
