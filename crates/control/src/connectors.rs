//! What may be asked of network connectors.
//!
//! A change is recorded with the time at which it is done ([`CHANGE_TAKES`]), and every look at the
//! connectors first does what is due: no task runs, and a restart loses nothing.

use crate::{
    Connector, ConnectorId, ConnectorRef, ConnectorState, ConnectorVersion, ControlError,
    CreateConnector, Page, PageRequest, TAGS_MAX, Timestamp, UpdateConnector, UpdateStatus,
    VpcEgress,
    fleet::Fleet,
    store::{Claim, ConnectorDocument, NewConnector, NewConnectorVersion},
};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc, time::Duration};

/// From PENDING to ACTIVE, from DELETING to gone, and of an update. Minutes on AWS; long enough here
/// for a client to see the state that it must wait in there.
pub const CHANGE_TAKES: Duration = Duration::from_millis(200);

/// The network connectors of this Warren.
pub struct Connectors {
    fleet: Arc<Fleet>,
}

impl Connectors {
    pub(crate) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet }
    }

    /// Does what is due, and says when it did.
    async fn settled(&self) -> Result<Timestamp, ControlError> {
        let now = self.fleet.outside.clock.now();
        self.fleet.store.settle_connectors(now).await?;
        Ok(now)
    }

    /// Answers the connector in PENDING, also where the token is a repeated one.
    ///
    /// # Errors
    /// [`ControlError::ConnectorExists`], [`ControlError::Quota`],
    /// [`ControlError::ClientTokenReused`].
    pub async fn create(
        &self,
        request: CreateConnector,
    ) -> Result<(Connector, ConnectorVersion), ControlError> {
        if request.tags.len() > TAGS_MAX {
            return Err(ControlError::TooManyTags { max: TAGS_MAX });
        }
        let now = self.settled().await?;
        let fingerprint = fingerprint(&[
            request.name.as_str(),
            &document(&request.configuration),
            request.operator_role.as_str(),
            &format!("{:?}", request.tags),
        ]);
        let (operation, token) = ("CreateNetworkConnector", request.client_token);
        let new = NewConnector {
            id: ConnectorId::random(),
            name: request.name,
            tags: request.tags,
            version: NewConnectorVersion {
                configuration: request.configuration,
                operator_role: request.operator_role,
            },
            now,
            settles_at: now.plus(CHANGE_TAKES),
            connectors_max: self.fleet.config.quotas.connectors,
        };
        let claim = Claim { operation, token, fingerprint };
        let id = self.fleet.store.insert_connector(&new, &claim).await?;
        let connector = self.by_id(&id).await?;
        let first = self.version(&connector, 1).await?;
        Ok((Connector { state: ConnectorState::Pending, ..connector }, first))
    }

    /// Writes the next version, or none where nothing would change.
    ///
    /// # Errors
    /// [`ControlError::ConnectorNotFound`], [`ControlError::ConnectorBusy`],
    /// [`ControlError::ClientTokenReused`].
    pub async fn update(
        &self,
        request: UpdateConnector,
    ) -> Result<(Connector, ConnectorVersion), ControlError> {
        let now = self.settled().await?;
        let UpdateConnector { id, configuration, operator_role, client_token } = request;
        let fingerprint = fingerprint(&[
            id.as_str(),
            &configuration.as_ref().map(document).unwrap_or_default(),
            operator_role.as_ref().map(|role| role.as_str()).unwrap_or_default(),
        ]);
        let operation = "UpdateNetworkConnector";
        let claim = Claim { operation, token: client_token, fingerprint };
        let connector = self.by_id(&id).await?;
        let latest = self.version(&connector, connector.latest_version).await?;
        let next = NewConnectorVersion {
            configuration: configuration.unwrap_or_else(|| latest.configuration.clone()),
            operator_role: operator_role.unwrap_or_else(|| latest.operator_role.clone()),
        };
        let unchanged = next.configuration == latest.configuration
            && next.operator_role == latest.operator_role;
        let store = &self.fleet.store;
        let settles_at = now.plus(CHANGE_TAKES);
        let number = if unchanged {
            store.note_unchanged(&connector, &claim, now).await?
        } else {
            store.update_connector(&connector, &next, &claim, (now, settles_at)).await?
        };
        let connector = self.by_id(&id).await?;
        let version = self.version(&connector, number).await?;
        Ok((connector, version))
    }

    /// Of a connector that is being deleted: nothing more happens.
    ///
    /// # Errors
    /// [`ControlError::ConnectorNotFound`], [`ControlError::ConnectorBusy`].
    pub async fn delete(
        &self,
        id: &ConnectorId,
    ) -> Result<(Connector, ConnectorVersion), ControlError> {
        let now = self.settled().await?;
        let connector = self.by_id(id).await?;
        match (connector.state, connector.update_status) {
            (ConnectorState::Deleting, _) => {}
            (
                ConnectorState::Active
                | ConnectorState::Inactive
                | ConnectorState::Failed
                | ConnectorState::DeleteFailed,
                None | Some(UpdateStatus::Successful | UpdateStatus::Failed),
            ) => self.fleet.store.begin_deletion(id, now, now.plus(CHANGE_TAKES)).await?,
            (ConnectorState::Pending, _) | (_, Some(UpdateStatus::InProgress)) => {
                return Err(busy(&connector));
            }
        }
        let connector = self.by_id(id).await?;
        let latest = self.version(&connector, connector.latest_version).await?;
        Ok((connector, latest))
    }

    /// Removes one version that is not the newest.
    ///
    /// # Errors
    /// [`ControlError::ConnectorNotFound`], [`ControlError::ConnectorLatestVersion`].
    pub async fn delete_version(
        &self,
        id: &ConnectorId,
        number: u32,
    ) -> Result<(Connector, ConnectorVersion), ControlError> {
        self.settled().await?;
        let connector = self.by_id(id).await?;
        let version = self.version(&connector, number).await?;
        if number == connector.latest_version {
            return Err(ControlError::ConnectorLatestVersion { id: id.clone(), version: number });
        }
        self.fleet.store.remove_connector_version(id, number).await?;
        Ok((Connector { state: ConnectorState::Deleting, ..connector }, version))
    }

    /// # Errors
    /// [`ControlError::ConnectorNotFound`].
    pub async fn get(&self, which: &ConnectorRef) -> Result<Connector, ControlError> {
        self.settled().await?;
        self.find(which).await
    }

    /// # Errors
    /// [`ControlError::ConnectorNotFound`].
    pub async fn version(
        &self,
        connector: &Connector,
        number: u32,
    ) -> Result<ConnectorVersion, ControlError> {
        let found = self.fleet.store.connector_version(&connector.id, number).await?;
        found.ok_or_else(|| ControlError::ConnectorNotFound(format!("{}:{number}", connector.id)))
    }

    /// Oldest first.
    ///
    /// # Errors
    /// [`ControlError::BadPageToken`].
    pub async fn list(
        &self,
        state: Option<ConnectorState>,
        page: PageRequest,
    ) -> Result<Page<Connector>, ControlError> {
        self.settled().await?;
        self.fleet.store.list_connectors(state, &page).await
    }

    /// Newest first.
    ///
    /// # Errors
    /// [`ControlError::BadPageToken`].
    pub async fn versions(
        &self,
        connector: &Connector,
        page: PageRequest,
    ) -> Result<Page<ConnectorVersion>, ControlError> {
        self.fleet.store.connector_versions(&connector.id, &page).await
    }

    async fn by_id(&self, id: &ConnectorId) -> Result<Connector, ControlError> {
        self.find(&ConnectorRef::Id(id.clone())).await
    }

    async fn find(&self, which: &ConnectorRef) -> Result<Connector, ControlError> {
        let found = self.fleet.store.connector(which).await?;
        found.ok_or_else(|| {
            ControlError::ConnectorNotFound(match which {
                ConnectorRef::Id(id) => id.to_string(),
                ConnectorRef::Name(name) => name.to_string(),
            })
        })
    }
}

fn busy(connector: &Connector) -> ControlError {
    ControlError::ConnectorBusy { id: connector.id.clone(), state: connector.state }
}

fn document(configuration: &VpcEgress) -> String {
    let document = serde_json::to_string(&ConnectorDocument::of(configuration));
    document.expect("the document has string keys and no failing parts")
}

fn fingerprint(parts: &[&str]) -> String {
    hex::encode(Sha256::digest(parts.join("\n")))
}

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connectors").finish_non_exhaustive()
    }
}
