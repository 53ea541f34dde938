//! Bodies of S3: how they are framed and signed, and what comes out of that.
//!
//! The idea: bytes are handed on as they come and held against hash or signature when they are
//! complete, so that nothing is buffered. Whoever takes them must do nothing final before
//! [`Payload::next`] has said that there are no more.

use super::verify::{sha256_hex, sign};
use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use ring::digest;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use subtle::ConstantTimeEq;

pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const SIGNED_CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const SIGNED_CHUNKS_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_CHUNKS_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// Longest line of a chunk's head or of a trailer, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Most trailers of a body.
const TRAILERS_MAX: usize = 16;
/// Longest time between two pieces of a body.
const PIECE_TIME_MAX: Duration = Duration::from_secs(60);

/// What a request says of its body, once that is believed.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// As it is; with the hash that it must have, in hex.
    Whole { sha256: Option<String> },
    /// `aws-chunked`; signed chunk by chunk where there is a chain.
    Chunked { chain: Option<Chain>, trailer: bool },
}

impl Form {
    /// None: `stated` is none of the forms.
    pub(super) fn read(stated: &str, chain: Chain) -> Option<Self> {
        match stated {
            UNSIGNED => Some(Self::Whole { sha256: None }),
            SIGNED_CHUNKS => Some(Self::Chunked { chain: Some(chain), trailer: false }),
            SIGNED_CHUNKS_TRAILER => Some(Self::Chunked { chain: Some(chain), trailer: true }),
            UNSIGNED_CHUNKS_TRAILER => Some(Self::Chunked { chain: None, trailer: true }),
            hash if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Some(Self::Whole { sha256: Some(hash.to_ascii_lowercase()) })
            }
            _ => None,
        }
    }
}

/// Signatures of chunks: each signs the one before it, the first the request's own.
#[derive(Clone)]
pub(crate) struct Chain {
    key: Vec<u8>,
    timestamp: String,
    scope: String,
    previous: String,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Chain {
    pub(super) fn new(key: &[u8], timestamp: String, scope: String, seed: String) -> Self {
        Self { key: key.to_owned(), timestamp, scope, previous: seed }
    }

    fn link(&mut self, kind: &str, hashes: &str, given: &str) -> Result<(), PayloadFault> {
        let Self { key, timestamp, scope, previous } = self;
        let text = format!("AWS4-HMAC-SHA256-{kind}\n{timestamp}\n{scope}\n{previous}\n{hashes}");
        let expected = hex::encode(sign(key, &text));
        if !bool::from(expected.as_bytes().ct_eq(given.as_bytes())) {
            return Err(PayloadFault::ChunkSignature);
        }
        self.previous = expected;
        Ok(())
    }
}

/// What can be wrong with a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum PayloadFault {
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    HashMismatch,
    #[error("The signature of a chunk does not match the one that was computed.")]
    ChunkSignature,
    #[error("The body is not in the form aws-chunked: {0}.")]
    Malformed(&'static str),
    /// It ended before its end.
    #[error("You did not provide the number of bytes specified by the Content-Length HTTP header")]
    Incomplete,
    #[error(
        "Your socket connection to the server was not read from or written to within the timeout period."
    )]
    TooSlow,
    #[error("The body is larger than what this operation takes.")]
    TooLarge,
}

/// A body on its way in, without its framing.
pub(crate) struct Payload {
    /// Never locked: what is inside may be sent to another thread, and so may be looked at from there.
    body: Mutex<BodyDataStream>,
    form: Form,
    /// What came and is not yet handed on, of a chunked body.
    buffer: BytesMut,
    at: At,
    hash: digest::Context,
    /// Bytes that are still to come, where that was said.
    left: Option<u64>,
    trailers: BTreeMap<String, String>,
}

/// Where in the body reading is.
enum At {
    /// Of a body that is not chunked.
    Middle,
    ChunkHead,
    Chunk {
        left: u64,
        signature: String,
    },
    ChunkEnd {
        signature: String,
    },
    Trailers {
        lines: String,
    },
    End,
}

impl Payload {
    /// `length`: how many bytes there are without the framing, where that was said.
    pub(crate) fn new(body: Body, form: Form, length: Option<u64>) -> Self {
        let at = match &form {
            Form::Whole { .. } => At::Middle,
            Form::Chunked { .. } => At::ChunkHead,
        };
        Self {
            body: Mutex::new(body.into_data_stream()),
            form,
            buffer: BytesMut::new(),
            at,
            hash: digest::Context::new(&digest::SHA256),
            left: length,
            trailers: BTreeMap::new(),
        }
    }

    /// Bytes that are still to come. None: that was not said.
    pub(crate) fn length(&self) -> Option<u64> {
        self.left
    }

    /// What came after the body, by lower-case name; complete when there are no more bytes.
    pub(crate) fn trailers(&self) -> &BTreeMap<String, String> {
        &self.trailers
    }

