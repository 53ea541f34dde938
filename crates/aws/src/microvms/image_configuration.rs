//! What CreateMicrovmImage and UpdateMicrovmImage both take: the full configuration of a version.

use super::{
    error::{bad_id, validation},
    logging::{LoggingInput, logging},
    shapes::{ARCHITECTURE, NON_BLANK},
};
use crate::{
    error::ApiError,
    shape::{Member, Shape, UNLIMITED},
};
use control::{
    Architecture, Hook, Hooks, IMAGE_MEMORY_MIB, IMAGE_MEMORY_MIB_DEFAULT, ImageSpec,
    OsCapabilities, RoleArn,
};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

pub(super) static DESCRIPTION: Shape = Shape::text(0, UNLIMITED);
pub(super) static CODE_ARTIFACT: Shape = Shape::Union(&[Member::optional("uri", &NON_BLANK)]);
static CONNECTOR: Shape = Shape::text(1, 2048);
pub(super) static CONNECTORS: Shape = Shape::List { min: 0, max: 1, of: &CONNECTOR };
static CPU: Shape = Shape::Structure(&[Member::required("architecture", &ARCHITECTURE)]);
pub(super) static CPUS: Shape = Shape::List { min: 0, max: UNLIMITED, of: &CPU };
static MEMORY: Shape = Shape::Integer { min: i64::MIN, max: i64::MAX };
static RESOURCE: Shape = Shape::Structure(&[Member::required("minimumMemoryInMiB", &MEMORY)]);
pub(super) static RESOURCES: Shape = Shape::List { min: 0, max: 1, of: &RESOURCE };
static CAPABILITY: Shape = Shape::Choice(&["ALL"]);
pub(super) static CAPABILITIES: Shape = Shape::List { min: 0, max: UNLIMITED, of: &CAPABILITY };
static PORT: Shape = Shape::Integer { min: 1, max: 65_535 };
static MODE: Shape = Shape::Choice(&["DISABLED", "ENABLED"]);
static MICROVM_TIMEOUT: Shape = Shape::Integer { min: 1, max: 60 };
static IMAGE_TIMEOUT: Shape = Shape::Integer { min: 1, max: 3600 };
static MICROVM_HOOKS: Shape = Shape::Structure(&[
    Member::optional("run", &MODE),
    Member::optional("runTimeoutInSeconds", &MICROVM_TIMEOUT),
    Member::optional("resume", &MODE),
    Member::optional("resumeTimeoutInSeconds", &MICROVM_TIMEOUT),
    Member::optional("suspend", &MODE),
    Member::optional("suspendTimeoutInSeconds", &MICROVM_TIMEOUT),
    Member::optional("terminate", &MODE),
    Member::optional("terminateTimeoutInSeconds", &MICROVM_TIMEOUT),
]);
static IMAGE_HOOKS: Shape = Shape::Structure(&[
    Member::optional("ready", &MODE),
    Member::optional("readyTimeoutInSeconds", &IMAGE_TIMEOUT),
    Member::optional("validate", &MODE),
    Member::optional("validateTimeoutInSeconds", &IMAGE_TIMEOUT),
]);
pub(super) static HOOKS: Shape = Shape::Structure(&[
    Member::optional("port", &PORT),
    Member::optional("microvmHooks", &MICROVM_HOOKS),
    Member::optional("microvmImageHooks", &IMAGE_HOOKS),
]);
static VARIABLE: Shape = Shape::matching(1, 256, r"[^\s]+");
static VARIABLE_VALUE: Shape = Shape::secret(0, 4096);
pub(super) static VARIABLES: Shape =
    Shape::Map { min: 0, max: 100, key: &VARIABLE, value: &VARIABLE_VALUE };

/// The shape of an input with these members after those of the configuration.
macro_rules! with_configuration {
    ($($member:expr),+ $(,)?) => {{
        use $crate::microvms::{image_configuration as own, shapes};
        Shape::Structure(&[
            Member::required("baseImageArn", &shapes::NON_BLANK),
            Member::optional("baseImageVersion", &shapes::NON_BLANK),
            Member::required("buildRoleArn", &shapes::ROLE_ARN),
            Member::optional("description", &own::DESCRIPTION),
            Member::required("codeArtifact", &own::CODE_ARTIFACT),
            Member::optional("logging", &shapes::LOGGING),
            Member::optional("egressNetworkConnectors", &own::CONNECTORS),
            Member::optional("cpuConfigurations", &own::CPUS),
            Member::optional("resources", &own::RESOURCES),
            Member::optional("additionalOsCapabilities", &own::CAPABILITIES),
            Member::optional("hooks", &own::HOOKS),
            Member::optional("environmentVariables", &own::VARIABLES),
            $($member),+
        ])
    }};
}
pub(super) use with_configuration;

