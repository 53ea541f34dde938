//! Server-sent events: a parser that knows nothing of HTTP, and the stream of a session.
//!
//! Lines end in LF, CRLF or CR; only `event` and `data` are read; a message without a name is
//! dropped, as the platform's own clients do. The stream does not replay: whoever opens it
//! lists the history afterwards and tells events apart by their ids.

use std::collections::VecDeque;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::json;
use crate::event::Event;

/// Longest message, in bytes.
const MESSAGE_LEN_MAX: usize = 16 << 20;

/// Why a stream ended early.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection broke.
    #[error("the event stream broke off")]
    BrokenOff(#[source] hyper::Error),
    /// The platform sent `event: error`.
    #[error("the event stream reports an error: {0}")]
    Reported(String),
    /// A message that is no event.
    #[error("a message of the event stream is no event")]
    NotAnEvent(#[source] serde_json::Error),
    /// A message longer than 16 MiB.
    #[error("a message of the event stream is longer than {MESSAGE_LEN_MAX} bytes")]
    TooLong,
}

/// One message that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SseMessage {
    /// Its `event` line.
    pub name: String,
    /// Its `data` lines, joined by LF.
    pub data: String,
}

/// Takes bytes as they come, gives messages.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    after_cr: bool,
    name: Option<String>,
    data: Option<String>,
    ready: VecDeque<SseMessage>,
}

impl SseParser {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// [`StreamError::TooLong`] when a message grows beyond 16 MiB.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => self.end_line(),
                _ => self.line.push(byte),
            }
            let held = self.line.len() + self.data.as_ref().map_or(0, String::len);
            if held > MESSAGE_LEN_MAX {
                return Err(StreamError::TooLong);
            }
        }
        Ok(())
    }

    /// The next whole message.
    pub fn pop(&mut self) -> Option<SseMessage> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) {
        let line = String::from_utf8_lossy(&self.line).into_owned();
        self.line.clear();
        if line.is_empty() {
            let (name, data) = (self.name.take(), self.data.take());
            if let Some(name) = name {
                self.ready.push_back(SseMessage { name, data: data.unwrap_or_default() });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = Some(value.to_owned()),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // A comment (empty field), `id`, `retry` and fields to come.
            _ => {}
        }
    }
}

/// The open event stream of a session.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    parser: SseParser,
}

impl EventStream {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, parser: SseParser::default() }
    }

    /// The next event, or `None` when the platform closed the stream. Pings are swallowed.
    /// May be dropped at any await and called again: nothing is lost.
    ///
    /// # Errors
    /// [`StreamError`]; the stream is of no use after it.
    pub async fn next(&mut self) -> Result<Option<Event>, StreamError> {
        loop {
            while let Some(message) = self.parser.pop() {
                match message.name.as_str() {
                    "ping" => {}
                    "error" => return Err(StreamError::Reported(message.data)),
                    _ => {
                        return json::parse(message.data.as_bytes())
                            .map(Some)
                            .map_err(StreamError::NotAnEvent);
                    }
                }
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(StreamError::BrokenOff)?;
                    if let Some(data) = frame.data_ref() {
                        self.parser.push(data)?;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&str]) -> Vec<(String, String)> {
        let mut parser = SseParser::default();
        for piece in pieces {
            parser.push(piece.as_bytes()).unwrap();
        }
        std::iter::from_fn(|| parser.pop()).map(|m| (m.name, m.data)).collect()
    }

    fn pair(name: &str, data: &str) -> (String, String) {
        (name.into(), data.into())
    }

    #[test]
    fn every_line_ending_ends_a_line_wherever_the_bytes_are_cut() {
        let text =
            "event: a\r\ndata: 1\r\rdata:2\nevent:b\n\n: comment\nevent: c\rdata: x\r\ndata: y\n\n";
        let expected = vec![pair("a", "1"), pair("b", "2"), pair("c", "x\ny")];
        assert_eq!(parse(&[text]), expected);
        for at in 0..text.len() {
            let (head, tail) = text.split_at(at);
            assert_eq!(parse(&[head, tail]), expected, "cut at {at}");
        }
    }

    #[test]
    fn a_message_without_a_name_is_dropped() {
        assert_eq!(parse(&["data: 1\n\nevent: b\ndata: 2\n\n"]), vec![pair("b", "2")]);
    }

    #[test]
    fn an_endless_message_is_refused() {
        let mut parser = SseParser::default();
        let line = "data: ".to_owned() + &"x".repeat(1 << 20) + "\n";
        let refused = (0..20).any(|_| parser.push(line.as_bytes()).is_err());
        assert!(refused);
    }
}
