//! `image.toml`: what a Dockerfile has no words for, beside it; the VM's memory and its hooks.

use crate::{
    failure::{Exit, Remedy},
    protocol::{ImageRequest, OsCapabilities},
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

pub(crate) const FILE: &str = "image.toml";
/// Of an image that does not say: the hooks that the sample on AWS has.
const HOOKS_PORT: u16 = 9000;
const MEMORY_MIB: u32 = 512;

#[derive(Debug, thiserror::Error)]
#[error("{path}, line {line}: {reason}")]
pub(crate) struct ImageFileError {
    path: PathBuf,
    line: usize,
    reason: String,
}

impl Remedy for ImageFileError {
    fn hint(&self) -> Option<String> {
        Some("images/claude-worker/image.toml shows all that may stand in it".into())
    }
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageFile {
    name: Option<String>,
    memory: Option<u32>,
    capabilities: Option<OsCapabilities>,
    hooks: Option<Hooks>,
}

/// Timeouts in seconds; a hook that is left out is not called.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hooks {
    port: u16,
    ready: Option<u32>,
    validate: Option<u32>,
    run: Option<u32>,
    resume: Option<u32>,
    suspend: Option<u32>,
    terminate: Option<u32>,
}

/// What the command line says instead.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) name: Option<String>,
    pub(crate) memory: Option<u32>,
    /// 0: no hooks.
    pub(crate) hooks_port: Option<u16>,
}

impl ImageFile {
    /// # Errors
    /// [`ImageFileError`] with the line; `path` is for its words.
    pub(crate) fn parse(path: PathBuf, text: &str) -> Result<Self, ImageFileError> {
        toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or("");
            ImageFileError {
                path,
                line: before.matches('\n').count() + 1,
                reason: e.message().trim().to_owned(),
            }
        })
    }

    /// The whole of it: command line over file over defaults. `directory` is the name where nothing
    /// else says one.
    pub(crate) fn resolve(self, overrides: Overrides, directory: String) -> ImageRequest {
        let port = match (overrides.hooks_port, &self.hooks) {
            (Some(0), _) => None,
            (Some(port), _) => Some(port),
            (None, Some(hooks)) => Some(hooks.port),
            (None, None) => Some(HOOKS_PORT),
        };
        let timeouts_s = match self.hooks {
            Some(hooks) => hooks.timeouts(),
            None => ImageRequest::usual_timeouts(),
        };
        ImageRequest {
            name: overrides.name.or(self.name).unwrap_or(directory),
            memory_mib: overrides.memory.or(self.memory).unwrap_or(MEMORY_MIB),
            hooks_port: port,
            timeouts_s,
            environment: Vec::new(),
            capabilities: self.capabilities.unwrap_or_default(),
        }
    }
}

impl Hooks {
    fn timeouts(self) -> BTreeMap<String, u32> {
        [
            ("ready", self.ready),
            ("validate", self.validate),
            ("run", self.run),
            ("resume", self.resume),
            ("suspend", self.suspend),
            ("terminate", self.terminate),
        ]
        .into_iter()
        .filter_map(|(name, seconds)| Some((name.to_owned(), seconds?)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, overrides: Overrides) -> ImageRequest {
        ImageFile::parse(FILE.into(), text).unwrap().resolve(overrides, "dir".into())
    }

    #[test]
    fn the_default_images_own_file_is_understood() {
        let text = include_str!("../../../images/claude-worker/image.toml");
        let request = resolved(text, Overrides::default());
        assert_eq!(request.name, "claude-worker");
        assert_eq!(request.hooks_port, Some(9000));
        assert_eq!(request.timeouts_s.len(), 6);
    }

    #[test]
    fn the_command_line_is_stronger_than_the_file() {
        let text = "name = \"a\"\nmemory = 1024\n[hooks]\nport = 80\nrun = 5\n";
        let overrides = Overrides { name: None, memory: Some(2048), hooks_port: Some(0) };
        let request = resolved(text, overrides);
        assert_eq!((request.name.as_str(), request.memory_mib), ("a", 2048));
        assert_eq!(request.hooks_port, None);
    }

    #[test]
    fn without_a_file_an_image_is_named_after_its_directory_and_has_the_usual_hooks() {
        let request = resolved("", Overrides::default());
        assert_eq!((request.name.as_str(), request.memory_mib), ("dir", 512));
        assert_eq!(request.timeouts_s.len(), 6);
    }

    #[test]
    fn a_fault_is_named_with_its_line() {
        let error = ImageFile::parse("x/image.toml".into(), "name = \"a\"\n[hook]\n").unwrap_err();
        assert!(error.to_string().starts_with("x/image.toml, line 2: unknown field `hook`"));
    }
}
