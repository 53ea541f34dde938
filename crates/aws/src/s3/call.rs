//! An authenticated call: what it asks for, and what its caller may.

use super::{
    address::Address,
    error::S3Error,
    xml::{Element, Xml},
};
use crate::{
    AwsState,
    auth::{Access, Principal},
    iam::Context,
    sigv4::Payload,
};
use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use objects::{BucketName, ObjectKey, Objects, Sums};
use std::sync::Arc;
use time::OffsetDateTime;

/// Largest document that a client sends, in bytes: a DeleteObjects of 1,000 long keys.
const DOCUMENT_BYTES_MAX: usize = 2 * 1024 * 1024;

pub(super) struct Call {
    pub(super) state: Arc<AwsState>,
    pub(super) principal: Principal,
    pub(super) context: Context,
    pub(super) address: Address,
    pub(super) headers: HeaderMap,
    /// Decoded.
    pub(super) query: Vec<(String, String)>,
    pub(super) payload: Payload,
}

/// How many bytes a body has without its framing. None: its head does not say.
pub(super) fn payload_length(headers: &HeaderMap) -> Option<u64> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok();
    number("x-amz-decoded-content-length").or_else(|| {
        let chunked = headers
            .get("x-amz-content-sha256")
            .is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-"));
        if chunked { None } else { number("content-length") }
    })
}

impl Call {
    pub(super) fn objects(&self) -> &Objects {
        &self.state.objects
    }

    pub(super) fn region(&self) -> &str {
        self.state.authenticator.region()
    }

    pub(super) fn account(&self) -> &str {
        self.state.authenticator.account()
    }

    /// # Errors
    /// InvalidBucketName.
    pub(super) fn bucket(&self) -> Result<BucketName, S3Error> {
        Ok(BucketName::parse(self.address.bucket.as_deref().unwrap_or_default())?)
    }

    /// # Errors
    /// KeyTooLongError.
    pub(super) fn key(&self) -> Result<ObjectKey, S3Error> {
        Ok(ObjectKey::parse(self.address.key.as_deref().unwrap_or_default())?)
    }

    /// # Errors
    /// Those of [`Call::bucket`] and [`Call::key`].
    pub(super) fn object(&self) -> Result<(BucketName, ObjectKey), S3Error> {
        Ok((self.bucket()?, self.key()?))
    }

