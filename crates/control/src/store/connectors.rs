//! Rows of network connectors and their versions.

use super::{
    Claim, Store, at, corrupt, cut_page, doing, from_json, page_start, quota, stored_id, to_json,
    variant,
};
use crate::{
    ComputeResource, Connector, ConnectorId, ConnectorName, ConnectorRef, ConnectorState,
    ConnectorVersion, ControlError, ElasticIp, NetworkProtocol, Page, PageRequest, RoleArn,
    Timestamp, UpdateStatus, VpcEgress,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use std::collections::BTreeMap;

/// A connector that is to be written.
#[derive(Clone, Debug)]
pub(crate) struct NewConnector {
    pub(crate) id: ConnectorId,
    pub(crate) name: ConnectorName,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) version: NewConnectorVersion,
    pub(crate) now: Timestamp,
    pub(crate) settles_at: Timestamp,
    /// The most that there may be.
    pub(crate) connectors_max: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct NewConnectorVersion {
    pub(crate) configuration: VpcEgress,
    pub(crate) operator_role: RoleArn,
}

/// A [`VpcEgress`], for the column and for the fingerprint of a request.
#[derive(Serialize, Deserialize)]
pub(crate) struct ConnectorDocument {
    subnets: Vec<String>,
    security_groups: Option<Vec<String>>,
    protocol: String,
    compute: String,
    elastic_ip: Option<String>,
}

impl ConnectorDocument {
    pub(crate) fn of(configuration: &VpcEgress) -> Self {
        let VpcEgress { subnets, security_groups, protocol, compute, elastic_ip } = configuration;
        Self {
            subnets: subnets.clone(),
            security_groups: security_groups.clone(),
            protocol: protocol.as_str().to_owned(),
            compute: compute.as_str().to_owned(),
            elastic_ip: elastic_ip.map(|ip| ip.as_str().to_owned()),
        }
    }

    fn read(self) -> Result<VpcEgress, ControlError> {
        let elastic_ip = self.elastic_ip.as_deref();
        Ok(VpcEgress {
            subnets: self.subnets,
            security_groups: self.security_groups,
            protocol: variant(
                "a network protocol",
                NetworkProtocol::ALL,
                NetworkProtocol::as_str,
                &self.protocol,
            )?,
            compute: variant(
                "a compute resource",
                ComputeResource::ALL,
                ComputeResource::as_str,
                &self.compute,
            )?,
            elastic_ip: elastic_ip
                .map(|ip| variant("an elastic IP", ElasticIp::ALL, ElasticIp::as_str, ip))
                .transpose()?,
        })
    }
}

impl Store {
    /// Ends every change that is due.
    pub(crate) async fn settle_connectors(&self, now: Timestamp) -> Result<(), ControlError> {
        let failed = doing("settling network connectors");
        // Most of the time nothing is under way, and a look costs less than the writer.
        let due: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM connectors WHERE settles_at <= $1
             AND (state IN ('PENDING', 'DELETING') OR update_status = 'InProgress')",
        )
        .bind(now.ms())
        .fetch_one(&self.state.readers)
        .await
        .map_err(&failed)?;
        if due == 0 {
            return Ok(());
        }
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        for statement in [
            "DELETE FROM client_tokens WHERE EXISTS
             (SELECT 1 FROM connectors WHERE state = 'DELETING' AND settles_at <= $1
              AND substr(resource, 1, length(id) + 10) = 'connector:' || id)",
            "DELETE FROM connector_versions WHERE connector IN
             (SELECT id FROM connectors WHERE state = 'DELETING' AND settles_at <= $1)",
            "DELETE FROM connectors WHERE state = 'DELETING' AND settles_at <= $1",
            "UPDATE connectors SET state = 'ACTIVE' WHERE state = 'PENDING' AND settles_at <= $1",
            "UPDATE connectors SET update_status = 'Successful'
             WHERE update_status = 'InProgress' AND settles_at <= $1",
        ] {
            sqlx::query(statement).bind(now.ms()).execute(&mut *tx).await.map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)
    }

    /// The id of the new connector, or of the one that an equal request made.
    ///
    /// # Errors
    /// [`ControlError::ConnectorExists`], [`ControlError::Quota`],
    /// [`ControlError::ClientTokenReused`].
    pub(crate) async fn insert_connector(
        &self,
        new: &NewConnector,
        claim: &Claim,
    ) -> Result<ConnectorId, ControlError> {
        let failed = doing("writing a network connector");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        if let Some(earlier) = claim.earlier(&mut tx).await? {
            let id = earlier.strip_prefix("connector:").unwrap_or_default();
            return stored_id("the connector of a client token", ConnectorId::parse(id));
        }
        let (all, named): (i64, i64) = sqlx::query_as(
            "SELECT count(*), coalesce(sum(CASE WHEN name = $1 THEN 1 ELSE 0 END), 0)
             FROM connectors",
        )
        .bind(new.name.as_str())
        .fetch_one(&mut *tx)
        .await
        .map_err(&failed)?;
        if named > 0 {
            return Err(ControlError::ConnectorExists(new.name.clone()));
        }
        quota("network connectors", all, new.connectors_max)?;
        sqlx::query(
            "INSERT INTO connectors (id, name, state, tags, version, settles_at, created_at,
             modified_at) VALUES ($1, $2, $3, $4, 1, $5, $6, $6)",
        )
        .bind(new.id.as_str())
        .bind(new.name.as_str())
        .bind(ConnectorState::Pending.as_str())
        .bind(to_json(&new.tags))
        .bind(new.settles_at.ms())
        .bind(new.now.ms())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        insert_version(&mut tx, &new.id, 1, (&new.version, new.now)).await?;
        claim.record(&mut tx, &resource(&new.id)).await?;
        tx.commit().await.map_err(&failed)?;
        Ok(new.id.clone())
    }

    /// Writes the version after `connector`'s newest. Answers its number, or that of the version
    /// that an equal request made.
    ///
    /// # Errors
    /// [`ControlError::ConnectorBusy`], [`ControlError::ClientTokenReused`].
    pub(crate) async fn update_connector(
        &self,
        connector: &Connector,
        next: &NewConnectorVersion,
        claim: &Claim,
        (now, settles_at): (Timestamp, Timestamp),
    ) -> Result<u32, ControlError> {
        let failed = doing("writing a network connector");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        if let Some(earlier) = earlier_update(&mut tx, claim).await? {
            return Ok(earlier);
        }
        let number = connector.latest_version + 1;
        let done = sqlx::query(
            "UPDATE connectors SET version = $2, update_status = 'InProgress',
             update_reason = NULL, settles_at = $3, modified_at = $4
             WHERE id = $1 AND state = 'ACTIVE' AND version = $5
             AND coalesce(update_status, '') <> 'InProgress'",
        )
        .bind(connector.id.as_str())
        .bind(i64::from(number))
        .bind(settles_at.ms())
        .bind(now.ms())
        .bind(i64::from(connector.latest_version))
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        if done.rows_affected() == 0 {
            let (id, state) = (connector.id.clone(), connector.state);
            return Err(ControlError::ConnectorBusy { id, state });
        }
        insert_version(&mut tx, &connector.id, number, (next, now)).await?;
        claim.record(&mut tx, &format!("{}:{number}", resource(&connector.id))).await?;
        tx.commit().await.map_err(&failed)?;
        Ok(number)
    }

    /// Records that an update changed nothing; the number stays.
    ///
    /// # Errors
    /// As [`Store::update_connector`].
    pub(crate) async fn note_unchanged(
        &self,
        connector: &Connector,
        claim: &Claim,
        now: Timestamp,
    ) -> Result<u32, ControlError> {
        let failed = doing("writing a network connector");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        if let Some(earlier) = earlier_update(&mut tx, claim).await? {
            return Ok(earlier);
        }
        let done = sqlx::query(
            "UPDATE connectors SET update_status = 'Successful', update_reason = $2,
             modified_at = $3 WHERE id = $1 AND state = 'ACTIVE'
             AND coalesce(update_status, '') <> 'InProgress'",
        )
        .bind(connector.id.as_str())
        .bind("No configuration changes detected")
        .bind(now.ms())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        if done.rows_affected() == 0 {
            let (id, state) = (connector.id.clone(), connector.state);
            return Err(ControlError::ConnectorBusy { id, state });
        }
        let number = connector.latest_version;
        claim.record(&mut tx, &format!("{}:{number}", resource(&connector.id))).await?;
        tx.commit().await.map_err(&failed)?;
        Ok(number)
    }

    pub(crate) async fn begin_deletion(
        &self,
        id: &ConnectorId,
        now: Timestamp,
        settles_at: Timestamp,
    ) -> Result<(), ControlError> {
        sqlx::query(
            "UPDATE connectors SET state = 'DELETING', settles_at = $2, modified_at = $3
             WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(settles_at.ms())
        .bind(now.ms())
        .execute(&self.state.writer)
        .await
        .map_err(doing("removing a network connector"))?;
        Ok(())
    }

    pub(crate) async fn remove_connector_version(
        &self,
        id: &ConnectorId,
        number: u32,
    ) -> Result<(), ControlError> {
        sqlx::query("DELETE FROM connector_versions WHERE connector = $1 AND version = $2")
            .bind(id.as_str())
            .bind(i64::from(number))
            .execute(&self.state.writer)
            .await
            .map_err(doing("removing a network connector's version"))?;
        Ok(())
    }

    pub(crate) async fn connector(
        &self,
        which: &ConnectorRef,
    ) -> Result<Option<Connector>, ControlError> {
        let (id, name) = match which {
            ConnectorRef::Id(id) => (id.as_str(), ""),
            ConnectorRef::Name(name) => ("", name.as_str()),
        };
        let row = sqlx::query("SELECT * FROM connectors WHERE id = $1 OR name = $2")
            .bind(id)
            .bind(name)
            .fetch_optional(&self.state.readers)
            .await
            .map_err(doing("reading a network connector"))?;
        row.as_ref().map(read_connector).transpose()
    }

    pub(crate) async fn list_connectors(
        &self,
        state: Option<ConnectorState>,
        page: &PageRequest,
    ) -> Result<Page<Connector>, ControlError> {
        let (start, limit) = page_start::<(i64, String)>(page)?;
        let (from_at, from_id) = start.unwrap_or((i64::MIN, String::new()));
        let failed = doing("listing network connectors");
        let rows = sqlx::query(
            "SELECT * FROM connectors
             WHERE (created_at > $1 OR (created_at = $1 AND id > $2)) AND ($3 = '' OR state = $3)
             ORDER BY created_at, id LIMIT $4",
        )
        .bind(from_at)
        .bind(from_id)
        .bind(state.map_or("", ConnectorState::as_str))
        .bind(limit)
        .fetch_all(&self.state.readers)
        .await
        .map_err(&failed)?;
        let read = |row: &SqliteRow| {
            let created_at: i64 = row.try_get("created_at").map_err(&failed)?;
            Ok((created_at, read_connector(row)?))
        };
        let items = rows.iter().map(read).collect::<Result<Vec<_>, ControlError>>()?;
        let page = cut_page(items, page, |(created_at, c)| (*created_at, c.id.to_string()));
        let items = page.items.into_iter().map(|(_, connector)| connector).collect();
        Ok(Page { items, next_token: page.next_token })
    }

    pub(crate) async fn connector_version(
        &self,
        id: &ConnectorId,
        number: u32,
    ) -> Result<Option<ConnectorVersion>, ControlError> {
        let row =
            sqlx::query("SELECT * FROM connector_versions WHERE connector = $1 AND version = $2")
                .bind(id.as_str())
                .bind(i64::from(number))
                .fetch_optional(&self.state.readers)
                .await
                .map_err(doing("reading a network connector's version"))?;
        row.as_ref().map(read_version).transpose()
    }

    pub(crate) async fn connector_versions(
        &self,
        id: &ConnectorId,
        page: &PageRequest,
    ) -> Result<Page<ConnectorVersion>, ControlError> {
        let (start, limit) = page_start::<u32>(page)?;
        let rows = sqlx::query(
            "SELECT * FROM connector_versions WHERE connector = $1 AND version < $2
             ORDER BY version DESC LIMIT $3",
        )
        .bind(id.as_str())
        .bind(start.map_or(i64::MAX, i64::from))
        .bind(limit)
        .fetch_all(&self.state.readers)
        .await
        .map_err(doing("listing a network connector's versions"))?;
        let items = rows.iter().map(read_version).collect::<Result<Vec<_>, _>>()?;
        Ok(cut_page(items, page, |version| version.version))
    }
}

