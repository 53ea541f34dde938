//! A VM's memory on disk: only the pages that differ from its template's.
//!
//! A clone maps its template's RAM privately, so the kernel knows which pages it has written: those
//! that are not the file's any more. Of these, what is equal to the template's page is left out, and
//! what is zero takes no room.
//!
//! ```text
//! header (4096 bytes) | pages, in the order of the runs | runs: { first page u64, pages u32, kind u32 }
//! ```
//! All numbers are little-endian. The header is written last; a file that was broken off has none.

use super::memory::{PAGE_BYTES, Ram, TemplateRam};
use std::{
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::Path,
};

const MAGIC: &[u8; 8] = b"WARRENPG";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 4096;
/// Magic, version, page size, bytes of RAM, number of runs, bytes of pages.
const HEADER_USED_BYTES: usize = 40;
const RUN_BYTES: u64 = 16;
/// Pages are moved in pieces of this many.
const PIECE_PAGES: u64 = 256;
/// The kernel takes no more places in one call (UIO_MAXIOV).
const PLACES_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data = 0,
    Zero = 1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    pages: u64,
    kind: Kind,
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not the memory of a VM: {what}"))
}

/// Writes what `ram` has of its own; the process must stand still. Not synced.
pub(crate) fn save(ram: &Ram, template: &TemplateRam, path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    let mut writer = Writer { to: BufWriter::with_capacity(1 << 20, file), runs: Vec::new() };
    writer.to.seek(SeekFrom::Start(HEADER_BYTES))?;
    let mut piece = vec![0; (PIECE_PAGES * PAGE_BYTES) as usize];
    for region in ram.private_pages()? {
        let mut at = region.start;
        while at < region.end {
            let pages = at..region.end.min(at + PIECE_PAGES);
            let bytes = &mut piece[..((pages.end - at) * PAGE_BYTES) as usize];
            ram.read(at, bytes)?;
            writer.add(pages.clone(), bytes, template)?;
            at = pages.end;
        }
    }
    writer.finish(ram.bytes())
}

struct Writer {
    to: BufWriter<File>,
    runs: Vec<Run>,
}

impl Writer {
    fn add(&mut self, pages: Range<u64>, bytes: &[u8], template: &TemplateRam) -> io::Result<()> {
        for (number, page) in pages.zip(bytes.chunks_exact(PAGE_BYTES as usize)) {
            let base = template.page(number);
            let kind = if is_zero(page) { Kind::Zero } else { Kind::Data };
            let same = match kind {
                Kind::Zero => base.is_none_or(is_zero),
                Kind::Data => base.is_some_and(|base| base == page),
            };
            if same {
                continue;
            }
            if kind == Kind::Data {
                self.to.write_all(page)?;
            }
            match self.runs.last_mut() {
                Some(run)
                    if run.kind == kind
                        && run.first + run.pages == number
                        && run.pages < u64::from(u32::MAX) =>
                {
                    run.pages += 1;
                }
                _ => self.runs.push(Run { first: number, pages: 1, kind }),
            }
        }
        Ok(())
    }

    fn finish(mut self, ram_bytes: u64) -> io::Result<()> {
        for run in &self.runs {
            self.to.write_all(&run.first.to_le_bytes())?;
            self.to.write_all(&(run.pages as u32).to_le_bytes())?;
            self.to.write_all(&(run.kind as u32).to_le_bytes())?;
        }
        let data = self.runs.iter().filter(|run| run.kind == Kind::Data);
        let data_bytes: u64 = data.map(|run| run.pages * PAGE_BYTES).sum();
        let mut header = Vec::with_capacity(HEADER_USED_BYTES);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend((PAGE_BYTES as u32).to_le_bytes());
        header.extend(ram_bytes.to_le_bytes());
        header.extend((self.runs.len() as u64).to_le_bytes());
        header.extend(data_bytes.to_le_bytes());
        self.to.seek(SeekFrom::Start(0))?;
        self.to.write_all(&header)?;
        self.to.flush()
    }
}

