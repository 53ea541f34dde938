//! Uploads in parts.

use super::{
    call::{Call, empty, iso, set, xml},
    conditions::{self, unquoted},
    error::S3Error,
    get_object::checksum_leaf,
    list_objects::Encoding,
    object_traits,
    put_object::{Stated, algorithm_named, checksum_header, receive},
    xml::{Element, Xml},
};
use axum::response::Response;
use http::StatusCode;
use objects::{
    BucketName, ChecksumAlgorithm, ChecksumKind, ChecksumPlan, CompletedPart, Completion,
    OBJECT_PARTS_MAX, ObjectKey, Upload, UploadQuery,
};

/// Parts or uploads of a page.
const ITEMS_MAX: usize = 1000;

pub(super) async fn upload(
    call: &Call,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Upload, S3Error> {
    let id = call.query("uploadId").unwrap_or_default();
    Ok(call.objects().upload(bucket, key, id).await?)
}

pub(super) fn part_number(call: &Call) -> Result<u32, S3Error> {
    let text = call.query("partNumber").unwrap_or_default();
    let number = text.parse().ok().filter(|number| (1..=OBJECT_PARTS_MAX).contains(number));
    number.ok_or_else(|| {
        let message = "Part number must be an integer between 1 and 10000, inclusive";
        S3Error::argument("partNumber", text, message)
    })
}

pub(super) async fn create(call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.authorize_object("s3:PutObject", &bucket, &key)?;
    call.refuse_unavailable()?;
    let traits = object_traits::read(&call)?;
    if !traits.tags.is_empty() {
        call.authorize_object("s3:PutObjectTagging", &bucket, &key)?;
    }
    let plan = plan(&call)?;
    let upload = call.objects().create_upload(&bucket, &key, traits, plan).await?;
    let mut answer = Xml::new("InitiateMultipartUploadResult");
    answer.leaf("Bucket", &bucket);
    answer.leaf("Key", &key);
    answer.leaf("UploadId", &upload.id);
    let mut response = xml(answer);
    if let Some(plan) = plan {
        set(&mut response, "x-amz-checksum-algorithm", plan.algorithm.as_str());
        set(&mut response, "x-amz-checksum-type", plan.kind.as_str());
    }
    Ok(response)
}

fn plan(call: &Call) -> Result<Option<ChecksumPlan>, S3Error> {
    let algorithm = call.header("x-amz-checksum-algorithm").map(algorithm_named).transpose()?;
    let kind = match call.header("x-amz-checksum-type") {
        None => None,
        Some("COMPOSITE") => Some(ChecksumKind::Composite),
        Some("FULL_OBJECT") => Some(ChecksumKind::FullObject),
        Some(_) => {
            return Err(S3Error::request("Value for x-amz-checksum-type header is invalid."));
        }
    };
    let Some(algorithm) = algorithm else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(S3Error::request(
                "The x-amz-checksum-type header can only be used with the \
                 x-amz-checksum-algorithm header.",
            )),
        };
    };
    let kind = kind.unwrap_or(algorithm.usual_kind());
    let possible = match kind {
        ChecksumKind::FullObject => algorithm.can_be_combined(),
        ChecksumKind::Composite => algorithm != ChecksumAlgorithm::Crc64Nvme,
    };
    if !possible {
        return Err(S3Error::request(format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            kind.as_str(),
            algorithm.as_str()
        )));
    }
    Ok(Some(ChecksumPlan { algorithm, kind }))
}

pub(super) async fn upload_part(mut call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.authorize_object("s3:PutObject", &bucket, &key)?;
    let number = part_number(&call)?;
    let upload = upload(&call, &bucket, &key).await?;
    let stated = Stated::read(&call)?;
    let planned = upload.checksum.map(|plan| plan.algorithm);
    if let (Some(planned), Some(stated)) = (planned, stated.algorithm)
        && planned != stated
    {
        return Err(S3Error::request(format!(
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            planned.as_str().to_ascii_lowercase(),
            stated.as_str().to_ascii_lowercase()
        )));
    }
    let written = receive(&mut call, &stated, planned).await?;
    let part = call.objects().put_part(&upload, number, written).await?;
    let mut response = empty(StatusCode::OK);
    set(&mut response, "etag", &format!("\"{}\"", part.etag));
    if let Some(checksum) = &part.checksum {
        set(&mut response, &checksum_header(checksum.algorithm), &checksum.value);
    }
    Ok(response)
}

