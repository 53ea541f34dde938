//! Rules of an image's configuration that go beyond the shapes of single members (spec 1.4), and the
//! base images that it may name.

use crate::{
    Architecture, ControlConfig, ControlError, Hook, IMAGE_MEMORY_MIB, ImageArn, ImageName,
    ImageSpec, ManagedImage, Timestamp,
};

/// Name of the base image that Warren provides, and its versions, newest first.
const MANAGED_IMAGE: &str = "al2023-1";
const MANAGED_VERSIONS: [&str; 2] = ["1", "0"];

/// When that base image was first provided: 2026-11-23.
const MANAGED_SINCE: Timestamp = Timestamp::from_ms(1_795_392_000_000);

/// Beginning of the names that the platform keeps to itself.
const RESERVED_PREFIX: &str = "AWS_LAMBDA_MICROVM_";

pub(crate) fn managed(region: &str) -> ManagedImage {
    let name = ImageName::parse(MANAGED_IMAGE).expect("the constant is an image name");
    ManagedImage {
        arn: ImageArn { region: region.to_owned(), account: "aws".to_owned(), name },
        versions: MANAGED_VERSIONS.map(str::to_owned).to_vec(),
        created_at: MANAGED_SINCE,
        updated_at: MANAGED_SINCE,
    }
}

/// Refuses what cannot be built; a version of the base image is given its full form.
///
/// # Errors
/// [`ControlError::BadImageSpec`], in AWS's words where they are known.
pub(crate) fn check(spec: &mut ImageSpec, config: &ControlConfig) -> Result<(), ControlError> {
    check_base(spec, &config.region)
        .and_then(|()| check_artifact(&spec.artifact_uri))
        .and_then(|()| check_machine(spec))
        .and_then(|()| check_hooks(spec))
        .and_then(|()| check_environment(spec, &config.platform_environment))
        .map_err(ControlError::BadImageSpec)
}

/// `1` reads back as `1.0`.
fn check_base(spec: &mut ImageSpec, region: &str) -> Result<(), String> {
    let managed = managed(region);
    let arn = &spec.base_image_arn;
    let known = managed.arn.to_string() == *arn;
    let Some(version) = &mut spec.base_image_version else {
        return if known {
            Ok(())
        } else {
            Err(format!("No managed MicroVM Image with arn {arn} is available"))
        };
    };
    let bare = version.strip_suffix(".0").unwrap_or(version).to_owned();
    if !known || !managed.versions.contains(&bare) {
        return Err(format!(
            "No managed MicroVM Image with arn {arn} and version {version} is available"
        ));
    }
    *version = format!("{bare}.0");
    Ok(())
}

fn check_artifact(uri: &str) -> Result<(), String> {
    let path = uri.strip_prefix("s3://").and_then(|path| path.split_once('/'));
    match path {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => Ok(()),
        Some(_) | None => Err("CodeArtifact URI must be a valid S3 URI in the format: \
                               s3://<bucket>/<key>"
            .to_owned()),
    }
}

fn check_machine(spec: &ImageSpec) -> Result<(), String> {
    if !IMAGE_MEMORY_MIB.contains(&spec.memory_mib) {
        let sizes = IMAGE_MEMORY_MIB;
        return Err(format!(
            "minimumMemoryInMiB is {}; it must be one of {sizes:?}",
            spec.memory_mib
        ));
    }
    match spec.architectures.iter().find(|asked| **asked != Architecture::HOST) {
        None => Ok(()),
        Some(asked) => Err(format!(
            "cpuConfigurations asks for {}, which this host cannot run: it is {}",
            asked.as_str(),
            Architecture::HOST.as_str()
        )),
    }
}

fn check_hooks(spec: &ImageSpec) -> Result<(), String> {
    let has = |hook| spec.hooks.timeouts.contains_key(&hook);
    let lifecycle = [Hook::Run, Hook::Resume, Hook::Suspend, Hook::Terminate].into_iter().any(has);
    if lifecycle && !has(Hook::Ready) {
        return Err("The ready (/ready) MicroVM image hook must be enabled when any MicroVM \
                    lifecycle hook (run, resume, suspend, or terminate) is enabled."
            .to_owned());
    }
    if !spec.hooks.timeouts.is_empty() && spec.hooks.port.is_none() {
        return Err("hooks.port must be given when any hook is enabled".to_owned());
    }
    Ok(())
}

fn check_environment(spec: &ImageSpec, platform: &[(String, String)]) -> Result<(), String> {
    let reserved = |key: &str| {
        key.starts_with(RESERVED_PREFIX) || platform.iter().any(|(name, _)| name == key)
    };
    match spec.environment.iter().find(|(key, _)| reserved(key)) {
        Some((key, _)) => Err(format!("Environment variable key '{key}' is reserved")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::image_spec;

    fn refusal(change: impl FnOnce(&mut ImageSpec)) -> String {
        let mut spec = image_spec();
        change(&mut spec);
        check(&mut spec, &ControlConfig::new("/nowhere")).unwrap_err().to_string()
    }

    #[test]
    fn a_base_version_is_known_and_reads_back_in_its_full_form() {
        let mut spec = image_spec();
        spec.base_image_version = Some("1".to_owned());
        check(&mut spec, &ControlConfig::new("/nowhere")).unwrap();
        assert_eq!(spec.base_image_version.as_deref(), Some("1.0"));
        let said = refusal(|spec| spec.base_image_version = Some("999".to_owned()));
        assert!(said.ends_with("al2023-1 and version 999 is available"), "{said}");
    }

    #[test]
    fn an_artifact_is_an_object_in_s3() {
        for uri in ["https://x/y", "s3://bucket", "s3://bucket/", "s3:///key", "/etc/passwd"] {
            let said = refusal(|spec| spec.artifact_uri = uri.to_owned());
            assert!(said.starts_with("CodeArtifact URI must be a valid S3 URI"), "{uri}: {said}");
        }
    }

    #[test]
    fn a_processor_that_is_not_here_is_refused_by_name() {
        let said = refusal(|spec| spec.architectures = vec![Architecture::Arm64]);
        assert!(said.contains("ARM_64") && said.contains("it is X86_64"), "{said}");
    }
}