fn is_zero(page: &[u8]) -> bool {
    // SAFETY: every bit pattern is a u128, and `align_to` keeps to the page.
    let (before, middle, after) = unsafe { page.align_to::<u128>() };
    before.iter().all(|&b| b == 0)
        && middle.iter().all(|&w| w == 0)
        && after.iter().all(|&b| b == 0)
}

/// Writes the pages of a file into the memory of a VMM that maps the same template.
pub(crate) fn restore(path: &Path, ram: &Ram) -> io::Result<()> {
    let mut file = File::open(path)?;
    let runs = read_runs(&mut file, ram.bytes())?;
    file.seek(SeekFrom::Start(HEADER_BYTES))?;
    let mut piece = vec![0; (PIECE_PAGES * PAGE_BYTES) as usize];
    let mut places: Vec<Range<u64>> = Vec::new();
    let mut pages = 0;
    for run in runs.iter().filter(|run| run.kind == Kind::Data) {
        let mut first = run.first;
        let end = run.first + run.pages;
        while first < end {
            let part = first..end.min(first + PIECE_PAGES - pages);
            pages += part.end - part.start;
            first = part.end;
            places.push(part);
            if pages == PIECE_PAGES || places.len() == PLACES_MAX {
                fill(ram, &mut file, &mut places, &mut piece)?;
                pages = 0;
            }
        }
    }
    fill(ram, &mut file, &mut places, &mut piece)?;
    piece.fill(0);
    for run in runs.iter().filter(|run| run.kind == Kind::Zero) {
        let end = run.first + run.pages;
        for first in (run.first..end).step_by(PIECE_PAGES as usize) {
            let part = first..end.min(first + PIECE_PAGES);
            let bytes = ((part.end - part.start) * PAGE_BYTES) as usize;
            ram.write(&[part], &piece[..bytes])?;
        }
    }
    Ok(())
}

/// Reads as many pages as the places take, and puts them there.
fn fill(
    ram: &Ram,
    from: &mut impl Read,
    places: &mut Vec<Range<u64>>,
    piece: &mut [u8],
) -> io::Result<()> {
    let pages: u64 = places.iter().map(|place| place.end - place.start).sum();
    let bytes = &mut piece[..(pages * PAGE_BYTES) as usize];
    from.read_exact(bytes)?;
    ram.write(places, bytes)?;
    places.clear();
    Ok(())
}