    /// A header; of `x-amz-…`, also where a presigned request has it in the query.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.get(name).and_then(|value| value.to_str().ok());
        header.or_else(|| if name.starts_with("x-amz-") { self.query(name) } else { None })
    }

    /// A parameter of the query, decoded.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Headers and parameters whose names begin with `prefix`, without it.
    pub(super) fn headers_under(&self, prefix: &str) -> Vec<(String, String)> {
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix(prefix)?;
            Some((name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        });
        let parameters = self.query.iter().filter_map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            Some((name.strip_prefix(prefix)?.to_owned(), value.clone()))
        });
        headers.chain(parameters).collect()
    }

    /// A parameter that is a number from 0 to `max`, which greater ones become.
    ///
    /// # Errors
    /// InvalidArgument.
    pub(super) fn number(&self, name: &str, max: usize) -> Result<usize, S3Error> {
        let Some(text) = self.query(name) else { return Ok(max) };
        let number = text.parse::<u32>().ok().filter(|number| i32::try_from(*number).is_ok());
        let number = number.ok_or_else(|| {
            let message = format!("Argument {name} must be an integer between 0 and 2147483647");
            S3Error::argument(name, text, message)
        })?;
        Ok(usize::try_from(number).unwrap_or(max).min(max))
    }

    /// # Errors
    /// AccessDenied.
    pub(super) fn authorize(&self, action: &str, resource: &str) -> Result<(), S3Error> {
        self.authorize_with(action, resource, &Context::default())
    }

    /// # Errors
    /// AccessDenied, in S3's words.
    pub(super) fn authorize_with(
        &self,
        action: &str,
        resource: &str,
        more: &Context,
    ) -> Result<(), S3Error> {
        let owner = self.header("x-amz-expected-bucket-owner");
        if owner.is_some_and(|owner| owner != self.account()) {
            return Err(S3Error::access_denied("Access Denied"));
        }
        let mut context = self.context.clone();
        context.extend(more);
        let access = Access { action, resource: Some(resource), context: &context };
        self.state.authenticator.authorize(&self.principal, &access).map_err(|denied| {
            tracing::info!(%denied.principal, %denied.action, %denied.resource, "denied");
            S3Error::access_denied(denied.quoted())
        })
    }

    pub(super) fn authorize_bucket(
        &self,
        action: &str,
        bucket: &BucketName,
    ) -> Result<(), S3Error> {
        self.authorize(action, &format!("arn:aws:s3:::{bucket}"))
    }

    pub(super) fn authorize_object(
        &self,
        action: &str,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<(), S3Error> {
        self.authorize(action, &format!("arn:aws:s3:::{bucket}/{key}"))
    }

    /// Refuses what would have an effect on AWS and has none here.
    ///
    /// # Errors
    /// NotImplemented, InvalidArgument for versions.
    pub(super) fn refuse_unavailable(&self) -> Result<(), S3Error> {
        const UNAVAILABLE: [&str; 10] = [
            "x-amz-server-side-encryption",
            "x-amz-server-side-encryption-customer-algorithm",
            "x-amz-website-redirect-location",
            "x-amz-object-lock-mode",
            "x-amz-object-lock-legal-hold",
            "x-amz-bucket-object-lock-enabled",
            "x-amz-grant-read",
            "x-amz-grant-full-control",
            "x-amz-write-offset-bytes",
            "x-amz-mfa",
        ];
        if let Some(name) = UNAVAILABLE.into_iter().find(|name| self.header(name).is_some()) {
            return Err(S3Error::not_implemented(&format!("The header {name}")));
        }
        match self.header("x-amz-acl") {
            None | Some("private" | "bucket-owner-full-control") => {}
            Some(acl) => return Err(S3Error::not_implemented(&format!("x-amz-acl: {acl}"))),
        }
        match self.header("x-amz-storage-class") {
            None | Some("STANDARD") => {}
            Some(_) => {
                let message = "The storage class you specified is not valid";
                return Err(S3Error::new("InvalidStorageClass", 400, message));
            }
        }
        match self.query("versionId") {
            None | Some("null" | "") => Ok(()),
            Some(id) => Err(S3Error::argument("versionId", id, "Invalid version id specified")),
        }
    }

    /// The document in the body, held against the checksums that the head states.
    ///
    /// # Errors
    /// MalformedXML, BadDigest, those of the body.
    pub(super) async fn document(&mut self) -> Result<Element, S3Error> {
        let bytes = self.document_bytes().await?;
        Element::parse(&bytes).ok_or_else(S3Error::malformed_xml)
    }

    /// # Errors
    /// As [`Call::document`].
    pub(super) async fn document_bytes(&mut self) -> Result<bytes::Bytes, S3Error> {
        let stated = super::put_object::Stated::read(self)?;
        let bytes = self.payload.collect(DOCUMENT_BYTES_MAX).await?;
        let mut sums = Sums::new(stated.algorithm);
        sums.update(&bytes);
        let (md5, checksum) = sums.finish();
        stated.check(&md5, checksum.as_ref(), self.payload.trailers())?;
        Ok(bytes)
    }
}

pub(super) fn xml(document: Xml) -> Response {
    let mut response = Response::new(Body::from(document.finish()));
    let kind = HeaderValue::from_static("application/xml");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Sets a header; a value that HTTP does not allow is left out.
pub(super) fn set(response: &mut Response, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) =
        (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes()))
    {
        response.headers_mut().insert(name, value);
    }
}

/// `2026-01-02T03:04:05.000Z`.
pub(super) fn iso(at: OffsetDateTime) -> String {
    let format = time::macros::format_description!(
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
    );
    at.format(&format).unwrap_or_default()
}

const HTTP_DATE: &[time::format_description::BorrowedFormatItem<'_>] = time::macros::format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// `Fri, 02 Jan 2026 03:04:05 GMT`.
pub(super) fn http_date(at: OffsetDateTime) -> String {
    at.format(HTTP_DATE).unwrap_or_default()
}

pub(super) fn parse_http_date(text: &str) -> Option<OffsetDateTime> {
    let parsed = time::PrimitiveDateTime::parse(text.trim(), HTTP_DATE).ok();
    parsed.map(time::PrimitiveDateTime::assume_utc).or_else(|| {
        OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()
    })
}
