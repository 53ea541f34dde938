//! Secrets: versions, stages, deletion, and what stands on the disk.

mod house;

use control::{
    ControlError, CreateSecret, PageRequest, PutSecret, STAGE_CURRENT, STAGE_PENDING,
    STAGE_PREVIOUS, SecretDeletion, SecretName, SecretSelector, SecretValue,
};
use house::House;
use std::{collections::BTreeMap, time::Duration};

fn text(value: &str) -> SecretValue {
    SecretValue::Text(value.to_owned())
}

fn create(name: &str, value: &str) -> CreateSecret {
    CreateSecret {
        name: SecretName::parse(name).unwrap(),
        description: None,
        value: Some(text(value)),
        version_id: Some("first".to_owned()),
        tags: BTreeMap::new(),
    }
}

fn put(name: &str, version_id: &str, value: &str, stages: &[&str]) -> PutSecret {
    PutSecret {
        secret: name.to_owned(),
        value: text(value),
        version_id: Some(version_id.to_owned()),
        stages: stages.iter().map(|stage| (*stage).to_owned()).collect(),
    }
}

fn stage(stage: &str) -> SecretSelector {
    SecretSelector { version_id: None, stage: Some(stage.to_owned()) }
}

async fn read(house: &House, which: SecretSelector) -> Option<SecretValue> {
    house.control.secrets().get("warren/key", which).await.ok().map(|opened| opened.value)
}

#[tokio::test]
async fn stages_move_with_each_new_version() {
    let house = House::empty().await;
    let secrets = house.control.secrets();
    let made = secrets.create(create("warren/key", "one")).await.unwrap();
    assert!(
        made.arn.starts_with("arn:aws:secretsmanager:us-east-1:000000000000:secret:warren/key-")
    );
    assert_eq!(made.stages, [STAGE_CURRENT]);
    secrets.put(put("warren/key", "second", "two", &[])).await.unwrap();
    assert_eq!(read(&house, SecretSelector::default()).await, Some(text("two")));
    assert_eq!(read(&house, stage(STAGE_PREVIOUS)).await, Some(text("one")));
    secrets.put(put(&made.arn, "third", "three", &[STAGE_PENDING])).await.unwrap();
    assert_eq!(read(&house, SecretSelector::default()).await, Some(text("two")));
    assert_eq!(read(&house, stage(STAGE_PENDING)).await, Some(text("three")));
    secrets.put(put("warren/key", "fourth", "four", &[STAGE_CURRENT])).await.unwrap();
    assert_eq!(read(&house, stage(STAGE_PREVIOUS)).await, Some(text("two")));
    let first = SecretSelector { version_id: Some("first".to_owned()), stage: None };
    assert_eq!(read(&house, first).await, None);
    let both = |version: &str, stage: &str| SecretSelector {
        version_id: Some(version.to_owned()),
        stage: Some(stage.to_owned()),
    };
    assert_eq!(read(&house, both("second", STAGE_PREVIOUS)).await, Some(text("two")));
    assert_eq!(read(&house, both("second", STAGE_CURRENT)).await, None);
}

#[tokio::test]
async fn a_repeated_request_is_no_second_version_and_another_value_is_refused() {
    let house = House::empty().await;
    let secrets = house.control.secrets();
    let first = secrets.create(create("warren/key", "one")).await.unwrap();
    assert_eq!(secrets.create(create("warren/key", "one")).await.unwrap(), first);
    let other = secrets.create(create("warren/key", "other")).await;
    assert!(matches!(other, Err(ControlError::SecretExists(_))));
    let again = secrets.put(put("warren/key", "first", "one", &[])).await.unwrap();
    assert_eq!(again, first);
    let other = secrets.put(put("warren/key", "first", "other", &[])).await;
    assert!(matches!(other, Err(ControlError::SecretVersionTaken)));
    let long = secrets.put(put("warren/key", "long", &"x".repeat(65_537), &[])).await;
    assert!(matches!(long, Err(ControlError::BadSecretRequest(_))));
}

#[tokio::test]
async fn a_deleted_secret_waits_and_is_then_gone() {
    let house = House::empty().await;
    let secrets = house.control.secrets();
    secrets.create(create("warren/key", "one")).await.unwrap();
    let week = Duration::from_secs(7 * 24 * 3600);
    secrets.delete("warren/key", SecretDeletion::After(week)).await.unwrap();
    let page = || PageRequest { items_max: 10, token: None };
    assert!(secrets.list(page()).await.unwrap().items.is_empty());
    let refused = secrets.get("warren/key", SecretSelector::default()).await;
    assert!(matches!(refused, Err(ControlError::SecretDeleted(_))));
    secrets.restore("warren/key").await.unwrap();
    assert_eq!(read(&house, SecretSelector::default()).await, Some(text("one")));
    secrets.delete("warren/key", SecretDeletion::After(week)).await.unwrap();
    house.clock.advance(week);
    secrets.create(create("warren/key", "anew")).await.unwrap();
    assert_eq!(read(&house, SecretSelector::default()).await, Some(text("anew")));
    secrets.delete("warren/key", SecretDeletion::Force).await.unwrap();
    let gone = secrets.describe("warren/key").await;
    assert!(matches!(gone, Err(ControlError::SecretNotFound(_))));
}

#[tokio::test]
async fn a_list_goes_on_where_its_page_ended() {
    let house = House::empty().await;
    let secrets = house.control.secrets();
    for name in ["c", "a", "b"] {
        secrets.create(create(name, "x")).await.unwrap();
    }
    let mut names = Vec::new();
    let mut token = None;
    loop {
        let page = secrets.list(PageRequest { items_max: 2, token }).await.unwrap();
        names.extend(page.items.into_iter().map(|secret| secret.name.to_string()));
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn no_file_of_the_data_directory_holds_a_value() {
    let house = House::empty().await;
    let value = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    house.control.secrets().create(create("warren/key", value)).await.unwrap();
    house.control.shutdown().await;
    for entry in std::fs::read_dir(house.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(value.len()).any(|window| window == value.as_bytes());
        assert!(!found, "{}", path.display());
    }
    let again = House::on(house.dir, house.engine, house.clock).await;
    assert_eq!(read(&again, SecretSelector::default()).await, Some(text(value)));
}