/// Reads and checks the header and the runs.
fn read_runs(file: &mut File, ram_bytes: u64) -> io::Result<Vec<Run>> {
    let length = file.metadata()?.len();
    let mut header = [0; HEADER_USED_BYTES];
    file.read_exact(&mut header).map_err(|_| broken("it is too short"))?;
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
    if &header[..8] != MAGIC {
        return Err(broken("it has no such header"));
    }
    if (u32_at(8), u32_at(12)) != (VERSION, PAGE_BYTES as u32) {
        return Err(broken("it is of another version of this format"));
    }
    if u64_at(16) != ram_bytes {
        return Err(broken("it is of a VM with another amount of memory"));
    }
    let (count, data_bytes) = (u64_at(24), u64_at(32));
    let table = count.checked_mul(RUN_BYTES);
    let expected = table.and_then(|table| HEADER_BYTES.checked_add(data_bytes)?.checked_add(table));
    if expected != Some(length.max(HEADER_BYTES)) {
        return Err(broken("its length is not what its header says"));
    }
    file.seek(SeekFrom::Start(HEADER_BYTES + data_bytes))?;
    let mut table = Vec::new();
    file.take(length).read_to_end(&mut table)?;
    let mut runs = Vec::with_capacity(count as usize);
    let mut free = 0;
    let mut data = 0;
    for entry in table.chunks_exact(RUN_BYTES as usize) {
        let (first, rest) = entry.split_at(8);
        let (pages, kind) = rest.split_at(4);
        let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        let kind = match number(kind) {
            0 => Kind::Data,
            1 => Kind::Zero,
            _ => return Err(broken("a run of an unknown kind")),
        };
        let first = u64::from_le_bytes(first.try_into().unwrap_or_default());
        let pages = u64::from(number(pages));
        let end = first.checked_add(pages).ok_or_else(|| broken("a run without an end"))?;
        if first < free || pages == 0 || end > ram_bytes / PAGE_BYTES {
            return Err(broken("its runs do not follow one another inside the memory"));
        }
        free = end;
        data += if kind == Kind::Data { pages * PAGE_BYTES } else { 0 };
        runs.push(Run { first, pages, kind });
    }
    if data != data_bytes {
        return Err(broken("its runs are not as long as its pages"));
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    const PAGES: u64 = 1000;

    /// A template's RAM file: pages of their own number, but a hole from 500 to 700.
    fn template(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("ram");
        let file = File::create(&path).unwrap();
        file.set_len(PAGES * PAGE_BYTES).unwrap();
        for page in (0..500).chain(700..PAGES) {
            let bytes = [page as u8 | 1; PAGE_BYTES as usize];
            file.write_all_at(&bytes, page * PAGE_BYTES).unwrap();
        }
        path
    }

    fn memory(path: &Path) -> (super::super::memory::tests::Mapping, Ram) {
        let mapping = super::super::memory::tests::Mapping::private(path, PAGES * PAGE_BYTES);
        let ram = Ram::at(std::process::id() as i32, mapping.address(), PAGES * PAGE_BYTES);
        (mapping, ram)
    }

    #[test]
    fn memory_comes_back_as_it_was_and_takes_only_what_differs() {
        let dir = tempfile::tempdir().unwrap();
        let (ram_file, saved) = (template(dir.path()), dir.path().join("memory"));
        let (mut source, ram) = memory(&ram_file);
        let bytes = source.bytes();
        let page = |n: usize| n * PAGE_BYTES as usize..(n + 1) * PAGE_BYTES as usize;
        for n in (10..300).chain([420, 600, 999]) {
            bytes[page(n)].fill(0xA4);
        }
        for n in [5, 6, 7, 400] {
            bytes[page(n)].fill(0); // Zero, where the template is not.
        }
        bytes[page(450)].fill(450_u16 as u8 | 1); // Written, and the same as before.
        bytes[page(650)][17] = 0; // Written in the hole, and zero still.
        let expected = bytes.to_vec();
        save(&ram, &TemplateRam::open(&ram_file).unwrap(), &saved).unwrap();

        let mut file = File::open(&saved).unwrap();
        let runs = read_runs(&mut file, PAGES * PAGE_BYTES).unwrap();
        let of =
            |kind| runs.iter().filter(|run| run.kind == kind).map(|run| run.pages).sum::<u64>();
        assert_eq!((of(Kind::Data), of(Kind::Zero)), (293, 4));

        let (mut target, ram) = memory(&ram_file);
        restore(&saved, &ram).unwrap();
        assert!(target.bytes() == expected, "the restored memory differs");
    }

    #[test]
    fn a_file_that_is_cut_or_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (ram_file, saved) = (template(dir.path()), dir.path().join("memory"));
        let (mut source, ram) = memory(&ram_file);
        source.bytes()[..100_000].fill(7);
        save(&ram, &TemplateRam::open(&ram_file).unwrap(), &saved).unwrap();
        let whole = std::fs::read(&saved).unwrap();
        let refused = |bytes: &[u8]| {
            std::fs::write(&saved, bytes).unwrap();
            restore(&saved, &ram).is_err()
        };
        for length in [0, 8, 40, 4096, 5000, whole.len() - 1] {
            assert!(refused(&whole[..length]), "{length} bytes");
        }
        for at in [0, 8, 12, 16, 24, 32, whole.len() - 9, whole.len() - 8, whole.len() - 4] {
            let mut changed = whole.clone();
            changed[at] ^= 0x41;
            assert!(refused(&changed), "byte {at}");
        }
        assert!(!refused(&whole));
    }
}
