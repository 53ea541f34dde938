//! Images as files of this host: written, read, and what builds keep removed.
//!
//! The paths are this host's and the service is root on it: the operator's own rights suffice, and no
//! others are meant to have these actions.

use super::{BODY_BYTES_MAX, Service, answer::Refused, images::followed};
use crate::failure::with_causes;
use crate::protocol::{ImageBundle, PrunedImages};
use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use control::{ImageName, ImageVersion, PortableImage};
use image::{BundleError, Pruned, Pruning};
use std::{path::PathBuf, sync::Arc};

pub(super) async fn prune(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<PrunedImages>, Refused> {
    service.admit(request, "warren:PruneImages", BODY_BYTES_MAX).await?;
    let pruned = service.builder.prune(Pruning::Everything).await;
    let Pruned { disks, bytes } = pruned.map_err(|e| Refused::internal("pruning", &e))?;
    Ok(Json(PrunedImages { disks, bytes }))
}

pub(super) async fn export(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<ImageBundle>, Refused> {
    let asked = asked(&service, request, "warren:ExportImage").await?;
    let name = asked.name.as_deref().unwrap_or_default();
    let name = ImageName::parse(name).map_err(|e| Refused::bad_request(e.to_string()))?;
    let version = asked.version.as_deref().map(ImageVersion::parse).transpose();
    let version = version.map_err(|e| Refused::bad_request(e.to_string()))?;
    let exported = service.control.images().export(&name, version).await;
    let PortableImage { description, disk } = exported.map_err(|e| Refused::control(&e))?;
    let scratch = scratch(&service)?;
    let linked = service.builder.disk(&disk, scratch.path());
    let linked = linked.map_err(|e| Refused::internal("finding the disk", &e))?;
    let gone = || Refused::bad_request("the image's disk is not kept any more: build it again");
    let (linked, file) = (linked.ok_or_else(gone)?, asked.file.clone());
    blocking(move || image::pack(description.as_bytes(), &linked, &file)).await?;
    Ok(Json(asked))
}

/// Answers with the progress of the version that is made of it.
pub(super) async fn import(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Refused> {
    let ImageBundle { name, file, version: _ } =
        asked(&service, request, "warren:ImportImage").await?;
    let name = name.as_deref().map(ImageName::parse).transpose();
    let name = name.map_err(|e| Refused::bad_request(e.to_string()))?;
    let scratch = scratch(&service)?;
    let disk = scratch.path().join("disk");
    let target = disk.clone();
    let description = blocking(move || image::unpack(&file, &target)).await?;
    let description = String::from_utf8(description)
        .map_err(|_| Refused::bad_request("the image's description is no text"))?;
    let images = service.control.images();
    let digest = images.disk_of(&description).map_err(|e| Refused::control(&e))?;
    let adopted = service.builder.adopt_disk(&digest, disk).await;
    adopted.map_err(|e| Refused::internal("keeping the disk", &e))?;
    let started = images.import(name, &description).await.map_err(|e| Refused::control(&e))?;
    Ok(followed(&service, started))
}

async fn asked(service: &Service, request: Request, action: &str) -> Result<ImageBundle, Refused> {
    let (_, body) = service.admit(request, action, BODY_BYTES_MAX).await?;
    let asked: ImageBundle =
        serde_json::from_slice(&body).map_err(|e| Refused::bad_request(e.to_string()))?;
    if asked.file.is_absolute() {
        Ok(asked)
    } else {
        Err(Refused::bad_request(format!("{} is no absolute path", asked.file.display())))
    }
}

/// A directory on the file system of the disks.
fn scratch(service: &Service) -> Result<tempfile::TempDir, Refused> {
    let dir: PathBuf = service.settings.data_dir.join("images");
    tempfile::TempDir::new_in(dir).map_err(|e| Refused::internal("making a directory", &e))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BundleError> + Send + 'static,
) -> Result<T, Refused> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|e| Refused::bad_request(with_causes(&e))),
        Err(e) => Err(Refused::internal("working on the file", &e)),
    }
}