/// What a client token of a connector points at.
fn resource(id: &ConnectorId) -> String {
    format!("connector:{id}")
}

async fn earlier_update(
    tx: &mut sqlx::Transaction<'_, sqlx::Sqlite>,
    claim: &Claim,
) -> Result<Option<u32>, ControlError> {
    let Some(earlier) = claim.earlier(tx).await? else { return Ok(None) };
    let number = earlier.rsplit(':').next().unwrap_or_default();
    number.parse().map(Some).map_err(|_| corrupt("a client token's version", &earlier))
}

async fn insert_version(
    connection: &mut SqliteConnection,
    id: &ConnectorId,
    number: u32,
    (version, now): (&NewConnectorVersion, Timestamp),
) -> Result<(), ControlError> {
    sqlx::query(
        "INSERT INTO connector_versions (connector, version, configuration, operator_role,
         created_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id.as_str())
    .bind(i64::from(number))
    .bind(to_json(&ConnectorDocument::of(&version.configuration)))
    .bind(version.operator_role.as_str())
    .bind(now.ms())
    .execute(connection)
    .await
    .map_err(doing("writing a network connector's version"))?;
    Ok(())
}

fn stored_number(value: i64) -> Result<u32, ControlError> {
    u32::try_from(value).map_err(|_| corrupt("a network connector's version", value))
}

