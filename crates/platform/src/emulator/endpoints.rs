//! Webhook endpoints: made, changed, their secrets rotated, their deliveries made again.
//!
//! The API of the platform has endpoints of the organisation, its Console those of a workspace;
//! here these are the same ones.

use agents::Secret;

use super::Emulator;
use crate::fault::Fault;
use crate::ids::{EndpointId, HookId, Mint as _};
use crate::keys;
use crate::store::{DeliveryRow, EndpointRow, EndpointState};

/// Endpoints, at most.
const ENDPOINTS_MAX: usize = 32;

/// What is said of an endpoint; what is not said stays as it is.
#[derive(Debug, Default)]
pub(crate) struct EndpointChange {
    pub(crate) url: Option<String>,
    pub(crate) types: Option<Vec<String>>,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) state: Option<EndpointState>,
}

/// What becomes of the secret that was good until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum OldSecret {
    /// It signs nothing any more.
    Revoke,
    /// Deliveries carry its signature too, until the secret is rotated again.
    Keep,
}

impl Emulator {
    /// Makes an endpoint that is signed for with `secret`; one of the same URL keeps its id and
    /// is replaced, and enabled.
    pub(crate) async fn put_endpoint(
        &self,
        said: EndpointChange,
        secret: &Secret,
    ) -> Result<EndpointRow, Fault> {
        let now = self.now();
        let url = checked_url(&said.url.clone().unwrap_or_default())?;
        let mut change = self.store.change().await?;
        let found = EndpointRow::find_by_url(change.rows(), &url).await?;
        let is_new = found.is_none();
        let mut endpoint = found.unwrap_or_else(|| EndpointRow {
            seq: 0,
            id: EndpointId::mint(),
            url,
            secret: String::new(),
            types: Vec::new(),
            name: String::new(),
            description: String::new(),
            state: EndpointState::Enabled,
            failing: None,
            created_at: now,
            updated_at: now,
        });
        fill(&mut endpoint, said)?;
        endpoint.secret = secret.expose().to_owned();
        endpoint.state = EndpointState::Enabled;
        endpoint.failing = None;
        endpoint.updated_at = now;
        if is_new {
            if EndpointRow::all(change.rows()).await?.len() >= ENDPOINTS_MAX {
                let message = format!("there are {ENDPOINTS_MAX} webhook endpoints already");
                return Err(Fault::Invalid { message, code: None });
            }
            endpoint.insert(change.rows()).await?;
        } else {
            endpoint.save(change.rows()).await?;
        }
        change.commit().await?;
        Ok(endpoint)
    }

    /// Endpoints, in the order of their creation.
    pub(crate) async fn endpoints(&self) -> Result<Vec<EndpointRow>, Fault> {
        let mut rows = self.store.read().await?;
        Ok(EndpointRow::all(&mut rows).await?)
    }

    /// An endpoint.
    pub(crate) async fn endpoint(&self, id: &EndpointId) -> Result<EndpointRow, Fault> {
        let mut rows = self.store.read().await?;
        EndpointRow::find(&mut rows, id).await?.ok_or_else(|| not_found(id))
    }

    /// Changes an endpoint.
    pub(crate) async fn update_endpoint(
        &self,
        id: &EndpointId,
        said: EndpointChange,
    ) -> Result<EndpointRow, Fault> {
        let mut change = self.store.change().await?;
        let found = EndpointRow::find(change.rows(), id).await?;
        let mut endpoint = found.ok_or_else(|| not_found(id))?;
        fill(&mut endpoint, said)?;
        if endpoint.is_enabled() {
            endpoint.failing = None;
        }
        endpoint.updated_at = self.now();
        endpoint.save(change.rows()).await?;
        change.commit().await?;
        Ok(endpoint)
    }

    /// Removes an endpoint, and what is on its way to it.
    pub(crate) async fn delete_endpoint(&self, id: &EndpointId) -> Result<(), Fault> {
        let mut change = self.store.change().await?;
        let found = EndpointRow::find(change.rows(), id).await?;
        found.ok_or_else(|| not_found(id))?.delete(change.rows()).await?;
        change.commit().await?;
        Ok(())
    }

    /// Signs with a fresh secret from now on.
    pub(crate) async fn rotate_secret(
        &self,
        id: &EndpointId,
        old: OldSecret,
    ) -> Result<Secret, Fault> {
        let mut change = self.store.change().await?;
        let found = EndpointRow::find(change.rows(), id).await?;
        let mut endpoint = found.ok_or_else(|| not_found(id))?;
        let fresh = keys::new_webhook_secret();
        let newest = endpoint.secret.split_whitespace().next().unwrap_or_default();
        endpoint.secret = match old {
            OldSecret::Revoke => fresh.expose().to_owned(),
            OldSecret::Keep => format!("{} {newest}", fresh.expose()),
        };
        endpoint.updated_at = self.now();
        endpoint.save(change.rows()).await?;
        change.commit().await?;
        Ok(fresh)
    }

    /// The log of deliveries, the newest first.
    pub(crate) async fn deliveries(&self, limit: u32) -> Result<Vec<DeliveryRow>, Fault> {
        let mut rows = self.store.read().await?;
        Ok(DeliveryRow::log(&mut rows, limit).await?)
    }

    /// Delivers an event again to all endpoints that it went to.
    pub(crate) async fn redeliver(&self, hook: &HookId) -> Result<u64, Fault> {
        let mut change = self.store.change().await?;
        let again = DeliveryRow::redeliver(change.rows(), hook, self.now()).await?;
        if again == 0 {
            return Err(Fault::not_found("delivery that is over", hook));
        }
        self.finish(change).await?;
        Ok(again)
    }
}

fn fill(endpoint: &mut EndpointRow, said: EndpointChange) -> Result<(), Fault> {
    if let Some(url) = said.url {
        endpoint.url = checked_url(&url)?;
    }
    if let Some(types) = said.types.filter(|types| !types.is_empty()) {
        endpoint.types = types;
    }
    endpoint.name = said.name.unwrap_or(std::mem::take(&mut endpoint.name));
    endpoint.description = said.description.unwrap_or(std::mem::take(&mut endpoint.description));
    endpoint.state = said.state.unwrap_or(endpoint.state.clone());
    Ok(())
}

/// The URL as it is kept. The platform itself takes HTTPS only.
pub(crate) fn checked_url(url: &str) -> Result<String, Fault> {
    let parsed = url::Url::parse(url).map_err(|_| Fault::field("url", "is not a URL"))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host().is_none() {
        return Err(Fault::field("url", "must be an http:// or https:// URL with a host"));
    }
    Ok(parsed.to_string())
}

fn not_found(id: &EndpointId) -> Fault {
    Fault::not_found("webhook endpoint", id)
}