    /// The next bytes. None: that was all, and hash, signatures and length are right.
    ///
    /// # Errors
    /// [`PayloadFault`].
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PayloadFault> {
        let piece = match self.form {
            Form::Whole { .. } => self.whole_piece().await?,
            Form::Chunked { .. } => self.chunk_piece().await?,
        };
        let Some(left) = &mut self.left else { return Ok(piece) };
        match &piece {
            Some(piece) => {
                *left = left.checked_sub(piece.len() as u64).ok_or(PayloadFault::Incomplete)?;
            }
            None if *left > 0 => return Err(PayloadFault::Incomplete),
            None => {}
        }
        Ok(piece)
    }

    /// All of it.
    ///
    /// # Errors
    /// [`PayloadFault::TooLarge`] beyond `bytes_max`.
    pub(crate) async fn collect(&mut self, bytes_max: usize) -> Result<Bytes, PayloadFault> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if all.len() + piece.len() > bytes_max {
                return Err(PayloadFault::TooLarge);
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    /// What the connection has next.
    async fn receive(&mut self) -> Result<Option<Bytes>, PayloadFault> {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        let piece = tokio::time::timeout(PIECE_TIME_MAX, body.next()).await;
        match piece.map_err(|_| PayloadFault::TooSlow)? {
            None => Ok(None),
            Some(Ok(piece)) => Ok(Some(piece)),
            Some(Err(_)) => Err(PayloadFault::Incomplete),
        }
    }

    async fn whole_piece(&mut self) -> Result<Option<Bytes>, PayloadFault> {
        if matches!(self.at, At::End) {
            return Ok(None);
        }
        if let Some(piece) = self.receive().await? {
            if matches!(&self.form, Form::Whole { sha256: Some(_) }) {
                self.hash.update(&piece);
            }
            return Ok(Some(piece));
        }
        self.at = At::End;
        let actual = self.finish_hash();
        match &self.form {
            // A body that was cut short is told to be that.
            Form::Whole { sha256: Some(expected) }
                if self.left.unwrap_or(0) == 0 && actual != *expected =>
            {
                Err(PayloadFault::HashMismatch)
            }
            Form::Whole { .. } | Form::Chunked { .. } => Ok(None),
        }
    }

    fn finish_hash(&mut self) -> String {
        let fresh = digest::Context::new(&digest::SHA256);
        hex::encode(std::mem::replace(&mut self.hash, fresh).finish())
    }

    async fn chunk_piece(&mut self) -> Result<Option<Bytes>, PayloadFault> {
        loop {
            match std::mem::replace(&mut self.at, At::End) {
                At::End | At::Middle => return Ok(None),
                At::ChunkHead => {
                    let line = self.line().await?.ok_or(PayloadFault::Incomplete)?;
                    let (left, signature) = chunk_head(&line)?;
                    if left == 0 {
                        self.end_chunk(&signature)?;
                        self.at = At::Trailers { lines: String::new() };
                    } else {
                        self.at = At::Chunk { left, signature };
                    }
                }
                At::Chunk { left, signature } => {
                    if self.buffer.is_empty() {
                        let piece = self.receive().await?.ok_or(PayloadFault::Incomplete)?;
                        self.buffer.extend_from_slice(&piece);
                    }
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                    let piece = self.buffer.split_to(taken).freeze();
                    if matches!(&self.form, Form::Chunked { chain: Some(_), .. }) {
                        self.hash.update(&piece);
                    }
                    let left = left - taken as u64;
                    self.at = if left == 0 {
                        At::ChunkEnd { signature }
                    } else {
                        At::Chunk { left, signature }
                    };
                    if !piece.is_empty() {
                        return Ok(Some(piece));
                    }
                }
                At::ChunkEnd { signature } => {
                    let line = self.line().await?.ok_or(PayloadFault::Incomplete)?;
                    if !line.is_empty() {
                        return Err(PayloadFault::Malformed(
                            "a chunk is longer than its head says",
                        ));
                    }
                    self.end_chunk(&signature)?;
                    self.at = At::ChunkHead;
                }
                At::Trailers { lines } => self.trailer(lines).await?,
            }
        }
    }

    /// Holds a whole chunk against its signature.
    fn end_chunk(&mut self, signature: &str) -> Result<(), PayloadFault> {
        let actual = self.finish_hash();
        let Form::Chunked { chain: Some(chain), .. } = &mut self.form else { return Ok(()) };
        chain.link("PAYLOAD", &format!("{}\n{actual}", sha256_hex(b"")), signature)
    }

    /// Reads one trailer; `lines` are the ones before it, as they are signed.
    async fn trailer(&mut self, mut lines: String) -> Result<(), PayloadFault> {
        let Form::Chunked { trailer, .. } = self.form else { return Ok(()) };
        let line = self.line().await?.unwrap_or_default();
        if line.trim().is_empty() {
            if trailer && matches!(&self.form, Form::Chunked { chain: Some(_), .. }) {
                return Err(PayloadFault::Malformed("the trailers are not signed"));
            }
            self.at = At::End;
            return Ok(());
        }
        let (name, value) =
            line.split_once(':').ok_or(PayloadFault::Malformed("a trailer has no ':'"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        if !trailer || self.trailers.len() == TRAILERS_MAX {
            return Err(PayloadFault::Malformed("there are trailers that were not announced"));
        }
        if name == "x-amz-trailer-signature" {
            if let Form::Chunked { chain: Some(chain), .. } = &mut self.form {
                chain.link("TRAILER", &sha256_hex(lines.as_bytes()), &value)?;
            }
            self.at = At::End;
            return Ok(());
        }
        lines.push_str(&format!("{name}:{value}\n"));
        self.trailers.insert(name, value);
        self.at = At::Trailers { lines };
        Ok(())
    }

    /// The next line, without its end. None: the body has ended.
    async fn line(&mut self) -> Result<Option<String>, PayloadFault> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let text = String::from_utf8(line.to_vec());
                let text = text.map_err(|_| PayloadFault::Malformed("a head is not text"))?;
                return Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(PayloadFault::Malformed("a head is too long"));
            }
            match self.receive().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(PayloadFault::Incomplete),
            }
        }
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload").field("form", &self.form).finish_non_exhaustive()
    }
}

