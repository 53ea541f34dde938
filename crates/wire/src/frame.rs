//! Framing: a little-endian u32 of the body's length, then the body in postcard.

use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// Longest body of a frame in bytes. Streams are cut into pieces well below it.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    #[error("a frame does not decode")]
    Malformed(#[source] postcard::Error),
}

/// Sent by each side before its `Hello`: whatever came before it belongs to an earlier connection, be
/// it half a frame. The bytes are random and fixed; who sends them inside of a message breaks nothing
/// but their own channel, until the next `Hello`.
pub const SYNC: [u8; 24] =
    *b"\xf5WARREN\x00\x9c\x1e\xd4\x83\x07\xb1\xfe\x62\xaa\x39\xc8\x5d\x10\xe7\x4b\xff";

/// One message as it goes over the channel.
///
/// # Errors
/// [`FrameError::TooLong`] where the message is over [`FRAME_BYTES_MAX`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut frame = postcard::to_extend(message, vec![0; 4]).map_err(FrameError::Malformed)?;
    let length = frame.len() - 4;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// Puts frames together from whatever pieces the channel delivers.
#[derive(Debug)]
pub struct FrameReader<M> {
    buffer: Vec<u8>,
    synced: bool,
    message: PhantomData<M>,
}

impl<M> Default for FrameReader<M> {
    fn default() -> Self {
        Self { buffer: Vec::new(), synced: false, message: PhantomData }
    }
}

impl<M: DeserializeOwned> FrameReader<M> {
    /// Adds what was read from the channel; all that came before a [`SYNC`] is forgotten.
    pub fn push(&mut self, bytes: &[u8]) {
        let seam = self.buffer.len().saturating_sub(SYNC.len() - 1);
        self.buffer.extend_from_slice(bytes);
        let last = self.buffer[seam..].windows(SYNC.len()).rposition(|window| window == SYNC);
        if let Some(at) = last {
            self.buffer.drain(..seam + at + SYNC.len());
            self.synced = true;
        }
    }

    /// Whether a [`SYNC`] was seen: before it, nothing that comes can be trusted to begin a frame.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Forgets what is incomplete.
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// The next whole message, or none while one is still incomplete.
    ///
    /// # Errors
    /// A length over the limit or a body that does not decode: the stream is lost then, since
    /// nothing marks where the next frame begins.
    pub fn next_message(&mut self) -> Result<Option<M>, FrameError> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let message = postcard::from_bytes(&rest[..length]).map_err(FrameError::Malformed)?;
        self.buffer.drain(..4 + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GuestMessage, HostMessage};

    #[test]
    fn frames_survive_any_cut() {
        let messages = [
            GuestMessage::Hello { session: 7, boot_ms: 1200 },
            GuestMessage::Log { error: true, data: vec![0, 255, 10] },
            GuestMessage::Done { call: 3 },
        ];
        let bytes: Vec<u8> = messages.iter().flat_map(|m| encode(m).unwrap()).collect();
        for step in 1..bytes.len() {
            let mut reader = FrameReader::<GuestMessage>::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                reader.push(piece);
                while let Some(message) = reader.next_message().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, messages, "cut every {step} bytes");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_kept() {
        let mut reader = FrameReader::<HostMessage>::default();
        reader.push(&u32::MAX.to_le_bytes());
        assert!(matches!(reader.next_message(), Err(FrameError::TooLong(_))));
        let long = HostMessage::Input { stream: 1, data: vec![0; FRAME_BYTES_MAX + 1] };
        assert!(matches!(encode(&long), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn half_a_frame_of_an_earlier_connection_is_forgotten() {
        let hello = encode(&HostMessage::Hello { session: 9 }).unwrap();
        let stale = encode(&HostMessage::Input { stream: 1, data: vec![7; 500] }).unwrap();
        let bytes = [&stale[..40], &SYNC, &hello].concat();
        for step in 1..bytes.len() {
            let mut reader = FrameReader::default();
            bytes.chunks(step).for_each(|piece| reader.push(piece));
            assert!(reader.synced());
            assert_eq!(reader.next_message().unwrap(), Some(HostMessage::Hello { session: 9 }));
        }
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_panic() {
        let mut reader = FrameReader::<HostMessage>::default();
        reader.push(&[3, 0, 0, 0, 255, 255, 255]);
        assert!(matches!(reader.next_message(), Err(FrameError::Malformed(_))));
    }
}
