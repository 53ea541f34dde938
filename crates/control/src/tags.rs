//! Tags of what can have some: images and network connectors.

use crate::{ConnectorId, ControlError, ImageName, fleet::Fleet};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Most tags of one resource, as everywhere on AWS.
pub const TAGS_MAX: usize = 50;

/// What a tag is on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tagged {
    Image(ImageName),
    Connector(ConnectorId),
}

/// The tags of this Warren.
pub struct Tags {
    fleet: Arc<Fleet>,
}

impl Tags {
    pub(crate) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet }
    }

    /// None: there is no such resource.
    ///
    /// # Errors
    /// [`ControlError::Store`].
    pub async fn of(
        &self,
        what: &Tagged,
    ) -> Result<Option<BTreeMap<String, String>>, ControlError> {
        self.fleet.store.tags(what).await
    }

    /// Adds to what is there; a key that is there gets the new value. Answers false where there is
    /// no such resource.
    ///
    /// # Errors
    /// [`ControlError::TooManyTags`].
    pub async fn add(
        &self,
        what: &Tagged,
        more: BTreeMap<String, String>,
    ) -> Result<bool, ControlError> {
        self.fleet
            .store
            .change_tags(what, |tags| {
                tags.extend(more);
                if tags.len() > TAGS_MAX {
                    return Err(ControlError::TooManyTags { max: TAGS_MAX });
                }
                Ok(())
            })
            .await
    }

    /// Keys that are not there are passed over. Answers false where there is no such resource.
    ///
    /// # Errors
    /// [`ControlError::Store`].
    pub async fn remove(&self, what: &Tagged, keys: &[String]) -> Result<bool, ControlError> {
        self.fleet
            .store
            .change_tags(what, |tags| {
                tags.retain(|key, _| !keys.contains(key));
                Ok(())
            })
            .await
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tags").finish_non_exhaustive()
    }
}
