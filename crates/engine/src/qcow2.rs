//! An empty qcow2 overlay, written without starting a tool: a VM's own disk layer.
//!
//! The backing file is not named in the header; it is given on QEMU's command line as an open file.
//! Format: QEMU's `docs/interop/qcow2.txt`, version 3.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

const CLUSTER_BITS: u32 = 16;
const CLUSTER_BYTES: u64 = 1 << CLUSTER_BITS;
/// Header, refcount table, refcount block, L1 table: one cluster each.
const CLUSTERS: u64 = 4;
/// Bytes of the version 3 header.
const HEADER_BYTES: u32 = 104;
/// What one L1 entry covers: an L2 table of 8192 clusters.
const L1_ENTRY_COVERS_BYTES: u64 = CLUSTER_BYTES / 8 * CLUSTER_BYTES;
/// As many L1 entries as fit into the one cluster that is theirs: 4 TiB.
pub(crate) const DISK_BYTES_MAX: u64 = CLUSTER_BYTES / 8 * L1_ENTRY_COVERS_BYTES;

/// Writes an overlay for a disk of `disk_bytes`.
pub(crate) fn create_overlay(path: &Path, disk_bytes: u64) -> io::Result<()> {
    if disk_bytes == 0 || disk_bytes > DISK_BYTES_MAX {
        let text = format!("a disk of {disk_bytes} bytes; it may have 1 to {DISK_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut file = File::create_new(path)?;
    file.write_all(&metadata(disk_bytes))?;
    // The L1 table is all zeroes: a hole.
    file.set_len(CLUSTERS * CLUSTER_BYTES)
}

/// Whether nothing has been written to an overlay since it was created: QEMU only ever makes it longer.
pub(crate) fn is_empty(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.len() <= CLUSTERS * CLUSTER_BYTES)
}

fn metadata(disk_bytes: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(3 * CLUSTER_BYTES as usize);
    let u32be = |to: &mut Vec<u8>, value: u32| to.extend(value.to_be_bytes());
    let u64be = |to: &mut Vec<u8>, value: u64| to.extend(value.to_be_bytes());
    header.extend(b"QFI\xfb");
    u32be(&mut header, 3);
    u64be(&mut header, 0); // backing file name: none
    u32be(&mut header, 0);
    u32be(&mut header, CLUSTER_BITS);
    u64be(&mut header, disk_bytes);
    u32be(&mut header, 0); // not encrypted
    u32be(&mut header, disk_bytes.div_ceil(L1_ENTRY_COVERS_BYTES) as u32);
    u64be(&mut header, 3 * CLUSTER_BYTES); // L1 table
    u64be(&mut header, CLUSTER_BYTES); // refcount table
    u32be(&mut header, 1); // its clusters
    u32be(&mut header, 0); // internal snapshots
    u64be(&mut header, 0);
    u64be(&mut header, 0); // incompatible, compatible, auto-clear features
    u64be(&mut header, 0);
    u64be(&mut header, 0);
    u32be(&mut header, 4); // refcounts of 2^4 bits
    u32be(&mut header, HEADER_BYTES);
    // Zeroes end the list of header extensions.
    header.resize(CLUSTER_BYTES as usize, 0);
    u64be(&mut header, 2 * CLUSTER_BYTES); // the one refcount block
    header.resize(2 * CLUSTER_BYTES as usize, 0);
    for _ in 0..CLUSTERS {
        header.extend(1u16.to_be_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_what_qemu_looks_for() {
        let bytes = metadata(8 << 30);
        assert_eq!(&bytes[..8], b"QFI\xfb\0\0\0\x03");
        assert_eq!(bytes[24..32], (8u64 << 30).to_be_bytes());
        assert_eq!(bytes[36..40], 16u32.to_be_bytes(), "8 GiB are 16 entries of 512 MiB");
        assert_eq!(bytes[100..104], 104u32.to_be_bytes());
    }

    #[test]
    fn a_disk_that_does_not_fit_is_refused() {
        let path = std::env::temp_dir().join(format!("warren-qcow2-{}", std::process::id()));
        assert!(create_overlay(&path, DISK_BYTES_MAX + 1).is_err());
        assert!(create_overlay(&path, 0).is_err());
        assert!(!path.exists());
    }
}
