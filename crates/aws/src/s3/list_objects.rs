//! ListObjects and ListObjectsV2: the same list, paged by key or by token.

use super::{
    call::{Call, iso, xml},
    error::S3Error,
    xml::Xml,
};
use crate::iam::Context;
use axum::response::Response;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use objects::{BucketName, ListQuery, Listing, Object};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Most keys and common prefixes of a page.
const KEYS_MAX: usize = 1000;

/// What `encoding-type=url` leaves as it is.
const URL: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*').remove(b'/');

/// How keys are written in an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    /// # Errors
    /// InvalidArgument for another than `url`.
    pub(super) fn read(call: &Call) -> Result<Self, S3Error> {
        match call.query("encoding-type") {
            None | Some("") => Ok(Self::Plain),
            Some("url") => Ok(Self::Url),
            Some(other) => Err(S3Error::argument(
                "encoding-type",
                other,
                "Invalid Encoding Method specified in Request",
            )),
        }
    }

    pub(super) fn of(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Url => utf8_percent_encode(text, URL).to_string(),
        }
    }

    pub(super) fn name(self) -> Option<&'static str> {
        (self == Self::Url).then_some("url")
    }
}

async fn list(
    call: &Call,
    bucket: &BucketName,
    after: String,
) -> Result<(Listing, ListQuery), S3Error> {
    let prefix = call.query("prefix").unwrap_or_default();
    let delimiter = call.query("delimiter").filter(|text| !text.is_empty());
    let items_max = call.number("max-keys", KEYS_MAX)?;
    let mut context = Context::default();
    context.set("s3:prefix", prefix);
    context.set("s3:delimiter", delimiter.unwrap_or_default());
    context.set("s3:max-keys", items_max.to_string());
    call.authorize_with("s3:ListBucket", &format!("arn:aws:s3:::{bucket}"), &context)?;
    let query = ListQuery {
        prefix: prefix.to_owned(),
        delimiter: delimiter.map(str::to_owned),
        after,
        items_max,
    };
    let listing = call.objects().list(bucket, &query).await?;
    Ok((listing, query))
}

pub(super) async fn first(call: Call) -> Result<Response, S3Error> {
    let (bucket, encoding) = (call.bucket()?, Encoding::read(&call)?);
    let marker = call.query("marker").unwrap_or_default().to_owned();
    let (listing, query) = list(&call, &bucket, marker).await?;
    let mut answer = head(&bucket, &query, encoding);
    answer.leaf("Marker", encoding.of(&query.after));
    // Only with a delimiter: without one, the last key says where to go on.
    if let (Some(next), Some(_)) = (&listing.next, &query.delimiter) {
        answer.leaf("NextMarker", encoding.of(next));
    }
    let owner = Some(call.account());
    items(&mut answer, &listing, encoding, owner);
    Ok(xml(answer))
}

pub(super) async fn second(call: Call) -> Result<Response, S3Error> {
    let (bucket, encoding) = (call.bucket()?, Encoding::read(&call)?);
    if call.query("list-type") != Some("2") {
        let value = call.query("list-type").unwrap_or_default();
        return Err(S3Error::argument(
            "list-type",
            value,
            "Invalid List Type specified in Request",
        ));
    }
    let token = call.query("continuation-token");
    let after = match token {
        Some(token) => {
            let text = BASE64_URL_SAFE_NO_PAD.decode(token).ok();
            text.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
                let message = "The continuation token provided is incorrect";
                S3Error::argument("continuation-token", token, message)
            })?
        }
        None => call.query("start-after").unwrap_or_default().to_owned(),
    };
    let (listing, query) = list(&call, &bucket, after).await?;
    let mut answer = head(&bucket, &query, encoding);
    answer.leaf("KeyCount", listing.objects.len() + listing.prefixes.len());
    answer.leaf_of("ContinuationToken", token);
    answer.leaf_of("StartAfter", call.query("start-after").map(|text| encoding.of(text)));
    let next = listing.next.as_ref().map(|next| BASE64_URL_SAFE_NO_PAD.encode(next));
    answer.leaf_of("NextContinuationToken", next);
    let owner = (call.query("fetch-owner") == Some("true")).then(|| call.account());
    items(&mut answer, &listing, encoding, owner);
    Ok(xml(answer))
}

fn head(bucket: &BucketName, query: &ListQuery, encoding: Encoding) -> Xml {
    let mut answer = Xml::new("ListBucketResult");
    answer.leaf("Name", bucket);
    answer.leaf("Prefix", encoding.of(&query.prefix));
    answer.leaf_of("Delimiter", query.delimiter.as_deref().map(|text| encoding.of(text)));
    answer.leaf("MaxKeys", query.items_max);
    answer.leaf_of("EncodingType", encoding.name());
    answer
}

fn items(answer: &mut Xml, listing: &Listing, encoding: Encoding, owner: Option<&str>) {
    answer.leaf("IsTruncated", listing.next.is_some());
    for object in &listing.objects {
        answer.open("Contents");
        answer.leaf("Key", encoding.of(object.key.as_str()));
        content(answer, object, owner);
        answer.close();
    }
    for prefix in &listing.prefixes {
        answer.open("CommonPrefixes");
        answer.leaf("Prefix", encoding.of(prefix));
        answer.close();
    }
}

fn content(answer: &mut Xml, object: &Object, owner: Option<&str>) {
    answer.leaf("LastModified", iso(object.modified_at));
    answer.leaf("ETag", format!("\"{}\"", object.etag));
    if let Some(checksum) = &object.checksum {
        answer.leaf("ChecksumAlgorithm", checksum.algorithm.as_str());
        answer.leaf("ChecksumType", checksum.kind.as_str());
    }
    answer.leaf("Size", object.size);
    answer.leaf("StorageClass", "STANDARD");
    if let Some(owner) = owner {
        answer.open("Owner");
        answer.leaf("ID", owner);
        answer.close();
    }
}
