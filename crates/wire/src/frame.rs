//! Framing: a little-endian u32 of the body's length, a key, then the body in postcard, each of its bytes
//! XORed with the key.
//!
//! The key is 0 but for a body that would hold a [`SYNC`]: whatever bytes a command reads or an app
//! prints, the marker stands in the stream only where a connection begins.

use memchr::memmem;
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;

/// Longest body of a frame in bytes. Streams are cut into pieces well below it.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    #[error("a frame holds the channel's marker under every key")]
    Unspeakable,
    #[error("a frame does not decode")]
    Malformed(#[source] postcard::Error),
}

/// Bytes before a frame's body: its length and its key.
const HEAD_BYTES: usize = 5;

/// Sent by each side before its `Hello`: whatever came before it belongs to an earlier connection, be
/// it half a frame. No frame holds it.
pub const SYNC: [u8; 24] =
    *b"\xf5WARREN\x00\x9c\x1e\xd4\x83\x07\xb1\xfe\x62\xaa\x39\xc8\x5d\x10\xe7\x4b\xff";

/// One message as it goes over the channel.
///
/// # Errors
/// [`FrameError::TooLong`] where the message is over [`FRAME_BYTES_MAX`].
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut frame =
        postcard::to_extend(message, vec![0; HEAD_BYTES]).map_err(FrameError::Malformed)?;
    let length = frame.len() - HEAD_BYTES;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
    let mut key = 0;
    while memmem::find(&frame, &SYNC).is_some() {
        // Each key gives another text, so only a body made for it could hold the marker under many.
        let next = u8::checked_add(key, 1).ok_or(FrameError::Unspeakable)?;
        frame[HEAD_BYTES..].iter_mut().for_each(|byte| *byte ^= key ^ next);
        key = next;
        frame[4] = key;
    }
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
        if let Some(at) = memmem::rfind(&self.buffer[seam..], &SYNC) {
            self.buffer.drain(..seam + at + SYNC.len());
            self.synced = true;
        } else if !self.synced {
            self.lose_track();
        }
    }

    /// Waits for the next [`SYNC`]: nothing that comes before it begins a frame. What may be the
    /// beginning of one is kept.
    pub fn lose_track(&mut self) {
        self.synced = false;
        let tail = self.buffer.len().saturating_sub(SYNC.len() - 1);
        self.buffer.drain(..tail);
    }

    /// The next whole message, or none while one is still incomplete or no [`SYNC`] has come.
    ///
    /// # Errors
    /// A length over the limit or a body that does not decode: what follows is passed over up to the
    /// next [`SYNC`].
    pub fn next_message(&mut self) -> Result<Option<M>, FrameError> {
        if !self.synced {
            return Ok(None);
        }
        let message = self.decode();
        if message.is_err() {
            self.lose_track();
        }
        message
    }

    fn decode(&mut self) -> Result<Option<M>, FrameError> {
        let Some((head, rest)) = self.buffer.split_first_chunk_mut::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, key] = *head;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get_mut(..length) else { return Ok(None) };
        if key != 0 {
            body.iter_mut().for_each(|byte| *byte ^= key);
        }
        let message = postcard::from_bytes(body).map_err(FrameError::Malformed)?;
        self.buffer.drain(..HEAD_BYTES + length);
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
            GuestMessage::Hello { session: 7, boot_ms: 1200, version: 1 },
            GuestMessage::Log { error: true, data: vec![0, 255, 10] },
            GuestMessage::Done { call: 3 },
        ];
        let frames = messages.iter().map(|m| encode(m).unwrap());
        let bytes: Vec<u8> = std::iter::once(SYNC.to_vec()).chain(frames).flatten().collect();
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
        reader.push(&SYNC);
        reader.push(&[255; 5]);
        assert!(matches!(reader.next_message(), Err(FrameError::TooLong(_))));
        let long = HostMessage::Input { stream: 1, data: vec![0; FRAME_BYTES_MAX + 1] };
        assert!(matches!(encode(&long), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn half_a_frame_of_an_earlier_connection_is_forgotten() {
        let hello = encode(&HostMessage::Hello { session: 9, version: 1 }).unwrap();
        let stale = encode(&HostMessage::Input { stream: 1, data: vec![7; 500] }).unwrap();
        let bytes = [&stale[..40], &SYNC, &hello].concat();
        for step in 1..bytes.len() {
            let mut reader = FrameReader::default();
            bytes.chunks(step).for_each(|piece| reader.push(piece));
            assert_eq!(
                reader.next_message().unwrap(),
                Some(HostMessage::Hello { session: 9, version: 1 })
            );
        }
    }

    #[test]
    fn the_marker_may_stand_in_whatever_is_sent() {
        let data = [&[7; 9][..], &SYNC, &[0; 3], &SYNC].concat();
        let message = GuestMessage::Output { stream: 1, error: false, data };
        let bytes = [SYNC.to_vec(), encode(&message).unwrap(), encode(&message).unwrap()].concat();
        for step in [1, 5, 24, bytes.len()] {
            let mut reader = FrameReader::<GuestMessage>::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                reader.push(piece);
                seen.extend(reader.next_message().unwrap());
            }
            seen.extend(reader.next_message().unwrap());
            assert_eq!(seen, [message.clone(), message.clone()]);
        }
    }

    #[test]
    fn nonsense_is_an_error_and_not_a_panic() {
        let mut reader = FrameReader::<HostMessage>::default();
        reader.push(&SYNC);
        reader.push(&[3, 0, 0, 0, 0, 255, 255, 255]);
        assert!(matches!(reader.next_message(), Err(FrameError::Malformed(_))));
    }
}
