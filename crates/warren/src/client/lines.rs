//! JSON lines of an answer, as they come.

use super::ClientError;
use http_body_util::BodyExt;
use hyper::{Response, body::Incoming};
use serde::de::DeserializeOwned;

/// Longest line, in bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;

pub(crate) struct Lines {
    path: &'static str,
    answer: Response<Incoming>,
    buffer: Vec<u8>,
}

impl Lines {
    /// `path` names the answer in errors.
    pub(crate) fn new(path: &'static str, answer: Response<Incoming>) -> Self {
        Self { path, answer, buffer: Vec::new() }
    }

    /// None at the end of the answer.
    ///
    /// # Errors
    /// [`ClientError::BadAnswer`] for what is no line of this kind, [`ClientError::Broken`].
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        let path = || self.path.to_owned();
        let bad = |reason: String| ClientError::BadAnswer { path: path(), reason };
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|e| bad(e.to_string()));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(bad(format!("a line is over {LINE_BYTES_MAX} bytes")));
            }
            let Some(frame) = self.answer.body_mut().frame().await else { return Ok(None) };
            let frame = frame.map_err(|source| ClientError::Broken { path: path(), source })?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}