/// `<size in hex>;chunk-signature=<hex>`.
fn chunk_head(line: &str) -> Result<(u64, String), PayloadFault> {
    let (size, extension) = line.split_once(';').unwrap_or((line, ""));
    let size = u64::from_str_radix(size.trim(), 16)
        .map_err(|_| PayloadFault::Malformed("a chunk's size is not a number"))?;
    let signature = extension.trim().strip_prefix("chunk-signature=").unwrap_or_default();
    Ok((size, signature.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of AWS's documentation of chunked uploads: 66,560 times `a` in three chunks.
    fn example() -> (Chain, String) {
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        let date = sign(format!("AWS4{secret}").as_bytes(), "20130524");
        let key = ["us-east-1", "s3", "aws4_request"]
            .iter()
            .fold(date, |key, part| sign(key.as_ref(), part));
        let chain = Chain::new(
            key.as_ref(),
            "20130524T000000Z".to_owned(),
            "20130524/us-east-1/s3/aws4_request".to_owned(),
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9".to_owned(),
        );
        let chunk = |size: usize, signature: &str| {
            format!("{size:x};chunk-signature={signature}\r\n{}\r\n", "a".repeat(size))
        };
        let body = [
            chunk(65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            chunk(1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            chunk(0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ];
        (chain, body.concat())
    }

    async fn read(form: Form, body: String, length: u64) -> Result<usize, PayloadFault> {
        // In small pieces, so that every state is met in its middle.
        let pieces: Vec<_> = body
            .into_bytes()
            .chunks(1000)
            .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
            .collect();
        let body = Body::from_stream(futures::stream::iter(pieces));
        let mut payload = Payload::new(body, form, Some(length));
        let mut size = 0;
        while let Some(piece) = payload.next().await? {
            size += piece.len();
        }
        Ok(size)
    }

    #[tokio::test]
    async fn the_published_chunks_are_believed() {
        let (chain, body) = example();
        let form = || Form::Chunked { chain: Some(chain.clone()), trailer: false };
        assert_eq!(read(form(), body.clone(), 66_560).await, Ok(66_560));
        let altered = body.replacen("aaa\r\n400", "aab\r\n400", 1);
        assert_eq!(read(form(), altered, 66_560).await, Err(PayloadFault::ChunkSignature));
        let cut = body.split_at(66_000).0.to_owned();
        assert_eq!(read(form(), cut, 66_560).await, Err(PayloadFault::Incomplete));
        assert_eq!(read(form(), body, 66_559).await, Err(PayloadFault::Incomplete));
    }

    #[tokio::test]
    async fn trailers_come_after_unsigned_chunks() {
        let form = || Form::Chunked { chain: None, trailer: true };
        let body = "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n";
        let mut payload = Payload::new(Body::from(body), form(), Some(3));
        assert_eq!(payload.collect(10).await.unwrap(), "abc");
        assert_eq!(payload.trailers()["x-amz-checksum-crc32"], "NSRBwg==");
        for (bad, why) in [
            ("zz\r\n", "a chunk's size is not a number"),
            ("3\r\nabcd\r\n", "a chunk is longer than its head says"),
            ("0\r\nnothing\r\n\r\n", "a trailer has no ':'"),
        ] {
            assert_eq!(read(form(), bad.into(), 0).await.map(drop), {
                let fault = PayloadFault::Malformed(why);
                if bad.starts_with('3') { Err(PayloadFault::Incomplete) } else { Err(fault) }
            });
        }
    }

    #[tokio::test]
    async fn a_whole_body_is_held_against_its_hash() {
        let form = |text: &[u8]| Form::Whole { sha256: Some(sha256_hex(text)) };
        assert_eq!(read(form(b"abc"), "abc".into(), 3).await, Ok(3));
        assert_eq!(read(form(b"abd"), "abc".into(), 3).await, Err(PayloadFault::HashMismatch));
        assert_eq!(read(form(b"abc"), "abc".into(), 4).await, Err(PayloadFault::Incomplete));
    }
}