/// The members of the configuration.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Configuration {
    base_image_arn: String,
    base_image_version: Option<String>,
    pub(super) build_role_arn: String,
    description: Option<String>,
    code_artifact: CodeArtifact,
    logging: Option<LoggingInput>,
    pub(super) egress_network_connectors: Option<Vec<String>>,
    cpu_configurations: Option<Vec<Cpu>>,
    resources: Option<Vec<Resource>>,
    additional_os_capabilities: Option<Vec<String>>,
    hooks: Option<HooksInput>,
    environment_variables: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct CodeArtifact {
    uri: String,
}

#[derive(Deserialize)]
struct Cpu {
    architecture: String,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "minimumMemoryInMiB")]
    minimum_memory_in_mib: i64,
}

/// `microvmHooks` and `microvmImageHooks`: of each hook a mode and a time, by names that are made
/// of the hook's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HooksInput {
    port: Option<u16>,
    microvm_hooks: Option<BTreeMap<String, HookMember>>,
    microvm_image_hooks: Option<BTreeMap<String, HookMember>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum HookMember {
    Mode(String),
    Seconds(u64),
    /// Null is absence.
    Absent(()),
}

impl Configuration {
    /// # Errors
    /// 400 where a member breaks a rule of the service that its shape does not tell.
    pub(super) fn spec(self, build_role: RoleArn) -> Result<ImageSpec, ApiError> {
        let memory = self.resources.unwrap_or_default().first().map(|r| r.minimum_memory_in_mib);
        let memory_mib = match memory {
            None => IMAGE_MEMORY_MIB_DEFAULT,
            Some(mib) => u32::try_from(mib).map_err(|_| {
                validation(format!(
                    "minimumMemoryInMiB is {mib}; it must be one of {IMAGE_MEMORY_MIB:?}"
                ))
            })?,
        };
        let architectures = self.cpu_configurations.unwrap_or_default();
        let capabilities = self.additional_os_capabilities.unwrap_or_default();
        Ok(ImageSpec {
            artifact_uri: self.code_artifact.uri,
            base_image_arn: self.base_image_arn,
            base_image_version: self.base_image_version,
            build_role,
            description: self.description,
            memory_mib,
            hooks: self.hooks.map(hooks).unwrap_or_default(),
            environment: self.environment_variables.unwrap_or_default().into_iter().collect(),
            egress_connectors: self.egress_network_connectors.unwrap_or_default(),
            logging: logging(self.logging)?,
            os_capabilities: if capabilities.is_empty() {
                OsCapabilities::Default
            } else {
                OsCapabilities::All
            },
            architectures: architectures
                .iter()
                .filter_map(|cpu| {
                    Architecture::ALL.iter().copied().find(|a| a.as_str() == cpu.architecture)
                })
                .collect(),
        })
    }

    /// # Errors
    /// 400 for what is no role's ARN.
    pub(super) fn build_role(&self) -> Result<RoleArn, ApiError> {
        RoleArn::parse(&self.build_role_arn).map_err(|error| bad_id(&error))
    }
}

fn hooks(input: HooksInput) -> Hooks {
    let mut hooks = Hooks { port: input.port, ..Hooks::default() };
    let groups = [input.microvm_hooks, input.microvm_image_hooks];
    let members: BTreeMap<String, HookMember> =
        groups.into_iter().flatten().flat_map(BTreeMap::into_iter).collect();
    for hook in Hook::ALL {
        let seconds = match members.get(&format!("{}TimeoutInSeconds", hook.name())) {
            Some(HookMember::Seconds(seconds)) => Some(Duration::from_secs(*seconds)),
            Some(HookMember::Mode(_) | HookMember::Absent(())) | None => None,
        };
        match members.get(hook.name()) {
            Some(HookMember::Mode(mode)) if mode == "ENABLED" => {
                hooks.timeouts.insert(hook, seconds.unwrap_or(hook.default_timeout()));
            }
            Some(HookMember::Mode(_)) => {
                hooks.disabled.insert(hook, seconds);
            }
            // A time without a mode: the hook is off, as its default is.
            Some(HookMember::Seconds(_) | HookMember::Absent(())) | None => {
                if seconds.is_some() {
                    hooks.disabled.insert(hook, seconds);
                }
            }
        }
    }
    hooks
}
