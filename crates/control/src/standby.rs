//! Which templates the engine keeps VMs of on standby: the version of each image that a run without
//! a version would take. How many of each is the engine's own setting; it may be none.

use crate::{ControlError, error::chain, fleet::Fleet};
use engine::TemplateId;
use tracing::warn;

/// Images that are kept ready, those with the newest versions first: a VM on standby costs memory.
const IMAGES_MAX: usize = 8;

impl Fleet {
    /// Tells the engine, where it is not what it was told before. To be called after every change
    /// of what is run by default; repeating it costs a query.
    pub(crate) async fn refresh_standby(&self) {
        if let Err(error) = self.try_refresh_standby().await {
            // Launches make their own clones then.
            warn!("what is kept on standby is not up to date: {}", chain(&error));
        }
    }

    async fn try_refresh_standby(&self) -> Result<(), ControlError> {
        let mut told = self.standby.lock().await;
        let wanted: Vec<TemplateId> = self.store.default_templates(IMAGES_MAX).await?;
        if told.len() == wanted.len() && wanted.iter().all(|template| told.contains(template)) {
            return Ok(());
        }
        let engine = &self.outside.engine;
        if told.iter().any(|template| !wanted.contains(template)) {
            engine.keep_standby(None).await?;
            told.clear();
        }
        for template in wanted {
            // One that this host cannot run any more keeps the others from nothing, and is told
            // anew next time.
            match engine.keep_standby(Some(&template)).await {
                Ok(()) if told.contains(&template) => {}
                Ok(()) => told.push(template),
                Err(error) => warn!(%template, "not kept on standby: {}", chain(&error)),
            }
        }
        Ok(())
    }
}
