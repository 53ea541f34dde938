//! PutObject, and what every body with bytes has in common: checksums that the client states, in
//! the head or after the body.

use super::{
    call::{Call, empty, set},
    conditions,
    error::S3Error,
    object_traits,
};
use axum::response::Response;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::StatusCode;
use objects::{Checksum, ChecksumAlgorithm, PUT_BYTES_MAX, Written};
use std::collections::BTreeMap;

/// What the head says of the body's checksums.
#[derive(Debug, Default)]
pub(super) struct Stated {
    /// None: the client names none.
    pub(super) algorithm: Option<ChecksumAlgorithm>,
    /// Base64, where it stands in the head.
    value: Option<String>,
    /// It comes after the body.
    in_trailer: bool,
    /// In hex.
    md5: Option<String>,
}

/// `x-amz-checksum-crc32`…
pub(super) fn checksum_header(algorithm: ChecksumAlgorithm) -> String {
    format!("x-amz-checksum-{}", algorithm.as_str().to_ascii_lowercase())
}

impl Stated {
    /// # Errors
    /// InvalidDigest, InvalidRequest.
    pub(super) fn read(call: &Call) -> Result<Self, S3Error> {
        let md5 = match call.header("content-md5") {
            None => None,
            Some(text) => {
                let digest = BASE64_STANDARD.decode(text).ok().filter(|bytes| bytes.len() == 16);
                let invalid = "The Content-MD5 you specified was invalid.";
                let digest = digest.ok_or_else(|| S3Error::new("InvalidDigest", 400, invalid))?;
                Some(hex::encode(digest))
            }
        };
        let mut in_head = ChecksumAlgorithm::ALL.into_iter().filter_map(|algorithm| {
            call.header(&checksum_header(algorithm)).map(|value| (algorithm, value.to_owned()))
        });
        let first = in_head.next();
        if in_head.next().is_some() {
            let message = "Expecting a single x-amz-checksum- header. Multiple checksum Types are \
                           not allowed.";
            return Err(S3Error::request(message));
        }
        if let Some((algorithm, value)) = first {
            if !algorithm.is_value(&value) {
                let header = checksum_header(algorithm);
                let message = format!("Value for {header} header is invalid.");
                return Err(S3Error::request(message));
            }
            let (algorithm, value) = (Some(algorithm), Some(value));
            return Ok(Self { algorithm, value, in_trailer: false, md5 });
        }
        let trailer = call.header("x-amz-trailer").map(str::trim);
        if let Some(name) = trailer {
            let algorithm = name.to_ascii_lowercase();
            let algorithm = algorithm.strip_prefix("x-amz-checksum-").unwrap_or_default();
            let algorithm = ChecksumAlgorithm::parse(algorithm).ok_or_else(|| {
                S3Error::request("The value specified in the x-amz-trailer header is not supported")
            })?;
            return Ok(Self { algorithm: Some(algorithm), value: None, in_trailer: true, md5 });
        }
        let named = call.header("x-amz-sdk-checksum-algorithm");
        let algorithm = match named {
            None => None,
            Some(name) => Some(algorithm_named(name)?),
        };
        Ok(Self { algorithm, value: None, in_trailer: false, md5 })
    }

    /// Holds what was computed against what was stated.
    ///
    /// # Errors
    /// BadDigest.
    pub(super) fn check(
        &self,
        md5: &str,
        checksum: Option<&Checksum>,
        trailers: &BTreeMap<String, String>,
    ) -> Result<(), S3Error> {
        if let Some(stated) = self.md5.as_ref().filter(|stated| *stated != md5) {
            let message = "The Content-MD5 you specified did not match what we received.";
            return Err(S3Error::new("BadDigest", 400, message)
                .with("ExpectedDigest", stated.clone())
                .with("CalculatedDigest", md5));
        }
        let (Some(algorithm), Some(checksum)) = (self.algorithm, checksum) else { return Ok(()) };
        let trailer = trailers.get(&checksum_header(algorithm));
        if self.in_trailer && trailer.is_none() {
            return Err(S3Error::new("MalformedTrailerError", 400, "The trailer is missing."));
        }
        match self.value.as_ref().or(trailer) {
            Some(stated) if *stated != checksum.value => {
                let name = algorithm.as_str();
                let message =
                    format!("The {name} you specified did not match the calculated checksum.");
                Err(S3Error::new("BadDigest", 400, message))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// # Errors
/// InvalidRequest.
pub(super) fn algorithm_named(name: &str) -> Result<ChecksumAlgorithm, S3Error> {
    ChecksumAlgorithm::parse(name).ok_or_else(|| {
        S3Error::request(
            "Checksum algorithm provided is unsupported. Please try again with any of \
             the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
        )
    })
}

/// Takes the body in, with the checksum that was stated or else the one of `usual`.
///
/// # Errors
/// MissingContentLength, EntityTooLarge, BadDigest, those of the body.
pub(super) async fn receive(
    call: &mut Call,
    stated: &Stated,
    usual: Option<ChecksumAlgorithm>,
) -> Result<Written, S3Error> {
    let Some(length) = call.payload.length() else {
        let message = "You must provide the Content-Length HTTP header.";
        return Err(S3Error::new("MissingContentLength", 411, message));
    };
    if length > PUT_BYTES_MAX {
        return Err(objects::ObjectsError::TooLarge { max: PUT_BYTES_MAX }.into());
    }
    let mut incoming = call.objects().begin(stated.algorithm.or(usual), PUT_BYTES_MAX)?;
    while let Some(bytes) = call.payload.next().await? {
        incoming.write(&bytes).await?;
    }
    let written = incoming.finish().await?;
    stated.check(&written.md5, written.checksum.as_ref(), call.payload.trailers())?;
    Ok(written)
}

pub(super) async fn put(mut call: Call) -> Result<Response, S3Error> {
    let (bucket, key) = call.object()?;
    call.authorize_object("s3:PutObject", &bucket, &key)?;
    call.refuse_unavailable()?;
    let traits = object_traits::read(&call)?;
    if !traits.tags.is_empty() {
        call.authorize_object("s3:PutObjectTagging", &bucket, &key)?;
    }
    let condition = conditions::of_write(&call)?;
    call.objects().require_bucket(&bucket).await?;
    let stated = Stated::read(&call)?;
    // Where the client names none, S3 computes this one.
    let written = receive(&mut call, &stated, Some(ChecksumAlgorithm::Crc64Nvme)).await?;
    let object = call.objects().put((&bucket, &key), traits, written, &condition).await?;
    let mut response = empty(StatusCode::OK);
    set(&mut response, "etag", &format!("\"{}\"", object.etag));
    if let Some(checksum) = &object.checksum {
        set(&mut response, &checksum_header(checksum.algorithm), &checksum.value);
        set(&mut response, "x-amz-checksum-type", checksum.kind.as_str());
    }
    Ok(response)
}
