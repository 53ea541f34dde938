//! What may be asked of images.

use crate::{
    Build, BuildId, ControlError, CreateImage, Image, ImageName, ImageVersion, ManagedImage, Page,
    PageRequest, StartedBuild, UpdateImage, Version, VersionStatus,
};
use std::fmt;

/// The images of this Warren.
pub struct Images {}

impl Images {
    /// Records the image and its version 1.0 and builds it in the background.
    ///
    /// # Errors
    /// [`ControlError::ImageExists`], [`ControlError::BadImageSpec`], [`ControlError::ClientTokenReused`].
    pub async fn create(&self, request: CreateImage) -> Result<StartedBuild, ControlError> {
        let _ = request;
        todo!()
    }

    /// Records the next version and builds it in the background.
    ///
    /// # Errors
    /// [`ControlError::ImageNotFound`], [`ControlError::ImageBusy`], and those of `create`.
    pub async fn update(&self, request: UpdateImage) -> Result<StartedBuild, ControlError> {
        let _ = request;
        todo!()
    }

    /// # Errors
    /// [`ControlError::ImageNotFound`].
    pub async fn get(&self, name: &ImageName) -> Result<Image, ControlError> {
        let _ = name;
        todo!()
    }

    /// By name. `name_filter` is a part of the name.
    ///
    /// # Errors
    /// [`ControlError::BadPageToken`].
    pub async fn list(
        &self,
        name_filter: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<Image>, ControlError> {
        let _ = (name_filter, page);
        todo!()
    }

    /// # Errors
    /// [`ControlError::VersionNotFound`].
    pub async fn version(
        &self,
        name: &ImageName,
        version: ImageVersion,
    ) -> Result<Version, ControlError> {
        let _ = (name, version);
        todo!()
    }

    /// Newest first.
    ///
    /// # Errors
    /// [`ControlError::ImageNotFound`], [`ControlError::BadPageToken`].
    pub async fn versions(
        &self,
        name: &ImageName,
        page: PageRequest,
    ) -> Result<Page<Version>, ControlError> {
        let _ = (name, page);
        todo!()
    }

    /// # Errors
    /// [`ControlError::VersionNotFound`], [`ControlError::ImageBusy`].
    pub async fn set_status(
        &self,
        name: &ImageName,
        version: ImageVersion,
        status: VersionStatus,
    ) -> Result<Version, ControlError> {
        let _ = (name, version, status);
        todo!()
    }

    /// # Errors
    /// [`ControlError::VersionNotFound`].
    pub async fn builds(
        &self,
        name: &ImageName,
        version: ImageVersion,
    ) -> Result<Vec<Build>, ControlError> {
        let _ = (name, version);
        todo!()
    }

    /// # Errors
    /// [`ControlError::BuildNotFound`].
    pub async fn build(
        &self,
        name: &ImageName,
        version: ImageVersion,
        id: &BuildId,
    ) -> Result<Build, ControlError> {
        let _ = (name, version, id);
        todo!()
    }

    /// Removes the image with all its versions. Of what is not there: nothing happens.
    ///
    /// # Errors
    /// [`ControlError::ImageNotDeletable`] while a build runs, [`ControlError::ImageInUse`].
    pub async fn delete(&self, name: &ImageName) -> Result<(), ControlError> {
        let _ = name;
        todo!()
    }

    /// # Errors
    /// [`ControlError::LastVersion`], [`ControlError::ImageInUse`], [`ControlError::ImageBusy`].
    pub async fn delete_version(
        &self,
        name: &ImageName,
        version: ImageVersion,
    ) -> Result<(), ControlError> {
        let _ = (name, version);
        todo!()
    }

    /// The base images that Warren provides.
    pub fn managed(&self) -> Vec<ManagedImage> {
        todo!()
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").finish_non_exhaustive()
    }
}
