//! The initial RAM disk: PID 1 and the modules that it loads, as a cpio archive ("newc").

use crate::{EngineError, state::host_error};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
};

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

/// Builds it unless it is there; the name holds the digest of what is in it.
pub(crate) fn build(guest: &Path, modules: &Path, into: &Path) -> Result<PathBuf, EngineError> {
    let read = |path: &Path| fs::read(path).map_err(|e| host_error(path, "read", e));
    let order = read(&modules.join("order"))?;
    let mut archive = Archive::default();
    archive.add("dev", DIRECTORY, &[]);
    archive.add("init", EXECUTABLE, &read(guest)?);
    archive.add("modules", DIRECTORY, &[]);
    archive.add("modules/order", FILE, &order);
    for file in String::from_utf8_lossy(&order).split_whitespace() {
        archive.add(&format!("modules/{file}"), FILE, &read(&modules.join(file))?);
    }
    let bytes = archive.finish();
    let digest = hex::encode(&Sha256::digest(&bytes)[..8]);
    let path = into.join(format!("initrd-{digest}.cpio"));
    if !path.exists() {
        crate::state::write_whole(&path, &bytes)?;
    }
    Ok(path)
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inode += 1;
        let name_bytes = name.len() + 1;
        let fields = [
            self.inode,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // time
            content.len() as u32,
            0, // device
            0,
            0, // special device
            0,
            name_bytes as u32,
            0, // checksum, unused in this form
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[]);
        self.bytes
    }
}
