//! What is, compared with what should be; the difference is done.
//!
//! Takes no input and is the same at the start as every minute, so that the way out of a crash is
//! a way that is walked every day. A row that has no keeper gets one; a keeper whose VM is gone is
//! told so; a VM without a row is removed.

use crate::{
    ControlError, MicrovmId,
    error::chain,
    fleet::Fleet,
    image_template,
    keeper::{Beginning, OnHost},
    life::{Event, Phase},
};
use engine::{Listing, VmState};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use tracing::{info, warn};

/// Until the control plane stops: on a signal and on the clock.
pub(crate) async fn repeat(fleet: Arc<Fleet>) {
    let stop = fleet.stop.clone();
    let clock = Arc::clone(&fleet.outside.clock);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(fleet.config.reconcile_every) => {}
            () = fleet.reconcile.notified() => {}
        }
        if let Some(Err(error)) = stop.run_until_cancelled(fleet.reconcile_now()).await {
            warn!("what runs could not be compared with what should: {}", chain(&error));
        }
    }
}

impl Fleet {
    /// # Errors
    /// Where the store or the engine cannot say what there is. Nothing has been changed then that
    /// the next call would not do the same way.
    pub(crate) async fn reconcile_now(self: &Arc<Self>) -> Result<(), ControlError> {
        // The order decides: whatever is on the host after these keepers were seen at rest and was
        // not removed by them must be listed, running or suspended.
        let kept = self.at_rest();
        let on_host = self.on_host().await?;
        for id in kept {
            match on_host.get(&id).copied().unwrap_or(OnHost::Nothing) {
                OnHost::Running | OnHost::Suspended => {}
                OnHost::Remains | OnHost::Nothing => {
                    let reason = self.death_reason(&id, "it is not on its host any more").await;
                    self.tell(&id, Event::Died { reason }).await;
                }
            }
        }
        self.give_keepers(&on_host).await?;
        self.remove_strays(&on_host).await?;
        self.keep_standby().await?;
        image_template::collect(self).await;
        self.store.save_reckoning(&self.steady.reckoning()).await?;
        let now = self.outside.clock.now();
        let retention = self.config.terminated_retention;
        let forgotten = self.store.forget_terminated(now.minus(retention)).await?;
        if forgotten > 0 {
            info!(
                "{forgotten} MicroVMs that ended more than {} s ago are forgotten",
                retention.as_secs()
            );
        }
        Ok(())
    }

    /// Has the engine keep the newest active version of the configured image ready.
    async fn keep_standby(&self) -> Result<(), ControlError> {
        let Some(name) = &self.config.standby_image else { return Ok(()) };
        let runnable = self.store.runnable(&self.config.image_arn(name), None).await?;
        let templates: Vec<_> = runnable.into_iter().filter_map(|row| row.template).collect();
        if let Err(error) = self.outside.engine.keep_standby(&templates).await {
            // Launches work without; they take a clone's time.
            warn!(image = %name, "no VMs are kept on standby: {}", chain(&error));
        }
        Ok(())
    }

    async fn on_host(&self) -> Result<HashMap<MicrovmId, OnHost>, ControlError> {
        let listed = self.outside.engine.list().await?;
        for Listing { id, .. } in &listed {
            if self.looks.is_stray(id) {
                info!(vm = %id, "left behind by a look into a checkpoint: removed");
                self.outside.engine.stop(id, None).await?;
            }
        }
        let known = listed.into_iter().filter_map(|Listing { id, state }| {
            let on_host = match state {
                VmState::Running => OnHost::Running,
                VmState::Suspended => OnHost::Suspended,
                VmState::Remains => OnHost::Remains,
            };
            // Others are the engine's own, such as the VM that a template is made in.
            Some((MicrovmId::parse(id.as_str()).ok()?, on_host))
        });
        Ok(known.collect())
    }

    /// Those with which the engine has nothing to do now.
    fn at_rest(&self) -> Vec<MicrovmId> {
        let at_rest = |phase| matches!(phase, Phase::Running | Phase::Suspended);
        let kept = self.kept().into_iter();
        kept.filter(|(_, keeper)| at_rest(keeper.life.borrow().phase())).map(|(id, _)| id).collect()
    }

    async fn give_keepers(
        self: &Arc<Self>,
        on_host: &HashMap<MicrovmId, OnHost>,
    ) -> Result<(), ControlError> {
        let _no_new_rows = self.admission.write().await;
        // Who has a keeper is asked first: a row that is read as live may have been ended by its
        // keeper, who is gone, by the time it is looked at.
        let kept: HashSet<MicrovmId> = self.kept().into_iter().map(|(id, _)| id).collect();
        for row in self.store.live().await? {
            if !kept.contains(&row.id) {
                let found = on_host.get(&row.id).copied().unwrap_or(OnHost::Nothing);
                info!(microvm = %row.id, phase = row.life.phase().as_str(), ?found, "found again");
                self.keep(row, Beginning::Found(found));
            }
        }
        Ok(())
    }

    async fn remove_strays(
        &self,
        on_host: &HashMap<MicrovmId, OnHost>,
    ) -> Result<(), ControlError> {
        for id in on_host.keys() {
            if self.keeper(id).is_some() {
                continue;
            }
            let ended = match self.store.microvm(id).await? {
                None => true,
                Some(row) => row.life.phase() == Phase::Terminated,
            };
            if ended {
                warn!(microvm = %id, "it is on the host and should not be: removed");
                self.outside.engine.stop(&id.vm_id(), None).await?;
                self.outside.back_door.detach(id).await;
            }
        }
        Ok(())
    }
}
