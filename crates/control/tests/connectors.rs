//! Network connectors and tags on a clock that is moved by hand.

mod house;

use control::{
    CHANGE_TAKES, ClientToken, ComputeResource, Connector, ConnectorName, ConnectorRef,
    ConnectorState, ControlConfig, ControlError, CreateConnector, NetworkProtocol, PageRequest,
    Quotas, RoleArn, Tagged, UpdateConnector, UpdateStatus, VpcEgress,
};
use house::House;
use std::collections::BTreeMap;

fn egress(subnet: &str) -> VpcEgress {
    VpcEgress {
        subnets: vec![subnet.to_owned()],
        security_groups: None,
        protocol: NetworkProtocol::Ipv4,
        compute: ComputeResource::MicroVm,
        elastic_ip: None,
    }
}

fn request(name: &str, token: &str) -> CreateConnector {
    CreateConnector {
        name: ConnectorName::parse(name).unwrap(),
        configuration: egress("subnet-1"),
        operator_role: RoleArn::parse("arn:aws:iam::000000000000:role/operator").unwrap(),
        tags: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
        client_token: ClientToken::parse(token).unwrap(),
    }
}

fn change(connector: &Connector, subnet: &str, token: &str) -> UpdateConnector {
    UpdateConnector {
        id: connector.id.clone(),
        configuration: Some(egress(subnet)),
        operator_role: None,
        client_token: ClientToken::parse(token).unwrap(),
    }
}

async fn active(house: &House, name: &str) -> Connector {
    house.control.connectors().create(request(name, name)).await.unwrap();
    house.clock.advance(CHANGE_TAKES);
    let name = ConnectorName::parse(name).unwrap();
    let connector = house.control.connectors().get(&ConnectorRef::Name(name)).await.unwrap();
    assert_eq!(connector.state, ConnectorState::Active);
    connector
}

#[tokio::test]
async fn a_connector_is_pending_then_active_then_deleting_then_gone() {
    let house = House::empty().await;
    let (created, first) = house.control.connectors().create(request("net", "t")).await.unwrap();
    assert_eq!((created.state, first.version), (ConnectorState::Pending, 1));
    assert!(matches!(
        house.control.connectors().delete(&created.id).await,
        Err(ControlError::ConnectorBusy { .. })
    ));
    let house = house.reopened().await;
    house.clock.advance(CHANGE_TAKES);
    let by_id = ConnectorRef::Id(created.id.clone());
    let connectors = house.control.connectors();
    assert_eq!(connectors.get(&by_id).await.unwrap().state, ConnectorState::Active);

    assert_eq!(connectors.delete(&created.id).await.unwrap().0.state, ConnectorState::Deleting);
    assert_eq!(connectors.delete(&created.id).await.unwrap().0.state, ConnectorState::Deleting);
    let reserved = connectors.create(request("net", "u")).await;
    assert!(matches!(reserved, Err(ControlError::ConnectorExists(_))), "{reserved:?}");
    house.clock.advance(CHANGE_TAKES);
    let gone = connectors.get(&by_id).await;
    assert!(matches!(gone, Err(ControlError::ConnectorNotFound(_))), "{gone:?}");
    // Its tokens went with it.
    connectors.create(request("net", "t")).await.unwrap();
}

#[tokio::test]
async fn a_repeated_creation_gives_the_first_answer_after_a_restart_too() {
    let house = House::empty().await;
    let first = house.control.connectors().create(request("net", "t")).await.unwrap();
    let house = house.reopened().await;
    house.clock.advance(CHANGE_TAKES);
    let again = house.control.connectors().create(request("net", "t")).await.unwrap();
    assert_eq!(again, first);
    let other = house.control.connectors().create(request("other", "t")).await;
    assert!(matches!(other, Err(ControlError::ClientTokenReused)), "{other:?}");
}

