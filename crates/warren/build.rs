//! Packs the example project into the binary, so that `warren demo` needs nothing beside it.

use std::{env, error::Error, fs::File, path::Path};

/// What lies in the example beside the project itself.
const NOT_PROJECT: &[&str] = &["script.json", "README.md"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let example = Path::new(&root).join("../../examples/inventory");
    println!("cargo::rerun-if-changed={}", example.display());
    let packed = File::create(Path::new(&env::var("OUT_DIR")?).join("example.tar"))?;
    let mut tar = tar::Builder::new(packed);
    tar.mode(tar::HeaderMode::Deterministic);
    let mut entries: Vec<_> = example.read_dir()?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        if NOT_PROJECT.iter().any(|skipped| name == *skipped) || name == "__pycache__" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            tar.append_dir_all(&name, entry.path())?;
        } else {
            tar.append_path_with_name(entry.path(), &name)?;
        }
    }
    tar.finish()?;
    Ok(())
}
