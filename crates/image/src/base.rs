//! The base image: a lean Debian with the tools that agents reach for, made by mmdebstrap.
//!
//! Its recipe's digest is a label of the image, so that it is made again when the recipe changes
//! and only then.

use crate::{
    buildah::{Buildah, DockerBuild, ImageId, Layers},
    error::BuildError,
    progress::BuildStage,
    sandbox::{Net, Sandbox, make_room},
    tool::{Job, ToolError},
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fs, path::Path};

/// The base's name in a Dockerfile's FROM.
pub const BASE_NAME: &str = "localhost/warren/base:bookworm";

const SUITE: &str = "bookworm";
const RECIPE_LABEL: &str = "warren.base-recipe";

/// Beyond Debian's minbase. No compiler and no node: who needs one says so in a Dockerfile.
const PACKAGES: [&str; 15] = [
    "bash",
    "ca-certificates",
    "curl",
    "file",
    "git",
    "iproute2",
    "jq",
    "less",
    "make",
    "patch",
    "procps",
    "python3",
    "ripgrep",
    "unzip",
    "xz-utils",
];

/// Written into the image by mmdebstrap, so they hold for `apt-get install` in a Dockerfile as well.
const DPKG_OPTIONS: [&str; 5] = [
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/doc/*/copyright",
];
const APT_OPTIONS: [&str; 2] = ["Apt::Install-Recommends \"false\"", "Acquire::Languages \"none\""];

/// mmdebstrap copies these from the host.
const FORGET_HOST: &str =
    "rm -f \"$1\"/etc/hostname \"$1\"/etc/resolv.conf && : > \"$1\"/etc/machine-id";

const DOCKERFILE: &str = "FROM scratch
ADD base.tar /
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
";

/// Digest of everything that decides what the base is; hexadecimal.
pub(crate) fn recipe() -> String {
    let mut digest = Sha256::new();
    let parts = [SUITE, DOCKERFILE, FORGET_HOST];
    for part in parts.iter().chain(&PACKAGES).chain(&DPKG_OPTIONS).chain(&APT_OPTIONS) {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    hex::encode(digest.finalize())
}

/// Finds the base in the storage, or makes it. The caller holds the base's lock.
pub(crate) async fn ensure(buildah: &Buildah, job: &Job) -> Result<ImageId, BuildError> {
    let storage = buildah.storage();
    let recipe = recipe();
    let found = buildah.find(BASE_NAME, (RECIPE_LABEL, &recipe), job).await;
    let found =
        found.map_err(|error| BuildError::of_tool(error, storage.dir(), BuildError::Tool))?;
    if let Some(image) = found {
        return Ok(image);
    }
    job.reporter.stage(BuildStage::Base);
    let temp_dir = storage.temp_dir();
    let context = tempfile::tempdir_in(&temp_dir)
        .map_err(|source| BuildError::io("making a directory in", &temp_dir, source))?;
    make_room(context.path())?;
    let failed = |error| BuildError::of_tool(error, storage.dir(), BuildError::Base);
    let tar = context.path().join("base.tar");
    bootstrap(buildah.sandbox(), &tar, job).await.map_err(failed)?;
    let dockerfile = context.path().join("Dockerfile");
    fs::write(&dockerfile, format!("{DOCKERFILE}LABEL {RECIPE_LABEL}={recipe}\n"))
        .map_err(|source| BuildError::io("writing", &dockerfile, source))?;
    let build = DockerBuild {
        context: context.path(),
        images: &BTreeMap::new(),
        tag: Some(BASE_NAME),
        layers: Layers::Squeezed,
    };
    buildah.build(build, job).await.map_err(failed)
}

/// In the host's network, for its package mirrors.
async fn bootstrap(sandbox: &Sandbox, tar: &Path, job: &Job) -> Result<(), ToolError> {
    let mut tool = sandbox
        .tool(Net::Host, "mmdebstrap", "mmdebstrap", SUITE)
        .args(["--mode=root", "--variant=minbase", "--format=tar"])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(format!("--customize-hook={FORGET_HOST}"))
        .arg("--skip=output/dev")
        .env("TMPDIR", tar.parent().unwrap_or(tar));
    for option in DPKG_OPTIONS {
        tool = tool.arg(format!("--dpkgopt={option}"));
    }
    for option in APT_OPTIONS {
        tool = tool.arg(format!("--aptopt={option}"));
    }
    tool.arg(SUITE).arg(tar).run(job).await
}