#[tokio::test]
async fn an_update_is_a_version_and_one_that_changes_nothing_is_none() {
    let house = House::empty().await;
    let connector = active(&house, "net").await;
    let connectors = house.control.connectors();
    let (updated, second) = connectors.update(change(&connector, "subnet-2", "u")).await.unwrap();
    assert_eq!((updated.state, second.version), (ConnectorState::Active, 2));
    assert_eq!(updated.update_status, Some(UpdateStatus::InProgress));
    let busy = connectors.update(change(&connector, "subnet-3", "v")).await;
    assert!(matches!(busy, Err(ControlError::ConnectorBusy { .. })), "{busy:?}");
    house.clock.advance(CHANGE_TAKES);
    let (same, version) = connectors.update(change(&connector, "subnet-2", "w")).await.unwrap();
    assert_eq!((same.latest_version, version.version), (2, 2));
    assert_eq!(same.update_reason.as_deref(), Some("No configuration changes detected"));
    assert_eq!(connectors.version(&same, 1).await.unwrap().configuration, egress("subnet-1"));
    // The token's own answer, though the newest is another.
    let (_, again) = connectors.update(change(&connector, "subnet-2", "u")).await.unwrap();
    assert_eq!(again.version, 2);

    let latest = connectors.delete_version(&connector.id, 2).await;
    assert!(matches!(latest, Err(ControlError::ConnectorLatestVersion { .. })), "{latest:?}");
    connectors.delete_version(&connector.id, 1).await.unwrap();
    let page = PageRequest { items_max: 10, token: None };
    let left = connectors.versions(&same, page).await.unwrap().items;
    assert_eq!(left.iter().map(|v| v.version).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn pages_of_connectors_do_not_shift() {
    let house = House::empty().await;
    for name in ["a", "b", "c"] {
        active(&house, name).await;
    }
    let connectors = house.control.connectors();
    let page = |token| PageRequest { items_max: 2, token };
    let first = connectors.list(None, page(None)).await.unwrap();
    let doomed = first.items[0].id.clone();
    connectors.delete(&doomed).await.unwrap();
    house.clock.advance(CHANGE_TAKES);
    let second = connectors.list(None, page(first.next_token)).await.unwrap();
    let names: Vec<&str> = second.items.iter().map(|c| c.name.as_str()).collect();
    assert_eq!((names, second.next_token), (vec!["c"], None));
    let pending = connectors.list(Some(ConnectorState::Pending), page(None)).await.unwrap();
    assert!(pending.items.is_empty());
}

#[tokio::test]
async fn there_are_no_more_connectors_than_the_quota_says() {
    let dir = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let quotas = Quotas { connectors: Some(1), ..Quotas::default() };
    let config = ControlConfig { quotas, ..ControlConfig::new(dir.path()) };
    let engine = std::sync::Arc::new(control::testing::FakeEngine::new());
    let house = House::configured(dir, engine, Default::default(), config).await;
    house.control.connectors().create(request("a", "a")).await.unwrap();
    let second = house.control.connectors().create(request("b", "b")).await;
    assert!(matches!(second, Err(ControlError::Quota { max: 1, .. })), "{second:?}");
}

#[tokio::test]
async fn tags_merge_and_go_and_stay_within_their_number() {
    let house = House::open().await;
    let connector = active(&house, "net").await;
    let tags = house.control.tags();
    let more = |n: usize| (0..n).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    for what in [Tagged::Image(house::image()), Tagged::Connector(connector.id)] {
        let mut expected: BTreeMap<String, String> = tags.of(&what).await.unwrap().unwrap();
        assert!(tags.add(&what, more(2)).await.unwrap());
        expected.extend(more(2));
        assert_eq!(tags.of(&what).await.unwrap().unwrap(), expected);
        assert!(tags.remove(&what, &["k0".to_owned(), "absent".to_owned()]).await.unwrap());
        expected.remove("k0");
        assert_eq!(tags.of(&what).await.unwrap().unwrap(), expected);
        let too_many = tags.add(&what, more(51)).await;
        assert!(matches!(too_many, Err(ControlError::TooManyTags { .. })), "{too_many:?}");
        assert_eq!(tags.of(&what).await.unwrap().unwrap(), expected);
    }
    let absent = Tagged::Image(control::ImageName::parse("absent").unwrap());
    assert!(!tags.add(&absent, more(1)).await.unwrap());
}
