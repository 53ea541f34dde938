//! GetObject, HeadObject and GetObjectAttributes.

use super::{
    call::{Call, empty, http_date, set, xml},
    conditions::{OF_READ, Verdict, judge, range},
    error::S3Error,
    object_traits,
    put_object::checksum_header,
    xml::Xml,
};
use axum::{body::Body, response::Response};
use http::StatusCode;
use objects::{BucketName, Checksum, Object, ObjectKey, ObjectsError};
use std::ops::Range;

/// An object that the caller may read with `action`. That it is not there is said only to who may
/// list the bucket, as on AWS.
///
/// # Errors
/// AccessDenied, NoSuchKey, NoSuchBucket.
pub(super) async fn readable(
    call: &Call,
    action: &str,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Object, S3Error> {
    call.authorize_object(action, bucket, key)?;
    match call.objects().get(bucket, key).await {
        Err(missing @ ObjectsError::NoSuchKey { .. }) => {
            call.authorize_bucket("s3:ListBucket", bucket)?;
            Err(missing.into())
        }
        other => Ok(other?),
    }
}

/// The part of an object that was asked for, and its answer without the body.
struct Prepared {
    object: Object,
    range: Range<u64>,
    response: Response,
}

async fn prepare(call: &Call) -> Result<Prepared, S3Error> {
    let (bucket, key) = call.object()?;
    call.refuse_unavailable()?;
    let object = readable(call, "s3:GetObject", &bucket, &key).await?;
    let mut response = empty(StatusCode::OK);
    match judge(call, OF_READ, &object) {
        Verdict::Holds => {}
        Verdict::Fails(condition) => return Err(S3Error::precondition(condition)),
        Verdict::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            describe(&object, &mut response);
            return Ok(Prepared { object, range: 0..0, response });
        }
    }
    let part = part_range(call, &object).await?;
    let asked = match part {
        Some(part) => Some(part),
        None => range(call.header("range"), object.size)?,
    };
    describe(&object, &mut response);
    object_traits::write(call, &object.traits, &mut response);
    set(&mut response, "accept-ranges", "bytes");
    if let Some(asked) = &asked {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let last = asked.end.saturating_sub(1);
        set(
            &mut response,
            "content-range",
            &format!("bytes {}-{last}/{}", asked.start, object.size),
        );
    }
    if call.query("partNumber").is_some()
        && let Some(count) = object.parts
    {
        set(&mut response, "x-amz-mp-parts-count", &count.to_string());
    }
    let range = asked.unwrap_or(0..object.size);
    // Of a piece, the whole's checksum would say nothing.
    let whole = range == (0..object.size);
    if let Some(checksum) = object.checksum.as_ref().filter(|_| whole)
        && call
            .header("x-amz-checksum-mode")
            .is_some_and(|mode| mode.eq_ignore_ascii_case("enabled"))
    {
        set(&mut response, &checksum_header(checksum.algorithm), &checksum.value);
        set(&mut response, "x-amz-checksum-type", checksum.kind.as_str());
    }
    set(&mut response, "content-length", &(range.end - range.start).to_string());
    Ok(Prepared { object, range, response })
}

fn describe(object: &Object, response: &mut Response) {
    set(response, "etag", &format!("\"{}\"", object.etag));
    set(response, "last-modified", &http_date(object.modified_at));
}

/// The bytes of `partNumber`.
async fn part_range(call: &Call, object: &Object) -> Result<Option<Range<u64>>, S3Error> {
    let Some(text) = call.query("partNumber") else { return Ok(None) };
    let number: u32 =
        text.parse().ok().filter(|number| (1..=10_000).contains(number)).ok_or_else(|| {
            S3Error::argument(
                "partNumber",
                text,
                "Part number must be an integer between 1 and 10000, inclusive",
            )
        })?;
    let parts = call.objects().object_parts(object, 0, 10_000).await?.parts;
    let mut begin = 0;
    // Parts are counted here, whatever numbers they were uploaded with.
    for (place, part) in (1..).zip(&parts) {
        let end = begin + part.size;
        if place == number {
            return Ok(Some(begin..end));
        }
        begin = end;
    }
    let message = "The requested partnumber is not satisfiable";
    Err(S3Error::new("InvalidPartNumber", 416, message)
        .with("PartNumberRequested", text)
        .with("ActualPartCount", parts.len().to_string()))
}

pub(super) async fn get(call: Call) -> Result<Response, S3Error> {
    let bucket = call.bucket()?;
    loop {
        let Prepared { object, range, mut response } = prepare(&call).await?;
        if range.start == range.end {
            return Ok(response);
        }
        match call.objects().read(&bucket, &object, &range).await {
            Ok(content) => {
                *response.body_mut() = Body::from_stream(content.into_stream());
                return Ok(response);
            }
            // It was written again between the two: what is there now is meant.
            Err(ObjectsError::NoSuchKey { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

pub(super) async fn head(call: Call) -> Result<Response, S3Error> {
    Ok(prepare(&call).await?.response)
}

pub(super) async fn attributes(call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.refuse_unavailable()?;
    call.authorize_object("s3:GetObjectAttributes", &bucket, &key)?;
    let object = readable(&call, "s3:GetObject", &bucket, &key).await?;
    let asked = call.header("x-amz-object-attributes").unwrap_or_default();
    let wants = |name: &str| asked.split(',').any(|asked| asked.trim() == name);
    if asked.is_empty() {
        let message = "The x-amz-object-attributes header specifying the attributes to be \
                       retrieved is either missing or empty";
        return Err(S3Error::argument("x-amz-object-attributes", "", message));
    }
    let mut answer = Xml::new("GetObjectAttributesResponse");
    if wants("ETag") {
        answer.leaf("ETag", &object.etag);
    }
    if let Some(checksum) = object.checksum.as_ref().filter(|_| wants("Checksum")) {
        answer.open("Checksum");
        checksum_leaf(&mut answer, checksum);
        answer.leaf("ChecksumType", checksum.kind.as_str());
        answer.close();
    }
    if wants("ObjectParts")
        && let Some(count) = object.parts
    {
        let number = |name: &str| call.header(name).and_then(|text| text.parse().ok());
        let max = number("x-amz-max-parts").map_or(1000, |max: u32| max.min(1000));
        let after = number("x-amz-part-number-marker").unwrap_or(0);
        let page = call.objects().object_parts(&object, after, max as usize).await?;
        answer.open("ObjectParts");
        answer.leaf("PartsCount", count);
        answer.leaf("PartNumberMarker", after);
        answer.leaf_of("NextPartNumberMarker", page.parts.last().map(|part| part.number));
        answer.leaf("MaxParts", max);
        answer.leaf("IsTruncated", page.truncated);
        for part in &page.parts {
            answer.open("Part");
            answer.leaf("PartNumber", part.number);
            answer.leaf("Size", part.size);
            if let Some(checksum) = &part.checksum {
                checksum_leaf(&mut answer, checksum);
            }
            answer.close();
        }
        answer.close();
    }
    if wants("StorageClass") {
        answer.leaf("StorageClass", "STANDARD");
    }
    if wants("ObjectSize") {
        answer.leaf("ObjectSize", object.size);
    }
    let mut response = xml(answer);
    set(&mut response, "last-modified", &http_date(object.modified_at));
    Ok(response)
}

/// `<ChecksumCRC32>…`.
pub(super) fn checksum_leaf(answer: &mut Xml, checksum: &Checksum) {
    answer.leaf(&format!("Checksum{}", checksum.algorithm.as_str()), &checksum.value);
}
