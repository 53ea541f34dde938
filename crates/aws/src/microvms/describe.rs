//! What is answered of MicroVMs, images, versions and builds: every member, unset ones as null.

use control::{
    AutoResume, Build, Hook, Hooks, IdlePolicy, Image, ImageArn, Logging, ManagedImage, Microvm,
    OsCapabilities, Version,
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
    let spec = &version.spec;
    let environment: BTreeMap<&str, &str> =
        spec.environment.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let capabilities = match spec.os_capabilities {
        OsCapabilities::Default => Value::Null,
        OsCapabilities::All => json!(["ALL"]),
    };
    json!({
        "imageArn": version.image.to_string(),
        "imageVersion": version.version.to_string(),
        "state": version.state.as_str(),
        "status": version.status.as_str(),
        "stateReason": version.state_reason,
        "baseImageArn": spec.base_image_arn,
        "baseImageVersion": spec.base_image_version,
        "buildRoleArn": spec.build_role.as_str(),
        "description": spec.description,
        "codeArtifact": { "uri": spec.artifact_uri },
        "logging": logging(&spec.logging),
        "egressNetworkConnectors": spec.egress_connectors,
        "cpuConfigurations": null,
        "resources": [{ "minimumMemoryInMiB": spec.memory_mib }],
        "additionalOsCapabilities": capabilities,
        "hooks": hooks(&spec.hooks),
        "environmentVariables": environment,
        "createdAt": version.created_at.seconds(),
        "updatedAt": version.updated_at.seconds(),
        "tags": null,
    })
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
    let Some(port) = hooks.port else { return Value::Null };
    let (mut image, mut microvm) = (Map::new(), Map::new());
    for hook in Hook::ALL {
        let Some(timeout) = hooks.timeouts.get(&hook) else { continue };
        let group = match hook {
            Hook::Ready | Hook::Validate => &mut image,
            Hook::Run | Hook::Resume | Hook::Suspend | Hook::Terminate => &mut microvm,
        };
        group.insert(hook.name().to_owned(), json!("ENABLED"));
        group.insert(format!("{}TimeoutInSeconds", hook.name()), json!(timeout.as_secs()));
    }
    json!({ "port": port, "microvmImageHooks": image, "microvmHooks": microvm })
}

/// An item of ListMicrovmImageBuilds; GetMicrovmImageBuild adds the sizes.
pub(super) fn build_item(build: &Build) -> Map<String, Value> {
    let architecture = if cfg!(target_arch = "aarch64") { "ARM_64" } else { "X86_64" };
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
    let architecture = if cfg!(target_arch = "aarch64") { "ARM_64" } else { "X86_64" };
    json!({
        "imageArn": arn.to_string(),
        "imageVersion": version,
        "status": "AVAILABLE",
        "supportedCpuConfigurations": [{ "architecture": architecture }],
        "createdAt": image.created_at.seconds(),
        "updatedAt": image.updated_at.seconds(),
    })
}
