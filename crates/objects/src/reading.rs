//! An object's bytes on their way out.

use crate::{
    ObjectsError,
    files::{Files, failed, read_full},
    leases::Lease,
};
use bytes::Bytes;
use futures::{Stream, stream};
use std::{
    collections::VecDeque,
    fs::File,
    io::{Seek, SeekFrom},
    ops::Range,
    path::PathBuf,
};

/// Bytes that are read at once.
const BLOCK_BYTES: u64 = 512 * 1024;

/// A file and its place in an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) file: String,
    pub(crate) size: u64,
}

/// A range of an object, opened: it stays readable, whatever becomes of the object meanwhile.
#[derive(Debug)]
pub struct Content {
    files: Files,
    pieces: VecDeque<(String, Range<u64>)>,
    open: Option<(File, PathBuf, u64)>,
    size: u64,
    _lease: Lease,
}

/// The pieces of files that make up a range of an object.
pub(crate) fn pieces(segments: &[Segment], range: &Range<u64>) -> Vec<(String, Range<u64>)> {
    let mut pieces = Vec::new();
    let mut begin = 0;
    for segment in segments {
        let end = begin + segment.size;
        let (from, to) = (range.start.max(begin), range.end.min(end));
        if from < to {
            pieces.push((segment.file.clone(), from - begin..to - begin));
        }
        begin = end;
    }
    pieces
}

impl Content {
    pub(crate) fn new(
        files: &Files,
        segments: &[Segment],
        range: &Range<u64>,
        lease: Lease,
    ) -> Self {
        let pieces = VecDeque::from(pieces(segments, range));
        let size = pieces.iter().map(|(_, range)| range.end - range.start).sum();
        Self { files: files.clone(), pieces, open: None, size, _lease: lease }
    }

    /// Bytes from here to the end.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Blocks of bytes, read as they are asked for.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, ObjectsError>> + Send + 'static {
        stream::try_unfold(self, |mut content| async move {
            let (block, content) = tokio::task::spawn_blocking(move || {
                let block = content.next_block()?;
                Ok::<_, ObjectsError>((block, content))
            })
            .await
            .map_err(|_| ObjectsError::BrokenOff)??;
            Ok(block.map(|block| (block, content)))
        })
    }

    fn next_block(&mut self) -> Result<Option<Bytes>, ObjectsError> {
        loop {
            if let Some((file, path, left)) = &mut self.open {
                let wanted = (*left).min(BLOCK_BYTES);
                let mut block = vec![0; usize::try_from(wanted).unwrap_or_default()];
                let read = read_full(file, &mut block);
                let read = read.map_err(failed("reading", path))? as u64;
                if read < wanted {
                    return Err(failed("reading", path)(std::io::ErrorKind::UnexpectedEof.into()));
                }
                *left -= read;
                self.size -= read;
                if *left == 0 {
                    self.open = None;
                }
                return Ok(Some(Bytes::from(block)));
            }
            let Some((id, range)) = self.pieces.pop_front() else { return Ok(None) };
            let path = self.files.path(&id);
            let mut file = File::open(&path).map_err(failed("opening", &path))?;
            file.seek(SeekFrom::Start(range.start)).map_err(failed("reading", &path))?;
            self.open = Some((file, path, range.end - range.start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_takes_of_each_file_what_it_needs() {
        let segment = |file: &str, size| Segment { file: file.to_owned(), size };
        let segments = [segment("a", 3), segment("b", 0), segment("c", 4), segment("d", 2)];
        let of = |range: Range<u64>| {
            let pieces = pieces(&segments, &range).into_iter();
            pieces.map(|(file, range)| format!("{file}{}-{}", range.start, range.end)).collect()
        };
        let check = |range, expected: &[&str]| {
            let found: Vec<String> = of(range);
            assert_eq!(found, expected);
        };
        check(0..9, &["a0-3", "c0-4", "d0-2"]);
        check(2..4, &["a2-3", "c0-1"]);
        check(7..9, &["d0-2"]);
        check(0..0, &[]);
    }
}
