//! A skill as it is uploaded and as workers fetch it: one folder with a `SKILL.md` in it.
//!
//! Whatever the upload's form (files with their paths, or one zip), what is kept is one zip with
//! one folder at its top, named as the skill.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Write as _};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// All files of a skill together, in bytes, at most.
const BYTES_MAX: u64 = 128 * 1024 * 1024;
const NAME_CHARS_MAX: usize = 64;

/// A skill that can be kept.
#[derive(Debug)]
pub(crate) struct Skill {
    /// `name` of its front matter, or the folder's.
    pub(crate) name: String,
    /// `description` of its front matter.
    pub(crate) description: String,
    /// The zip.
    pub(crate) archive: Vec<u8>,
}

impl Skill {
    /// Reads an upload: paths and bytes. The error is for its author.
    pub(crate) fn read(files: Vec<(String, Vec<u8>)>) -> Result<Self, String> {
        let files = match <[_; 1]>::try_from(files) {
            Ok([(name, bytes)]) if name.to_ascii_lowercase().ends_with(".zip") => unzip(&bytes)?,
            Ok(one) => Vec::from(one),
            Err(files) => files,
        };
        let mut tops = files.iter().map(|(path, _)| path.split_once('/').map(|(top, _)| top));
        let top = tops.next().flatten().ok_or("files must lie in one top-level folder")?.to_owned();
        if tops.any(|other| other != Some(&top)) {
            return Err("all files must lie in the same top-level folder".into());
        }
        let mut inner = BTreeMap::new();
        for (path, bytes) in files {
            let (_, path) = path.split_once('/').unwrap_or_default();
            if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return Err(format!("{path:?} is no path inside the folder"));
            }
            inner.insert(path.to_owned(), bytes);
        }
        let head = inner.get("SKILL.md").ok_or("there is no SKILL.md at the top of the folder")?;
        let head = std::str::from_utf8(head).map_err(|_| "SKILL.md is not UTF-8")?;
        let member = |name| front_matter(head, name);
        let name = member("name").unwrap_or(top);
        let slug = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(slug) {
            return Err(format!(
                "the name {name:?} must have 1 to {NAME_CHARS_MAX} lower-case letters, digits and -"
            ));
        }
        let description = member("description").ok_or("SKILL.md has no description")?;
        let archive = archive(&name, &inner).map_err(|error| error.to_string())?;
        Ok(Self { name, description, archive })
    }
}

/// A member of the YAML between the two `---` lines; only plain and quoted texts are read.
fn front_matter(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines();
    (lines.next()?.trim_end() == "---").then_some(())?;
    let line = lines
        .take_while(|line| line.trim_end() != "---")
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let value = line.trim();
    let quoted =
        ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    Some(quoted.unwrap_or(value).to_owned()).filter(|value| !value.is_empty())
}

fn unzip(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let bad = |error: zip::result::ZipError| format!("the zip cannot be read: {error}");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(bad)?;
    let (mut files, mut room) = (Vec::new(), BYTES_MAX);
    for index in 0..archive.len() {
        let file = archive.by_index(index).map_err(bad)?;
        if file.is_dir() {
            continue;
        }
        let name = file.name().to_owned();
        let mut content = Vec::new();
        file.take(room + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
        room = room
            .checked_sub(content.len() as u64)
            .ok_or_else(|| format!("the zip holds more than {BYTES_MAX} bytes"))?;
        files.push((name, content));
    }
    Ok(files)
}

fn archive(top: &str, files: &BTreeMap<String, Vec<u8>>) -> zip::result::ZipResult<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (path, bytes) in files {
        // Scripts of a skill are run by their names.
        let mode = if bytes.starts_with(b"#!") { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(mode);
        writer.start_file(format!("{top}/{path}"), options)?;
        writer.write_all(bytes)?;
    }
    Ok(writer.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"---\nname: my-skill\ndescription: \"Does things\"\n---\n# My skill\n";

    #[test]
    fn a_zip_and_its_files_make_the_same_skill() {
        let files = vec![
            ("folder/SKILL.md".to_owned(), HEAD.to_vec()),
            ("folder/run.sh".to_owned(), b"#!/bin/sh\n".to_vec()),
        ];
        let skill = Skill::read(files).unwrap();
        assert_eq!((&*skill.name, &*skill.description), ("my-skill", "Does things"));
        let again = Skill::read(vec![("my.zip".to_owned(), skill.archive.clone())]).unwrap();
        assert_eq!(again.archive, skill.archive);
        let names: Vec<String> =
            unzip(&skill.archive).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["my-skill/SKILL.md", "my-skill/run.sh"]);
    }

    #[test]
    fn an_upload_that_is_no_skill_is_refused_with_the_reason() {
        let file = |path: &str, bytes: &[u8]| (path.to_owned(), bytes.to_vec());
        for (files, reason) in [
            (vec![file("SKILL.md", HEAD)], "files must lie in one top-level folder"),
            (vec![file("a/x", b"")], "there is no SKILL.md at the top of the folder"),
            (
                vec![file("a/SKILL.md", HEAD), file("b/x", b"")],
                "all files must lie in the same top-level folder",
            ),
            (vec![file("a/SKILL.md", HEAD), file("a/../x", b"")], "\"../x\" is no path"),
            (vec![file("a/SKILL.md", b"---\nname: b\n---\n")], "SKILL.md has no description"),
        ] {
            let error = Skill::read(files).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
