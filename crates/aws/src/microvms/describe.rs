//! What is answered of MicroVMs, images, versions and builds: every member, unset ones as null.

use super::network;
use crate::service::Call;
use control::{
    Architecture, AutoResume, Build, Hook, Hooks, IdlePolicy, Image, ImageArn, ImageSpec, Logging,
    ManagedImage, Microvm, OsCapabilities, StartedBuild, Version,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// RunMicrovm and GetMicrovm. `terminationReasonCode` is sent by the live service beyond its model.
pub(super) fn microvm(microvm: &Microvm) -> Value {
    json!({
        "microvmId": microvm.id.as_str(),
        "state": microvm.state.as_str(),
        "stateReason": microvm.state_reason,
        "terminationReasonCode": null,
        "endpoint": microvm.endpoint,
        "imageArn": microvm.image.to_string(),
        "imageVersion": microvm.version.to_string(),
        "executionRoleArn": microvm.execution_role.as_ref().map(|role| role.as_str()),
        "idlePolicy": microvm.idle_policy.as_ref().map(idle_policy),
        "maximumDurationInSeconds": microvm.maximum_duration.as_secs(),
        "startedAt": microvm.started_at.seconds(),
        "terminatedAt": microvm.terminated_at.map(control::Timestamp::seconds),
        "ingressNetworkConnectors": microvm.ingress_connectors,
        "egressNetworkConnectors": microvm.egress_connectors,
    })
}

/// An item of ListMicrovms: the model's members and no others.
pub(super) fn microvm_item(microvm: &Microvm) -> Value {
    json!({
        "microvmId": microvm.id.as_str(),
        "state": microvm.state.as_str(),
        "imageArn": microvm.image.to_string(),
        "imageVersion": microvm.version.to_string(),
        "startedAt": microvm.started_at.seconds(),
    })
}

fn idle_policy(policy: &IdlePolicy) -> Value {
    json!({
        "maxIdleDurationSeconds": policy.max_idle.as_secs(),
        "suspendedDurationSeconds": policy.suspended.as_secs(),
        "autoResumeEnabled": policy.auto_resume == AutoResume::Enabled,
    })
}

/// GetMicrovmImage.
pub(super) fn image(image: &Image) -> Value {
    let mut members = image_members(image);
    members.insert("updatedAt".to_owned(), json!(image.updated_at.seconds()));
    members.insert("tags".to_owned(), json!(image.tags));
    Value::Object(members)
}

/// An item of ListMicrovmImages.
pub(super) fn image_item(image: &Image) -> Value {
    Value::Object(image_members(image))
}

fn image_members(image: &Image) -> Map<String, Value> {
    let version = |version: Option<control::ImageVersion>| {
        version.map_or(Value::Null, |version| Value::String(version.to_string()))
    };
    [
        ("imageArn", json!(image.arn.to_string())),
        ("name", json!(image.arn.name.as_str())),
        ("state", json!(image.state.as_str())),
        ("latestActiveImageVersion", version(image.latest_active_version)),
        ("latestFailedImageVersion", version(image.latest_failed_version)),
        ("createdAt", json!(image.created_at.seconds())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// GetMicrovmImageVersion, UpdateMicrovmImageVersion and the items of ListMicrovmImageVersions.
pub(super) fn version(version: &Version) -> Value {
    let mut members = configuration(&version.spec);
    members.extend(object(json!({
        "imageArn": version.image.to_string(),
        "imageVersion": version.version.to_string(),
        "state": version.state.as_str(),
        "status": version.status.as_str(),
        "stateReason": version.state_reason,
        "createdAt": version.created_at.seconds(),
        "updatedAt": version.updated_at.seconds(),
        "tags": null,
    })));
    Value::Object(members)
}

/// CreateMicrovmImage and UpdateMicrovmImage. The last three members are sent by the live service
/// beyond its model. A version without a connector of its own has the managed one, and says so here.
pub(super) fn started_build(call: &Call, started: &StartedBuild) -> Value {
    let StartedBuild { image, version, .. } = started;
    let mut members = configuration(&version.spec);
    if version.spec.egress_connectors.is_empty() {
        let egress = network::managed(call, "INTERNET_EGRESS");
        members.insert("egressNetworkConnectors".to_owned(), json!([egress]));
    }
    members.extend(image_members(image));
    members.extend(object(json!({
        "imageVersion": version.version.to_string(),
        "updatedAt": image.updated_at.seconds(),
        "id": image_uuid(image),
        "buildPhaseOverrides": null,
        "roleConfiguration": null,
    })));
    Value::Object(members)
}

/// The same for all of an image's life, and another one's for a later image of the same name.
fn image_uuid(image: &Image) -> Option<String> {
    let text = format!("{} {}", image.arn, image.created_at.ms());
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let bytes = digest.as_ref().first_chunk::<16>()?;
    Some(uuid::Builder::from_random_bytes(*bytes).into_uuid().to_string())
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// The members that Create and Update take.
fn configuration(spec: &ImageSpec) -> Map<String, Value> {
    let environment: BTreeMap<&str, &str> =
        spec.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let capabilities = match spec.os_capabilities {
        OsCapabilities::Default => Value::Null,
        OsCapabilities::All => json!(["ALL"]),
    };
    let cpus: Vec<Value> =
        spec.architectures.iter().map(|a| json!({ "architecture": a.as_str() })).collect();
    object(json!({
        "baseImageArn": spec.base_image_arn,
        "baseImageVersion": spec.base_image_version,
        "buildRoleArn": spec.build_role.as_str(),
        "description": spec.description,
        "codeArtifact": { "uri": spec.artifact_uri },
        "logging": logging(&spec.logging),
        "egressNetworkConnectors": spec.egress_connectors,
        "cpuConfigurations": if cpus.is_empty() { Value::Null } else { Value::Array(cpus) },
        "resources": [{ "minimumMemoryInMiB": spec.memory_mib }],
        "additionalOsCapabilities": capabilities,
        "hooks": hooks(&spec.hooks),
        "environmentVariables": environment,
    }))
}

fn logging(logging: &Logging) -> Value {
    match logging {
        Logging::Default => Value::Null,
        Logging::CloudWatch { group, stream } => json!({ "cloudWatch": {
            "logGroup": group.as_ref().map(|group| group.as_str()),
            "logStream": stream.as_ref().map(|stream| stream.as_str()),
        }}),
        Logging::Disabled => json!({ "disabled": {} }),
    }
}

fn hooks(hooks: &Hooks) -> Value {
    let Hooks { port, timeouts, disabled } = hooks;
    if *hooks == Hooks::default() {
        return Value::Null;
    }
    let (mut image, mut microvm) = (Map::new(), Map::new());
    for hook in Hook::ALL {
        let (mode, seconds) = match (timeouts.get(&hook), disabled.get(&hook)) {
            (Some(timeout), _) => ("ENABLED", Some(timeout.as_secs())),
            (None, Some(timeout)) => ("DISABLED", timeout.map(|timeout| timeout.as_secs())),
            (None, None) => continue,
        };
        let group = match hook {
            Hook::Ready | Hook::Validate => &mut image,
            Hook::Run | Hook::Resume | Hook::Suspend | Hook::Terminate => &mut microvm,
        };
        group.insert(hook.name().to_owned(), json!(mode));
        group.insert(format!("{}TimeoutInSeconds", hook.name()), json!(seconds));
    }
    json!({ "port": port, "microvmImageHooks": image, "microvmHooks": microvm })
}

/// An item of ListMicrovmImageBuilds; GetMicrovmImageBuild adds the sizes.
pub(super) fn build_item(build: &Build) -> Map<String, Value> {
    let architecture = Architecture::HOST.as_str();
    let chipset = if cfg!(target_arch = "aarch64") { "GRAVITON" } else { "INTEL" };
    [
        ("imageArn", json!(build.image.to_string())),
        ("imageVersion", json!(build.version.to_string())),
        ("buildId", json!(build.id.as_str())),
        ("buildState", json!(build.state.as_str())),
        ("architecture", json!(architecture)),
        ("chipset", json!(chipset)),
        ("chipsetGeneration", json!("1")),
        ("stateReason", json!(build.state_reason)),
        ("terminationReasonCode", Value::Null),
        ("createdAt", json!(build.created_at.seconds())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// GetMicrovmImageBuild.
pub(super) fn build(build: &Build) -> Value {
    let mut members = build_item(build);
    let sizes = build.snapshot.map(|sizes| {
        json!({
            "memorySnapshotSizeInBytes": sizes.memory_bytes,
            "codeInstallSizeInBytes": sizes.code_bytes,
            "diskSnapshotSizeInBytes": sizes.disk_bytes,
        })
    });
    members.insert("snapshotBuild".to_owned(), json!(sizes));
    Value::Object(members)
}

/// An item of ListManagedMicrovmImages.
pub(super) fn managed_image(image: &ManagedImage) -> Value {
    json!({
        "imageArn": image.arn.to_string(),
        "createdAt": image.created_at.seconds(),
        "updatedAt": image.updated_at.seconds(),
    })
}

/// An item of ListManagedMicrovmImageVersions.
pub(super) fn managed_version(image: &ManagedImage, arn: &ImageArn, version: &str) -> Value {
    let architecture = Architecture::HOST.as_str();
    json!({
        "imageArn": arn.to_string(),
        "imageVersion": version,
        "status": "AVAILABLE",
        "supportedCpuConfigurations": [{ "architecture": architecture }],
        "createdAt": image.created_at.seconds(),
        "updatedAt": image.updated_at.seconds(),
    })
}
