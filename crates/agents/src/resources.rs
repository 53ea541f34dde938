//! Skills and memories, as far as a worker reads them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A version of a skill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkillVersion {
    /// Its own id, never `latest`.
    pub id: String,
    /// What the skill calls itself, and its directory.
    pub name: String,
    /// All other members.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A memory store that a session has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MemoryStoreRef {
    /// `memstore_…`.
    pub memory_store_id: String,
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// Where the agent was told that it is.
    #[serde(default)]
    pub mount_path: Option<String>,
    /// `read_only`, or anything else for one that takes changes.
    #[serde(default)]
    pub access: Option<String>,
}

impl MemoryStoreRef {
    /// The memory stores among a session's resources.
    pub fn of(resources: &[Value]) -> Result<Vec<Self>, serde_json::Error> {
        let kind = |resource: &&Value| {
            resource.get("type").and_then(Value::as_str) == Some("memory_store")
        };
        resources.iter().filter(kind).cloned().map(serde_json::from_value).collect()
    }

    /// Whether nothing is ever sent to it.
    pub fn is_read_only(&self) -> bool {
        self.access.as_deref() == Some("read_only")
    }
}

/// A memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// `mem_…`.
    pub id: String,
    /// `/notes/today.md`.
    pub path: String,
    /// Hexadecimal SHA-256 of its content.
    pub content_sha256: String,
    /// Its text; only where it was asked for.
    #[serde(default)]
    pub content: Option<String>,
}

/// An entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryListing {
    /// A memory.
    Memory(Memory),
    /// Something else: a prefix that stands for many.
    Other,
}

impl<'de> Deserialize<'de> for MemoryListing {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.get("type").and_then(Value::as_str) != Some("memory") {
            return Ok(Self::Other);
        }
        serde_json::from_value(value).map(Self::Memory).map_err(serde::de::Error::custom)
    }
}
