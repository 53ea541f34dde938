//! The guest's RAM as a mapping of its VMM: which pages are its own, and the way to and from them.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::Path,
    ptr,
};

pub(crate) const PAGE_BYTES: u64 = 4096;

/// The RAM of one VMM.
#[derive(Debug)]
pub(crate) struct Ram {
    pid: i32,
    address: u64,
    bytes: u64,
}

impl Ram {
    /// Finds where a process maps `file`. By its inode: in its jail the file has another path.
    pub(crate) fn of(pid: i32, file: &Path) -> io::Result<Self> {
        let file = fs::metadata(file)?;
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let (address, bytes) = mapped(&maps, file.ino(), file.len())
            .ok_or_else(|| io::Error::other("the VMM does not map its template's memory"))?;
        Ok(Self { pid, address, bytes })
    }

    #[cfg(test)]
    pub(crate) fn at(pid: i32, address: u64, bytes: u64) -> Self {
        Self { pid, address, bytes }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Numbers of the pages that the process has written since it mapped the file, in ascending order.
    pub(crate) fn private_pages(&self) -> io::Result<Vec<Range<u64>>> {
        let pagemap = File::open(format!("/proc/{}/pagemap", self.pid))?;
        match self.scan(&pagemap) {
            // A kernel before 6.7.
            Err(e) if e.raw_os_error() == Some(libc::ENOTTY) => self.read_pagemap(&pagemap),
            result => result,
        }
    }

    fn scan(&self, pagemap: &File) -> io::Result<Vec<Range<u64>>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut regions = vec![scan::Region::default(); 4096];
        let end = self.address + self.bytes;
        let mut start = self.address;
        while start < end {
            let mut request = scan::Request {
                size: size_of::<scan::Request>() as u64,
                start,
                end,
                regions: regions.as_mut_ptr() as u64,
                regions_len: regions.len() as u64,
                category_inverted: scan::FILE,
                category_mask: scan::FILE,
                category_anyof_mask: scan::PRESENT | scan::SWAPPED,
                return_mask: scan::PRESENT | scan::SWAPPED,
                ..scan::Request::default()
            };
            // SAFETY: the kernel reads and writes one request and at most `regions_len` regions; both
            // live through the call.
            let filled =
                unsafe { libc::ioctl(pagemap.as_raw_fd(), scan::PAGEMAP_SCAN, &mut request) };
            if filled < 0 {
                return Err(io::Error::last_os_error());
            }
            let filled = filled as usize;
            for region in regions.iter().take(filled) {
                let pages = self.page_of(region.start)..self.page_of(region.end);
                match found.last_mut() {
                    Some(last) if last.end == pages.start => last.end = pages.end,
                    _ => found.push(pages),
                }
                start = region.end;
            }
            // `walk_end` is not to be relied on: Linux 6.18 leaves it where it last had to flush.
            if filled < regions.len() {
                break;
            }
        }
        Ok(found)
    }

    fn read_pagemap(&self, pagemap: &File) -> io::Result<Vec<Range<u64>>> {
        /// Bits of an entry: in memory, swapped out, a page of the file.
        const PRESENT_OR_SWAPPED: u64 = 3 << 62;
        const OF_FILE: u64 = 1 << 61;
        let pages = self.bytes / PAGE_BYTES;
        let mut entries = vec![0; (pages * 8) as usize];
        pagemap.read_exact_at(&mut entries, self.address / PAGE_BYTES * 8)?;
        let mut found: Vec<Range<u64>> = Vec::new();
        for (page, entry) in (0..pages).zip(entries.chunks_exact(8)) {
            let entry = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
            if entry & PRESENT_OR_SWAPPED == 0 || entry & OF_FILE != 0 {
                continue;
            }
            match found.last_mut() {
                Some(last) if last.end == page => last.end += 1,
                _ => found.push(page..page + 1),
            }
        }
        Ok(found)
    }

    fn page_of(&self, address: u64) -> u64 {
        (address - self.address) / PAGE_BYTES
    }

