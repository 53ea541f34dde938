//! VMs on standby: restored and paused, so that a launch has only to let one go on.
//!
//! One costs some 20 MiB and no CPU. It has run nothing since its template was saved, so it is as fresh
//! as a clone made at the launch.

use super::{Inner, clone::Restored, lock};
use crate::{EngineError, LaunchSpec, Origin, TemplateId, VmId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};
use tokio_util::task::TaskTracker;

pub(crate) struct Standby {
    wanted: usize,
    pool: Mutex<Pool>,
    /// The making of them.
    tasks: TaskTracker,
}

#[derive(Default)]
struct Pool {
    /// No more are made.
    closed: bool,
    /// Templates that are kept ready.
    templates: HashMap<TemplateId, Vec<Restored>>,
    /// Being made, by template.
    coming: HashMap<TemplateId, usize>,
}

impl Standby {
    pub(crate) fn new(wanted: usize) -> Self {
        Self { wanted, pool: Mutex::default(), tasks: TaskTracker::new() }
    }
}

impl Inner {
    /// Keeps just these templates ready.
    pub(crate) async fn keep_standby(
        self: &Arc<Self>,
        templates: &[TemplateId],
    ) -> Result<(), EngineError> {
        self.drop_standby(|template| !templates.contains(template)).await;
        for template in templates {
            if self.template(template)?.is_none() {
                return Err(EngineError::NoSuchTemplate(template.clone()));
            }
            if self.standby.wanted > 0 {
                lock(&self.standby.pool).templates.entry(template.clone()).or_default();
                self.refill_standby(template);
            }
        }
        Ok(())
    }

    /// One that is ready and still runs; what does not is cleared away.
    pub(crate) async fn take_standby(self: &Arc<Self>, template: &TemplateId) -> Option<Restored> {
        loop {
            let restored = lock(&self.standby.pool).templates.get_mut(template)?.pop()?;
            if restored.is_alive() {
                return Some(restored);
            }
            self.undo(&restored.id).await;
        }
    }

    /// Makes as many as are missing, in the background. Of a template that is kept ready only.
    pub(crate) fn refill_standby(self: &Arc<Self>, template: &TemplateId) {
        let mut pool = lock(&self.standby.pool);
        if pool.closed {
            return;
        }
        let Some(ready) = pool.templates.get(template).map(Vec::len) else { return };
        let coming = pool.coming.entry(template.clone()).or_default();
        while ready + *coming < self.standby.wanted {
            *coming += 1;
            let (inner, template) = (self.clone(), template.clone());
            self.standby.tasks.spawn(async move { inner.add_standby(template).await });
        }
    }

    async fn add_standby(self: Arc<Self>, template: TemplateId) {
        let (id, origin) = (VmId::internal("standby"), Origin::Template(template.clone()));
        let restored = self.restore(&LaunchSpec { id, origin, internet: true }).await;
        let unwanted = {
            let mut pool = lock(&self.standby.pool);
            if let Some(coming) = pool.coming.get_mut(&template) {
                *coming = coming.saturating_sub(1);
            }
            match (restored, pool.templates.get_mut(&template)) {
                (Ok(restored), Some(ready)) => {
                    ready.push(restored);
                    None
                }
                (Ok(restored), None) => Some(restored),
                (Err(e), _) => {
                    // The next launch makes its own clone, and meets the same fault with its own name.
                    tracing::warn!(%template, "no VM on standby: {e}");
                    None
                }
            }
        };
        if let Some(restored) = unwanted {
            self.undo(&restored.id).await;
        }
    }

    /// Ends all of them, those in the making too.
    pub(crate) async fn close_standby(self: &Arc<Self>) {
        lock(&self.standby.pool).closed = true;
        self.standby.tasks.close();
        self.standby.tasks.wait().await;
        self.drop_standby(|_| true).await;
    }

    /// Ends the VMs on standby of these templates, and keeps them ready no longer.
    pub(crate) async fn drop_standby(self: &Arc<Self>, unwanted: impl Fn(&TemplateId) -> bool) {
        let ended: Vec<Restored> = {
            let mut pool = lock(&self.standby.pool);
            let ended = pool.templates.extract_if(|template, _| unwanted(template));
            ended.flat_map(|(_, ready)| ready).collect()
        };
        for restored in ended {
            self.undo(&restored.id).await;
        }
    }
}
