//! What a session's agent brings along: skills, and the memories of its stores.

use std::fmt;

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;

use super::api::{Call, Client, with_query};
use super::error::ClientError;
use super::transport::TransportError;
use crate::resources::{Memory, MemoryListing, SkillVersion};
use crate::session::Page;

/// What memory stores are asked for with.
const MEMORY_BETA: &str = "agent-memory-2026-07-22";
/// Memories in a page, by the platform's limits: without their content and with it.
const LISTED_LEN: u32 = 100;
const FULL_LEN: u32 = 20;

/// How much of each memory a listing holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryView {
    /// Path and checksum.
    Basic,
    /// The content too.
    Full,
}

/// An answer that is read piece by piece.
pub struct Download {
    body: Incoming,
    authority: String,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").finish_non_exhaustive()
    }
}

impl Download {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`TransportError::BrokenOff`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| TransportError::BrokenOff {
                authority: self.authority.clone(),
                source,
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

impl Client {
    /// Looks a version of a skill up; `version` may be `latest`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn skill_version(
        &self,
        skill: &str,
        version: &str,
    ) -> Result<SkillVersion, ClientError> {
        let (skill, version) = (segment(skill), segment(version));
        let path = format!("/v1/skills/{skill}/versions/{version}");
        self.fetch(Call::new(Method::GET, path, None).with_beta(None)).await
    }

    /// Begins to load a skill's archive; `version` is the id that [`Client::skill_version`] gave.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn skill_content(&self, skill: &str, version: &str) -> Result<Download, ClientError> {
        let (skill, version) = (segment(skill), segment(version));
        let path = format!("/v1/skills/{skill}/versions/{version}/content");
        let call =
            Call::new(Method::GET, path, None).with_beta(None).accepting("application/binary");
        let body = self.open(&call).await?;
        Ok(Download { body, authority: call.name() })
    }

    /// One page of a store's memories. `page` is the last page's `next_page`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn memories(
        &self,
        store: &str,
        view: MemoryView,
        page: Option<&str>,
    ) -> Result<Page<MemoryListing>, ClientError> {
        let (view, limit) = match view {
            MemoryView::Basic => ("basic", LISTED_LEN),
            MemoryView::Full => ("full", FULL_LEN),
        };
        let mut query = vec![("view", view.to_owned()), ("limit", limit.to_string())];
        if let Some(page) = page {
            query.push(("page", page.to_owned()));
        }
        self.fetch(memory_call(Method::GET, with_query(memories_path(store), &query), None)).await
    }

    /// A memory with its content.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn memory(&self, store: &str, memory: &str) -> Result<Memory, ClientError> {
        let path = with_query(memory_path(store, memory), &[("view", "full".to_owned())]);
        self.fetch(memory_call(Method::GET, path, None)).await
    }

    /// Makes a memory; `path` begins with a slash.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_memory(
        &self,
        store: &str,
        path: &str,
        content: &str,
    ) -> Result<Memory, ClientError> {
        let body = json!({"path": path, "content": content});
        self.fetch(memory_call(Method::POST, memories_path(store), Some(body))).await
    }

    /// Gives a memory another content, if it still has the one of checksum `expected`.
    ///
    /// # Errors
    /// [`ClientError`]; 409 says that somebody else was first.
    pub async fn update_memory(
        &self,
        store: &str,
        memory: &str,
        content: &str,
        expected: &str,
    ) -> Result<Memory, ClientError> {
        let precondition = json!({"type": "content_sha256", "content_sha256": expected});
        let body = json!({"content": content, "precondition": precondition});
        self.fetch(memory_call(Method::POST, memory_path(store, memory), Some(body))).await
    }

    /// Deletes a memory, if it still has the content of checksum `expected`.
    ///
    /// # Errors
    /// [`ClientError`]; 409 and 412 say that it has another one.
    pub async fn delete_memory(
        &self,
        store: &str,
        memory: &str,
        expected: &str,
    ) -> Result<serde_json::Value, ClientError> {
        let query = [("expected_content_sha256", expected.to_owned())];
        let path = with_query(memory_path(store, memory), &query);
        self.fetch(memory_call(Method::DELETE, path, None)).await
    }
}

fn memory_call(method: Method, path: String, body: Option<serde_json::Value>) -> Call<'static> {
    Call::new(method, path, body).with_beta(Some(MEMORY_BETA))
}

fn memories_path(store: &str) -> String {
    format!("/v1/memory_stores/{}/memories", segment(store))
}

fn memory_path(store: &str, memory: &str) -> String {
    format!("{}/{}", memories_path(store), segment(memory))
}

/// An id as one segment of a path, whatever it holds.
fn segment(id: &str) -> String {
    percent_encoding::utf8_percent_encode(id, super::api::QUERY).to_string()
}
