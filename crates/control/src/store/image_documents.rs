//! How an image's configuration and its hooks are written in JSON columns.

use super::{ImageContent, corrupt, stored_id, to_json, variant};
use crate::{
    Architecture, ControlError, Hook, Hooks, ImageSpec, LogGroup, LogStream, Logging,
    OsCapabilities, RoleArn,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

#[derive(Serialize, Deserialize)]
pub(super) struct HooksDocument {
    port: Option<u16>,
    timeouts_ms: BTreeMap<String, u64>,
    #[serde(default)]
    disabled_ms: BTreeMap<String, Option<u64>>,
}

impl HooksDocument {
    pub(super) fn of(hooks: &Hooks) -> Self {
        let ms = |timeout: &Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let timeouts = hooks.timeouts.iter();
        let timeouts_ms = timeouts.map(|(hook, t)| (hook.name().to_owned(), ms(t))).collect();
        let disabled = hooks.disabled.iter();
        let disabled_ms =
            disabled.map(|(hook, t)| (hook.name().to_owned(), t.as_ref().map(ms))).collect();
        Self { port: hooks.port, timeouts_ms, disabled_ms }
    }

    pub(super) fn read(self) -> Result<Hooks, ControlError> {
        let hook = |name: &str| variant("a hook", &Hook::ALL, Hook::name, name);
        let timeouts = self.timeouts_ms.into_iter();
        let disabled = self.disabled_ms.into_iter();
        Ok(Hooks {
            port: self.port,
            timeouts: timeouts
                .map(|(name, ms)| Ok((hook(&name)?, Duration::from_millis(ms))))
                .collect::<Result<_, ControlError>>()?,
            disabled: disabled
                .map(|(name, ms)| Ok((hook(&name)?, ms.map(Duration::from_millis))))
                .collect::<Result<_, ControlError>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LoggingDocument {
    Default,
    CloudWatch { group: Option<String>, stream: Option<String> },
    Disabled,
}

/// All of an [`ImageSpec`], for the column and for the fingerprint of a request.
#[derive(Serialize, Deserialize)]
pub(crate) struct ImageDocument {
    artifact_uri: String,
    base_image_arn: String,
    base_image_version: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    build_role: String,
    description: Option<String>,
    memory_mib: u32,
    hooks: HooksDocument,
    environment: Vec<(String, String)>,
    egress_connectors: Vec<String>,
    logging: LoggingDocument,
    all_os_capabilities: bool,
}

impl ImageDocument {
    pub(crate) fn of(spec: &ImageSpec) -> Self {
        Self {
            artifact_uri: spec.artifact_uri.clone(),
            base_image_arn: spec.base_image_arn.clone(),
            base_image_version: spec.base_image_version.clone(),
            architectures: spec.architectures.iter().map(|a| a.as_str().to_owned()).collect(),
            build_role: spec.build_role.to_string(),
            description: spec.description.clone(),
            memory_mib: spec.memory_mib,
            hooks: HooksDocument::of(&spec.hooks),
            environment: spec.environment.clone(),
            egress_connectors: spec.egress_connectors.clone(),
            logging: match &spec.logging {
                Logging::Default => LoggingDocument::Default,
                Logging::Disabled => LoggingDocument::Disabled,
                Logging::CloudWatch { group, stream } => LoggingDocument::CloudWatch {
                    group: group.as_ref().map(ToString::to_string),
                    stream: stream.as_ref().map(ToString::to_string),
                },
            },
            all_os_capabilities: spec.os_capabilities == OsCapabilities::All,
        }
    }

    pub(crate) fn read(self) -> Result<ImageSpec, ControlError> {
        Ok(ImageSpec {
            artifact_uri: self.artifact_uri,
            base_image_arn: self.base_image_arn,
            base_image_version: self.base_image_version,
            architectures: self
                .architectures
                .iter()
                .map(|name| architecture(name))
                .collect::<Result<_, _>>()?,
            build_role: stored_id("a role", RoleArn::parse(&self.build_role))?,
            description: self.description,
            memory_mib: self.memory_mib,
            hooks: self.hooks.read()?,
            environment: self.environment,
            egress_connectors: self.egress_connectors,
            logging: match self.logging {
                LoggingDocument::Default => Logging::Default,
                LoggingDocument::Disabled => Logging::Disabled,
                LoggingDocument::CloudWatch { group, stream } => Logging::CloudWatch {
                    group: group
                        .map(|g| LogGroup::parse(&g).map_err(|_| corrupt("a log group", g)))
                        .transpose()?,
                    stream: stream
                        .map(|s| LogStream::parse(&s).map_err(|_| corrupt("a log stream", s)))
                        .transpose()?,
                },
            },
            os_capabilities: if self.all_os_capabilities {
                OsCapabilities::All
            } else {
                OsCapabilities::Default
            },
        })
    }
}

/// An image on its way to another host.
#[derive(Serialize, Deserialize)]
pub(crate) struct PortableDocument {
    pub(crate) name: String,
    pub(crate) spec: ImageDocument,
    pub(crate) content: ImageContent,
}

impl PortableDocument {
    pub(crate) fn write(&self) -> String {
        to_json(self)
    }

    /// It comes from outside.
    pub(crate) fn read(text: &str) -> Result<Self, ControlError> {
        let document: Self = serde_json::from_str(text).map_err(|error| {
            ControlError::BadImageSpec(format!(
                "the image's description is not understood: {error}"
            ))
        })?;
        // It becomes a file's name.
        let digits = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if digits(&document.content.disk) {
            Ok(document)
        } else {
            Err(ControlError::BadImageSpec("the image's disk has no digest for a name".to_owned()))
        }
    }
}

fn architecture(name: &str) -> Result<Architecture, ControlError> {
    variant("an architecture", Architecture::ALL, Architecture::as_str, name)
}
