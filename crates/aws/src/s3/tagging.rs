//! Tags of an object.

use super::{
    call::{Call, empty, xml},
    error::S3Error,
    get_object::readable,
    object_traits,
    xml::Xml,
};
use axum::response::Response;
use http::StatusCode;
use std::collections::BTreeMap;

pub(super) async fn get(call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.refuse_unavailable()?;
    let object = readable(&call, "s3:GetObjectTagging", &bucket, &key).await?;
    let mut answer = Xml::new("Tagging");
    answer.open("TagSet");
    for (name, value) in &object.traits.tags {
        answer.open("Tag");
        answer.leaf("Key", name);
        answer.leaf("Value", value);
        answer.close();
    }
    Ok(xml(answer))
}

pub(super) async fn put(mut call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.refuse_unavailable()?;
    readable(&call, "s3:PutObjectTagging", &bucket, &key).await?;
    let document = call.document().await?;
    let set = document.child("TagSet").ok_or_else(S3Error::malformed_xml)?;
    let pairs = set.all("Tag").map(|tag| {
        let text = |name| tag.text_of(name).unwrap_or_default().to_owned();
        (text("Key"), text("Value"))
    });
    let tags = object_traits::tags(pairs)?;
    call.objects().set_tags(&bucket, &key, tags).await?;
    Ok(empty(StatusCode::OK))
}

pub(super) async fn delete(call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.refuse_unavailable()?;
    readable(&call, "s3:DeleteObjectTagging", &bucket, &key).await?;
    call.objects().set_tags(&bucket, &key, BTreeMap::new()).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