fn read_connector(row: &SqliteRow) -> Result<Connector, ControlError> {
    let failed = doing("reading a network connector");
    let text = |column: &'static str| row.try_get::<&str, _>(column).map_err(&failed);
    let state = text("state")?;
    let status: Option<&str> = row.try_get("update_status").map_err(&failed)?;
    Ok(Connector {
        id: stored_id("a connector's id", ConnectorId::parse(text("id")?))?,
        name: stored_id("a connector's name", ConnectorName::parse(text("name")?))?,
        state: variant("a state", ConnectorState::ALL, ConnectorState::as_str, state)?,
        update_status: status
            .map(|s| variant("an update's status", UpdateStatus::ALL, UpdateStatus::as_str, s))
            .transpose()?,
        update_reason: row.try_get("update_reason").map_err(&failed)?,
        latest_version: stored_number(row.try_get("version").map_err(&failed)?)?,
        tags: from_json("tags", text("tags")?)?,
        modified_at: at(row.try_get("modified_at").map_err(&failed)?),
    })
}

fn read_version(row: &SqliteRow) -> Result<ConnectorVersion, ControlError> {
    let failed = doing("reading a network connector's version");
    let text = |column: &'static str| row.try_get::<&str, _>(column).map_err(&failed);
    let document: ConnectorDocument = from_json("a configuration", text("configuration")?)?;
    Ok(ConnectorVersion {
        version: stored_number(row.try_get("version").map_err(&failed)?)?,
        configuration: document.read()?,
        operator_role: stored_id("a role", RoleArn::parse(text("operator_role")?))?,
        created_at: at(row.try_get("created_at").map_err(&failed)?),
    })
}