    /// Reads whole pages, from page `first` on.
    pub(crate) fn read(&self, first: u64, to: &mut [u8]) -> io::Result<()> {
        let length = to.len();
        let local = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: length };
        let remote = self.place(first, length);
        // SAFETY: the kernel writes into `to`, which lives through the call, and checks the other
        // process's range itself.
        let moved = unsafe {
            libc::process_vm_readv(self.pid, &raw const local, 1, &raw const remote, 1, 0)
        };
        whole(moved, length)
    }

    /// Writes pages into these places, one after the other; together they are as long as `from`.
    pub(crate) fn write(&self, places: &[Range<u64>], from: &[u8]) -> io::Result<()> {
        if from.is_empty() {
            return Ok(());
        }
        let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
        let remote: Vec<_> = places
            .iter()
            .map(|pages| self.place(pages.start, ((pages.end - pages.start) * PAGE_BYTES) as usize))
            .collect();
        let count = remote.len() as libc::c_ulong;
        // SAFETY: the kernel only reads `from` and `remote`, which live through the call, and checks the
        // other process's ranges itself.
        let moved = unsafe {
            libc::process_vm_writev(self.pid, &raw const local, 1, remote.as_ptr(), count, 0)
        };
        whole(moved, from.len())
    }

    fn place(&self, page: u64, bytes: usize) -> libc::iovec {
        let address = self.address + page * PAGE_BYTES;
        libc::iovec { iov_base: ptr::without_provenance_mut(address as usize), iov_len: bytes }
    }
}

fn whole(moved: isize, length: usize) -> io::Result<()> {
    match usize::try_from(moved) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(moved) if moved < length => {
            Err(io::Error::other(format!("only {moved} of {length} bytes of the VMM's memory")))
        }
        Ok(_) => Ok(()),
    }
}

/// Where a private mapping of the whole file is; it may be shown in several lines that follow one another.
fn mapped(maps: &str, inode: u64, bytes: u64) -> Option<(u64, u64)> {
    let mut found: Option<Range<u64>> = None;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next()?, fields.next()?);
        let line_inode: u64 = fields.nth(2)?.parse().ok()?;
        if line_inode != inode || !rights.ends_with('p') {
            continue;
        }
        let (start, end) = range.split_once('-')?;
        let (start, end) =
            (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        match &mut found {
            Some(range) if range.end == start => range.end = end,
            Some(_) => return None,
            none => *none = Some(start..end),
        }
    }
    let range = found?;
    (range.end - range.start == bytes).then_some((range.start, bytes))
}

/// A template's RAM file, to compare with.
pub(crate) struct TemplateRam {
    map: *const u8,
    bytes: usize,
    /// Pages that are no hole. What is read in a hole would take memory for nothing.
    data: Vec<Range<u64>>,
}

impl TemplateRam {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len() as usize;
        let data = data_of(&file, bytes as u64)?;
        // SAFETY: a new mapping that nothing else uses; it is read-only, as the file is.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { map: map.cast(), bytes, data })
    }

    /// None: a hole, which reads as zeroes.
    pub(crate) fn page(&self, number: u64) -> Option<&[u8]> {
        let next = self.data.partition_point(|range| range.end <= number);
        let inside = self.data.get(next).is_some_and(|range| range.contains(&number));
        let start = (number * PAGE_BYTES) as usize;
        if !inside || start + PAGE_BYTES as usize > self.bytes {
            return None;
        }
        // SAFETY: the page is inside the mapping, which lives as long as `self`; a template's files are
        // never written or shortened once it is whole.
        Some(unsafe { std::slice::from_raw_parts(self.map.add(start), PAGE_BYTES as usize) })
    }
}

impl Drop for TemplateRam {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `open` and no reference to it is left.
        unsafe { libc::munmap(self.map.cast_mut().cast(), self.bytes) };
    }
}

/// Pages of a file that have blocks on the disk.
fn data_of(file: &File, bytes: u64) -> io::Result<Vec<Range<u64>>> {
    let seek = |from: u64, whence| {
        // SAFETY: lseek takes integers.
        match unsafe { libc::lseek(file.as_raw_fd(), from as i64, whence) } {
            -1 => Err(io::Error::last_os_error()),
            at => Ok(at as u64),
        }
    };
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes {
        let start = match seek(at, libc::SEEK_DATA) {
            Ok(start) => start,
            // Only a hole is left.
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => break,
            Err(e) => return Err(e),
        };
        at = seek(start, libc::SEEK_HOLE)?;
        found.push(start / PAGE_BYTES..at.div_ceil(PAGE_BYTES));
    }
    Ok(found)
}

/// As linux/fs.h has it.
mod scan {
    pub(super) const FILE: u64 = 1 << 2;
    pub(super) const PRESENT: u64 = 1 << 3;
    pub(super) const SWAPPED: u64 = 1 << 4;
    /// `_IOWR('f', 16, struct pm_scan_arg)`.
    pub(super) const PAGEMAP_SCAN: libc::Ioctl = (3 << 30)
        | ((size_of::<Request>() as libc::Ioctl) << 16)
        | ((b'f' as libc::Ioctl) << 8)
        | 16;

