//! DeleteObject and DeleteObjects.

use super::{
    call::{Call, empty, xml},
    conditions::{self, unquoted},
    error::S3Error,
    xml::{Element, Xml},
};
use axum::response::Response;
use http::StatusCode;
use objects::{BucketName, Condition, ObjectKey};

/// Most objects of one DeleteObjects.
const OBJECTS_MAX: usize = 1000;

pub(super) async fn one(call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.authorize_object("s3:DeleteObject", &bucket, &key)?;
    call.refuse_unavailable()?;
    let condition = conditions::of_write(&call)?;
    call.objects().delete(&bucket, &key, &condition).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn several(mut call: Call) -> Result<Response, S3Error> {
    let bucket = call.bucket()?;
    call.refuse_unavailable()?;
    let document = call.document().await?;
    let entries: Vec<&Element> = document.all("Object").collect();
    if document.name != "Delete" || entries.is_empty() || entries.len() > OBJECTS_MAX {
        return Err(S3Error::malformed_xml());
    }
    call.objects().require_bucket(&bucket).await?;
    let quiet = document.text_of("Quiet") == Some("true");
    let mut answer = Xml::new("DeleteResult");
    for entry in entries {
        // Not trimmed: a key may begin or end with space.
        let key = entry.child("Key").map(|key| key.text.as_str()).unwrap_or_default();
        match delete(&call, &bucket, key, entry).await {
            Ok(()) if quiet => {}
            Ok(()) => {
                answer.open("Deleted");
                answer.leaf("Key", key);
                answer.close();
            }
            Err(error) => {
                answer.open("Error");
                answer.leaf("Key", key);
                answer.leaf("Code", error.code);
                answer.leaf("Message", error.message);
                answer.close();
            }
        }
    }
    Ok(xml(answer))
}

async fn delete(
    call: &Call,
    bucket: &BucketName,
    key: &str,
    entry: &Element,
) -> Result<(), S3Error> {
    let key = ObjectKey::parse(key)?;
    call.authorize_object("s3:DeleteObject", bucket, &key)?;
    match entry.text_of("VersionId") {
        None | Some("" | "null") => {}
        Some(_) => {
            let message = "The specified version does not exist.";
            return Err(S3Error::new("NoSuchVersion", 404, message));
        }
    }
    let condition = entry.text_of("ETag").map(|etag| Condition::Etag(unquoted(etag).to_owned()));
    let condition = condition.unwrap_or_default();
    Ok(call.objects().delete(bucket, &key, &condition).await?)
}