pub(super) async fn complete(mut call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.authorize_object("s3:PutObject", &bucket, &key)?;
    let condition = conditions::of_write(&call)?;
    let upload = upload(&call, &bucket, &key).await?;
    // Here the checksum headers are the whole object's, not the document's.
    let checksum = match upload.checksum {
        Some(plan) => call.header(&checksum_header(plan.algorithm)).map(str::to_owned),
        None => None,
    };
    let size = call.header("x-amz-mp-object-size").and_then(|text| text.parse().ok());
    let bytes = call.payload.collect(4 * 1024 * 1024).await?;
    let document = Element::parse(&bytes).ok_or_else(S3Error::malformed_xml)?;
    let parts = document.all("Part").map(completed).collect::<Option<Vec<_>>>();
    let parts = parts.filter(|parts| !parts.is_empty() && parts.len() <= OBJECT_PARTS_MAX as usize);
    let parts = parts.ok_or_else(S3Error::malformed_xml)?;
    let completion = Completion { parts, condition, checksum, size };
    let object = call.objects().complete(&bucket, &upload, &completion).await?;
    let mut answer = Xml::new("CompleteMultipartUploadResult");
    let host = call.header("host").unwrap_or_default();
    answer.leaf("Location", format!("http://{host}/{bucket}/{}", Encoding::Url.of(key.as_str())));
    answer.leaf("Bucket", &bucket);
    answer.leaf("Key", &key);
    answer.leaf("ETag", format!("\"{}\"", object.etag));
    if let Some(checksum) = &object.checksum {
        checksum_leaf(&mut answer, checksum);
        answer.leaf("ChecksumType", checksum.kind.as_str());
    }
    Ok(xml(answer))
}

fn completed(part: &Element) -> Option<CompletedPart> {
    let sums = ChecksumAlgorithm::ALL.into_iter();
    let mut sums = sums.filter_map(|sum| part.text_of(&format!("Checksum{}", sum.as_str())));
    Some(CompletedPart {
        number: part.text_of("PartNumber")?.parse().ok()?,
        etag: unquoted(part.text_of("ETag")?).to_owned(),
        checksum: sums.next().map(str::to_owned),
    })
}

pub(super) async fn abort(call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.authorize_object("s3:AbortMultipartUpload", &bucket, &key)?;
    let id = call.query("uploadId").unwrap_or_default();
    call.objects().abort(&bucket, &key, id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn list_parts(call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.authorize_object("s3:ListMultipartUploadParts", &bucket, &key)?;
    let upload = upload(&call, &bucket, &key).await?;
    let max = call.number("max-parts", ITEMS_MAX)?;
    let after = call.query("part-number-marker").and_then(|text| text.parse().ok()).unwrap_or(0);
    let page = call.objects().parts(&upload, after, max).await?;
    let mut answer = Xml::new("ListPartsResult");
    answer.leaf("Bucket", &bucket);
    answer.leaf("Key", &key);
    answer.leaf("UploadId", &upload.id);
    answer.leaf("PartNumberMarker", after);
    answer.leaf_of("NextPartNumberMarker", page.parts.last().map(|part| part.number));
    answer.leaf("MaxParts", max);
    answer.leaf("IsTruncated", page.truncated);
    answer.leaf("StorageClass", "STANDARD");
    if let Some(plan) = upload.checksum {
        answer.leaf("ChecksumAlgorithm", plan.algorithm.as_str());
        answer.leaf("ChecksumType", plan.kind.as_str());
    }
    for part in &page.parts {
        answer.open("Part");
        answer.leaf("PartNumber", part.number);
        answer.leaf("LastModified", iso(part.modified_at));
        answer.leaf("ETag", format!("\"{}\"", part.etag));
        answer.leaf("Size", part.size);
        if let Some(checksum) = &part.checksum {
            checksum_leaf(&mut answer, checksum);
        }
        answer.close();
    }
    Ok(xml(answer))
}

pub(super) async fn list_uploads(call: Call) -> Result<Response, S3Error> {
    let bucket = call.bucket()?;
    call.authorize_bucket("s3:ListBucketMultipartUploads", &bucket)?;
    let encoding = Encoding::read(&call)?;
    if call.query("delimiter").is_some_and(|text| !text.is_empty()) {
        return Err(S3Error::not_implemented("The delimiter of ListMultipartUploads"));
    }
    let text = |name| call.query(name).unwrap_or_default();
    let query = UploadQuery {
        prefix: text("prefix").to_owned(),
        after_key: text("key-marker").to_owned(),
        after_id: call.query("upload-id-marker").filter(|id| !id.is_empty()).map(str::to_owned),
        items_max: call.number("max-uploads", ITEMS_MAX)?,
    };
    let page = call.objects().uploads(&bucket, &query).await?;
    let mut answer = Xml::new("ListMultipartUploadsResult");
    answer.leaf("Bucket", &bucket);
    answer.leaf("KeyMarker", encoding.of(&query.after_key));
    answer.leaf("UploadIdMarker", query.after_id.as_deref().unwrap_or_default());
    if let Some(last) = page.uploads.last().filter(|_| page.truncated) {
        answer.leaf("NextKeyMarker", encoding.of(last.key.as_str()));
        answer.leaf("NextUploadIdMarker", &last.id);
    }
    answer.leaf("Prefix", encoding.of(&query.prefix));
    answer.leaf_of("EncodingType", encoding.name());
    answer.leaf("MaxUploads", query.items_max);
    answer.leaf("IsTruncated", page.truncated);
    for upload in &page.uploads {
        answer.open("Upload");
        answer.leaf("Key", encoding.of(upload.key.as_str()));
        answer.leaf("UploadId", &upload.id);
        answer.leaf("StorageClass", "STANDARD");
        answer.leaf("Initiated", iso(upload.initiated_at));
        answer.close();
    }
    Ok(xml(answer))
}