    /// struct pm_scan_arg.
    #[repr(C)]
    #[derive(Default)]
    pub(super) struct Request {
        pub(super) size: u64,
        pub(super) flags: u64,
        pub(super) start: u64,
        pub(super) end: u64,
        pub(super) walk_end: u64,
        pub(super) regions: u64,
        pub(super) regions_len: u64,
        pub(super) max_pages: u64,
        pub(super) category_inverted: u64,
        pub(super) category_mask: u64,
        pub(super) category_anyof_mask: u64,
        pub(super) return_mask: u64,
    }

    /// struct page_region.
    #[repr(C)]
    #[derive(Default, Clone)]
    pub(super) struct Region {
        pub(super) start: u64,
        pub(super) end: u64,
        pub(super) categories: u64,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A private mapping of a file in this process, as a clone has one.
    pub(crate) struct Mapping(*mut u8, usize);

    impl Mapping {
        pub(crate) fn private(path: &Path, bytes: u64) -> Self {
            let file = File::open(path).unwrap();
            let (rights, bytes) = (libc::PROT_READ | libc::PROT_WRITE, bytes as usize);
            // SAFETY: a new mapping that nothing else uses.
            let map = unsafe {
                libc::mmap(ptr::null_mut(), bytes, rights, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
            };
            assert_ne!(map, libc::MAP_FAILED);
            Self(map.cast(), bytes)
        }
        pub(crate) fn address(&self) -> u64 {
            self.0 as u64
        }
        pub(crate) fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: the mapping is this long, writable and ours alone.
            unsafe { std::slice::from_raw_parts_mut(self.0, self.1) }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: made by `private`; nothing refers to it any more.
            unsafe { libc::munmap(self.0.cast(), self.1) };
        }
    }

    #[test]
    fn both_ways_of_looking_find_the_pages_that_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ram");
        fs::write(&path, vec![3; 64 * PAGE_BYTES as usize]).unwrap();
        let mut mapping = Mapping::private(&path, 64 * PAGE_BYTES);
        let mut sum = 0u32;
        for page in 0..64 {
            // Reading alone makes none its own.
            sum += u32::from(mapping.bytes()[page * PAGE_BYTES as usize]);
        }
        assert_eq!(sum, 3 * 64);
        for page in [0, 9, 10, 11, 63] {
            mapping.bytes()[page * PAGE_BYTES as usize] = 4;
        }
        let ram = Ram::of(std::process::id() as i32, &path).unwrap();
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let expected = [0..1, 9..12, 63..64];
        assert_eq!(ram.read_pagemap(&pagemap).unwrap(), expected);
        match ram.scan(&pagemap) {
            Err(e) if e.raw_os_error() == Some(libc::ENOTTY) => {}
            found => assert_eq!(found.unwrap(), expected),
        }
    }

    #[test]
    fn memory_in_very_many_pieces_is_found_once() {
        const PAGES: u64 = 24_000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ram");
        File::create(&path).unwrap().set_len(PAGES * PAGE_BYTES).unwrap();
        let mut mapping = Mapping::private(&path, PAGES * PAGE_BYTES);
        for page in (0..PAGES).step_by(2) {
            mapping.bytes()[(page * PAGE_BYTES) as usize] = 1;
        }
        let ram = Ram::of(std::process::id() as i32, &path).unwrap();
        let found = ram.private_pages().unwrap();
        assert_eq!(found.len() as u64, PAGES / 2);
        assert!(found.iter().zip(0..).all(|(pages, n)| *pages == (2 * n..2 * n + 1)), "{found:?}");
    }

    #[test]
    fn the_mapping_is_found_by_its_inode_and_must_be_whole() {
        let maps = "7f0000000000-7f0000001000 r--p 00000000 fe:00 11 /lib/x\n\
                    7f1000000000-7f1000100000 rw-p 00000000 fe:00 42 /ram\n\
                    7f1000100000-7f1000200000 rw-p 00100000 fe:00 42 /ram\n\
                    7f2000000000-7f2000001000 rw-p 00000000 00:00 0 \n";
        assert_eq!(mapped(maps, 42, 0x20_0000), Some((0x7f10_0000_0000, 0x20_0000)));
        assert_eq!(mapped(maps, 42, 0x30_0000), None);
        assert_eq!(mapped(maps, 43, 0x1000), None);
    }
}
