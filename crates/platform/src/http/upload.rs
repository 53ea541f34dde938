//! Uploads: the parts of a `multipart/form-data` body, within a bound.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;

use crate::fault::Fault;

/// Longest upload, in bytes: files and skills stand in the database.
const UPLOAD_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Parts of one upload, at most.
const PARTS_MAX: usize = 2000;

/// A part that has bytes.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    /// Absent for a plain member.
    pub(super) filename: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) bytes: Bytes,
}

/// All parts, in their order.
#[derive(Debug)]
pub(super) struct Upload(Vec<Part>);

impl<S: Send + Sync> FromRequest<S> for Upload {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let boundary = kind.and_then(|kind| multer::parse_boundary(kind).ok());
        let boundary =
            boundary.ok_or_else(|| Fault::field("body", "must be multipart/form-data"))?;
        let body: Body = request.into_body();
        let limit = multer::SizeLimit::new().whole_stream(UPLOAD_BYTES_MAX);
        let constraints = multer::Constraints::new().size_limit(limit);
        let mut form =
            multer::Multipart::with_constraints(body.into_data_stream(), boundary, constraints);
        let mut parts = Vec::new();
        while let Some(field) = form.next_field().await.map_err(fault)? {
            if parts.len() >= PARTS_MAX {
                return Err(Fault::field("body", format_args!("has more than {PARTS_MAX} parts")));
            }
            parts.push(Part {
                name: field.name().unwrap_or_default().to_owned(),
                filename: field.file_name().map(str::to_owned),
                content_type: field.content_type().map(ToString::to_string),
                bytes: field.bytes().await.map_err(fault)?,
            });
        }
        Ok(Self(parts))
    }
}

impl Upload {
    /// The files sent as `name` or `name[]`, taken out.
    pub(super) fn files(&mut self, name: &str) -> Vec<Part> {
        let named = |part: &Part| part.name == name || part.name.strip_suffix("[]") == Some(name);
        let (files, rest) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|part| named(part) && part.filename.is_some());
        self.0 = rest;
        files
    }

    /// The text of a plain member, taken out; an empty one is none.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Fault> {
        let Some(at) = self.0.iter().position(|part| part.name == name) else { return Ok(None) };
        let part = self.0.remove(at);
        let text = String::from_utf8(part.bytes.to_vec())
            .map_err(|_| Fault::field(name, "must be text"))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.0.first() {
            None => Ok(()),
            Some(part) => Err(Fault::field(&part.name, "is not known here")),
        }
    }
}

fn fault(error: multer::Error) -> Fault {
    match error {
        multer::Error::StreamSizeExceeded { limit } => {
            Fault::TooLarge { limit: usize::try_from(limit).unwrap_or(usize::MAX) }
        }
        other => Fault::field("body", other),
    }
}
