//! CopyObject and UploadPartCopy: bytes that are here already.

use super::{
    call::{Call, iso, xml},
    conditions::{self, OF_COPY_SOURCE, Verdict, judge},
    error::S3Error,
    get_object::{checksum_leaf, readable},
    multipart, object_traits,
    put_object::algorithm_named,
    xml::Xml,
};
use axum::response::Response;
use objects::{BucketName, Checksum, CopySource, Object, ObjectKey, PUT_BYTES_MAX, Traits};
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;

/// The object that `x-amz-copy-source` names, once the caller may read it and its conditions hold.
async fn source(call: &Call) -> Result<(BucketName, Object), S3Error> {
    let text = call.header("x-amz-copy-source").unwrap_or_default();
    let invalid = || {
        let message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey";
        S3Error::argument("x-amz-copy-source", text, message)
    };
    let (path, version) = text.split_once("?versionId=").unwrap_or((text, "null"));
    if version != "null" {
        return Err(S3Error::argument("x-amz-copy-source", text, "Invalid version id specified"));
    }
    let path = percent_decode_str(path).decode_utf8().map_err(|_| invalid())?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) = path.split_once('/').ok_or_else(invalid)?;
    let bucket = BucketName::parse(bucket)?;
    let key = ObjectKey::parse(key).map_err(|_| invalid())?;
    let object = readable(call, "s3:GetObject", &bucket, &key).await?;
    match judge(call, OF_COPY_SOURCE, &object) {
        Verdict::Holds => Ok((bucket, object)),
        Verdict::NotModified => Err(S3Error::precondition("x-amz-copy-source-If-None-Match")),
        Verdict::Fails(condition) => Err(S3Error::precondition(condition)),
    }
}

/// Whether a directive says COPY (also where it is not there) or REPLACE.
fn replaces(call: &Call, name: &str) -> Result<bool, S3Error> {
    match call.header(name) {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(other) => Err(S3Error::argument(name, other, format!("Unknown {name}."))),
    }
}

pub(super) async fn whole(call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.authorize_object("s3:PutObject", &bucket, &key)?;
    call.refuse_unavailable()?;
    let condition = conditions::of_write(&call)?;
    let (from, object) = source(&call).await?;
    let new_metadata = replaces(&call, "x-amz-metadata-directive")?;
    let new_tags = replaces(&call, "x-amz-tagging-directive")?;
    if from == bucket && object.key == key && !new_metadata {
        return Err(S3Error::request(
            "This copy request is illegal because it is trying to copy an object to itself without \
             changing the object's metadata, storage class, website redirect location or \
             encryption attributes.",
        ));
    }
    if object.size > PUT_BYTES_MAX {
        return Err(S3Error::request(format!(
            "The specified copy source is larger than the maximum allowable size for a copy \
             source: {PUT_BYTES_MAX}"
        )));
    }
    let given = object_traits::read(&call)?;
    let kept = object.traits.clone();
    if new_tags && !given.tags.is_empty() {
        call.authorize_object("s3:PutObjectTagging", &bucket, &key)?;
    } else if !new_tags && !kept.tags.is_empty() {
        call.authorize_object("s3:GetObjectTagging", &from, &object.key)?;
        call.authorize_object("s3:PutObjectTagging", &bucket, &key)?;
    }
    let (headers, metadata) =
        if new_metadata { (given.headers, given.metadata) } else { (kept.headers, kept.metadata) };
    let tags = if new_tags { given.tags } else { kept.tags };
    let traits = Traits { headers, metadata, tags };
    let wanted = call.header("x-amz-checksum-algorithm").map(algorithm_named).transpose()?;
    let has = object.checksum.as_ref().map(|checksum| checksum.algorithm);
    let source = CopySource { bucket: from, range: 0..object.size, object };
    let objects = call.objects();
    let copied = if wanted.is_none_or(|wanted| has == Some(wanted)) {
        objects.copy(&source, (&bucket, &key), traits, &condition).await?
    } else {
        // Another checksum is wanted: every byte has to be read.
        let written = objects.copy_range(&source, wanted).await?;
        objects.put((&bucket, &key), traits, written, &condition).await?
    };
    let checksum = copied.checksum.as_ref();
    Ok(result("CopyObjectResult", &copied.etag, checksum, copied.modified_at))
}

pub(super) async fn part(call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.authorize_object("s3:PutObject", &bucket, &key)?;
    let number = multipart::part_number(&call)?;
    let upload = multipart::upload(&call, &bucket, &key).await?;
    let (from, object) = source(&call).await?;
    let range = match call.header("x-amz-copy-source-range") {
        None => 0..object.size,
        Some(text) => {
            let parsed = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'));
            let parsed = parsed.and_then(|(from, to)| {
                let (from, to) = (from.parse::<u64>().ok()?, to.parse::<u64>().ok()?);
                (from <= to && to < object.size).then_some(from..to + 1)
            });
            parsed.ok_or_else(|| {
                let message = format!(
                    "Range specified is not valid for source object of size: {}",
                    object.size
                );
                S3Error::argument("x-amz-copy-source-range", text, message)
            })?
        }
    };
    let source = CopySource { bucket: from, object, range };
    let algorithm = upload.checksum.map(|plan| plan.algorithm);
    let written = call.objects().copy_range(&source, algorithm).await?;
    let part = call.objects().put_part(&upload, number, written).await?;
    Ok(result("CopyPartResult", &part.etag, part.checksum.as_ref(), part.modified_at))
}

fn result(
    root: &'static str,
    etag: &str,
    checksum: Option<&Checksum>,
    modified_at: OffsetDateTime,
) -> Response {
    let mut answer = Xml::new(root);
    answer.leaf("LastModified", iso(modified_at));
    answer.leaf("ETag", format!("\"{etag}\""));
    if let Some(checksum) = checksum {
        checksum_leaf(&mut answer, checksum);
        answer.leaf("ChecksumType", checksum.kind.as_str());
    }
    xml(answer)
}
