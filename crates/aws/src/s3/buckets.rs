//! Buckets: list, make, look, remove.

use super::{
    call::{Call, empty, iso, set, xml},
    error::S3Error,
    xml::{Element, Xml},
};
use axum::response::Response;
use http::StatusCode;

/// Where buckets of this region have no location constraint.
const FIRST_REGION: &str = "us-east-1";

pub(super) async fn list(call: Call) -> Result<Response, S3Error> {
    call.authorize("s3:ListAllMyBuckets", "arn:aws:s3:::*")?;
    let prefix = call.query("prefix").unwrap_or_default();
    let after = call.query("continuation-token").unwrap_or_default();
    let max = call.number("max-buckets", 10_000)?.max(1);
    let buckets = call.objects().buckets().await?;
    let mut fitting = buckets
        .iter()
        .filter(|bucket| bucket.name.as_str().starts_with(prefix) && bucket.name.as_str() > after);
    let mut answer = Xml::new("ListAllMyBucketsResult");
    answer.open("Owner");
    answer.leaf("ID", call.account());
    answer.close();
    answer.open("Buckets");
    let mut last = None;
    for bucket in fitting.by_ref().take(max) {
        answer.open("Bucket");
        answer.leaf("Name", &bucket.name);
        answer.leaf("CreationDate", iso(bucket.created_at));
        answer.leaf("BucketRegion", call.region());
        answer.close();
        last = Some(&bucket.name);
    }
    answer.close();
    if fitting.next().is_some() {
        answer.leaf_of("ContinuationToken", last);
    }
    if !prefix.is_empty() {
        answer.leaf("Prefix", prefix);
    }
    Ok(xml(answer))
}

pub(super) async fn create(mut call: Call) -> Result<Response, S3Error> {
    let bucket = call.bucket()?;
    call.authorize_bucket("s3:CreateBucket", &bucket)?;
    call.refuse_unavailable()?;
    let document = call.document_bytes().await?;
    if !document.is_empty() {
        let configuration = Element::parse(&document).ok_or_else(S3Error::malformed_xml)?;
        let asked = configuration.text_of("LocationConstraint").unwrap_or_default();
        if !asked.is_empty() && asked != call.region() {
            let message = format!(
                "The {asked} location constraint is incompatible for the region specific endpoint \
                 this request was sent to."
            );
            return Err(S3Error::new("IllegalLocationConstraintException", 400, message));
        }
    }
    match call.objects().create_bucket(&bucket).await {
        // In the first region, AWS answers a repetition as it did the first time.
        Err(objects::ObjectsError::BucketExists(_)) if call.region() == FIRST_REGION => {}
        other => other?,
    }
    let mut response = empty(StatusCode::OK);
    set(&mut response, "location", &format!("/{bucket}"));
    Ok(response)
}

pub(super) async fn head(call: Call) -> Result<Response, S3Error> {
    let bucket = call.bucket()?;
    call.authorize_bucket("s3:ListBucket", &bucket)?;
    call.objects().require_bucket(&bucket).await?;
    let mut response = empty(StatusCode::OK);
    set(&mut response, "x-amz-bucket-region", call.region());
    set(&mut response, "x-amz-access-point-alias", "false");
    Ok(response)
}

pub(super) async fn delete(call: Call) -> Result<Response, S3Error> {
    let bucket = call.bucket()?;
    call.authorize_bucket("s3:DeleteBucket", &bucket)?;
    call.objects().delete_bucket(&bucket).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn location(call: Call) -> Result<Response, S3Error> {
    let bucket = call.bucket()?;
    call.authorize_bucket("s3:GetBucketLocation", &bucket)?;
    call.objects().require_bucket(&bucket).await?;
    let mut answer = Xml::new("LocationConstraint");
    if call.region() != FIRST_REGION {
        answer.text(call.region());
    }
    Ok(xml(answer))
}

/// A bucket that never had versions says nothing of them.
pub(super) async fn versioning(call: Call) -> Result<Response, S3Error> {
    let bucket = call.bucket()?;
    call.authorize_bucket("s3:GetBucketVersioning", &bucket)?;
    call.objects().require_bucket(&bucket).await?;
    Ok(xml(Xml::new("VersioningConfiguration")))
}
