//! `warren image`: sends a directory to be built and shows how far it is; lists, removes, carries to
//! other hosts.

use super::Context;
use crate::{
    args,
    client::{Call, Client, ClientError, Lines},
    failure::{Exit, Failure, Outcome, Remedy},
    image_file::{self, ImageFile, Overrides},
    print::Format,
    progress::Progress,
    protocol::{
        ARTIFACT_BYTES_MAX, BuildLine, IMAGE_EXPORT, IMAGE_HEADER, IMAGE_IMPORT, IMAGE_PRUNE,
        IMAGES, Image, ImageBundle, ImageRequest, PrunedImages, SERVICE,
    },
};
use hyper::{Method, Response, body::Incoming};
use std::{
    fs,
    io::{self, Cursor, Read, Seek, Write},
    path::{Path, PathBuf},
};
use zip::{ZipWriter, result::ZipError, write::SimpleFileOptions};

/// Most that a directory may hold before it is zipped, in bytes: all of it passes through memory.
const CONTENT_BYTES_MAX: u64 = 4 * ARTIFACT_BYTES_MAX as u64;

#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error("{dir} has no Dockerfile")]
    NoDockerfile { dir: PathBuf },
    #[error("{path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} cannot be packed")]
    Unpackable {
        path: PathBuf,
        #[source]
        source: ZipError,
    },
    #[error(
        "{dir} is too large: {} MiB, or {} MiB when zipped, is the most",
        CONTENT_BYTES_MAX / 1024 / 1024,
        ARTIFACT_BYTES_MAX / 1024 / 1024
    )]
    TooLong { dir: PathBuf },
    #[error("{name:?} is no name for an image")]
    BadName { name: String },
    #[error("the build failed: {error}")]
    Failed { error: String, hint: Option<String> },
}

impl Remedy for BuildError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoDockerfile { .. } => {
                Some("name the directory that holds the Dockerfile".into())
            }
            Self::BadName { .. } => {
                Some("--name NAME, of letters, digits, '-' and '_', at most 64".into())
            }
            Self::TooLong { .. } => Some("let the Dockerfile fetch what is big".into()),
            Self::Failed { hint, .. } => hint.clone(),
            Self::Unreadable { .. } | Self::Unpackable { .. } => None,
        }
    }
}

pub(crate) async fn image(context: &Context, image: args::Image) -> Outcome {
    let client = context.client()?;
    match image {
        args::Image::Build(build) => return self::build(context, &client, build).await,
        args::Image::Ls => {
            let images: Vec<Image> = client.own(Method::GET, IMAGES).await?;
            if images.is_empty() && context.printer.format() == Format::Human {
                context.printer.note("there is no image; `warren image build DIR` makes one");
            } else {
                context.printer.rows(&images)?;
            }
        }
        args::Image::Rm { name } => {
            let path = format!("{IMAGES}/{name}");
            let _: serde_json::Value = client.own(Method::DELETE, &path).await?;
            context.printer.line(name)?;
        }
        args::Image::Export { name, file, version } => {
            let asked = ImageBundle { name: Some(name), version, file: absolute(file)? };
            let written: ImageBundle = client.own_post(IMAGE_EXPORT, &asked).await?;
            context.printer.line(written.file.display())?;
        }
        args::Image::Import { file, name } => {
            let asked = ImageBundle { name, version: None, file: absolute(file)? };
            let answer = client.own_post_stream(IMAGE_IMPORT, &asked).await?;
            return show(context, answer).await;
        }
        args::Image::Prune => {
            let pruned: PrunedImages = client.own(Method::POST, IMAGE_PRUNE).await?;
            context.printer.rows(&[pruned])?;
        }
    }
    Ok(Exit::Success)
}

async fn build(context: &Context, client: &Client, build: args::ImageBuild) -> Outcome {
    let asked = image_request(&build)?;
    let artifact = pack(&build.dir)?;
    let header = serde_json::to_string(&asked)
        .map_err(|e| ClientError::BadAnswer { path: IMAGES.into(), reason: e.to_string() })?;
    let answer = client
        .send(Call {
            service: SERVICE,
            method: Method::POST,
            path: IMAGES,
            headers: &[("content-type", "application/zip"), (IMAGE_HEADER, &header)],
            body: artifact.into(),
        })
        .await?;
    show(context, answer).await
}

/// As this process sees it; the service may stand elsewhere.
fn absolute(file: PathBuf) -> Result<PathBuf, BuildError> {
    std::path::absolute(&file).map_err(|source| BuildError::Unreadable { path: file, source })
}

/// Shows a build until its end.
async fn show(context: &Context, answer: Response<Incoming>) -> Outcome {
    let mut lines = Lines::new(IMAGES, answer);
    let mut progress = Progress::new(&context.printer);
    while let Some(line) = lines.next().await? {
        if context.printer.format() == Format::Json {
            context.printer.record(&line)?;
        }
        match line {
            BuildLine::Stage { stage } => progress.stage(&stage),
            BuildLine::Log { text } => progress.log(&text),
            BuildLine::Built { image } => {
                progress.finish();
                if context.printer.format() == Format::Human {
                    context.printer.rows(&[image])?;
                }
                return Ok(Exit::Success);
            }
            BuildLine::Failed { error, hint } => {
                progress.fail();
                return Err(BuildError::Failed { error, hint }.into());
            }
        }
    }
    Err(ClientError::BadAnswer {
        path: IMAGES.into(),
        reason: "it ended before the build did".into(),
    }
    .into())
}

fn image_request(build: &args::ImageBuild) -> Result<ImageRequest, Failure> {
    let path = build.dir.join(image_file::FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(BuildError::Unreadable { path, source }.into()),
    };
    let overrides =
        Overrides { name: build.name.clone(), memory: build.memory, hooks_port: build.hooks_port };
    let directory = fs::canonicalize(&build.dir).ok();
    let directory = directory.as_deref().and_then(Path::file_name).unwrap_or_default();
    let directory = directory.to_string_lossy().into_owned();
    let mut asked = ImageFile::parse(path, &text)?.resolve(overrides, directory);
    asked.environment.clone_from(&build.env);
    if control::ImageName::parse(&asked.name).is_err() {
        return Err(BuildError::BadName { name: asked.name }.into());
    }
    Ok(asked)
}

/// The directory as a zip, with modes and symbolic links as they are.
fn pack(dir: &Path) -> Result<Vec<u8>, BuildError> {
    if !dir.join("Dockerfile").is_file() {
        return Err(BuildError::NoDockerfile { dir: dir.to_owned() });
    }
    let too_long = || BuildError::TooLong { dir: dir.to_owned() };
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let mut room = CONTENT_BYTES_MAX;
    for entry in walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|e| BuildError::Unreadable {
            path: e.path().unwrap_or(dir).to_owned(),
            source: e.into(),
        })?;
        let size = entry.metadata().map_or(0, |meta| if meta.is_file() { meta.len() } else { 0 });
        // Known before it is read: a disk image in there would be squeezed for minutes.
        room = room.checked_sub(size).ok_or_else(too_long)?;
        add(&mut zip, dir, entry.path())?;
    }
    let packed = zip
        .finish()
        .map_err(|source| BuildError::Unpackable { path: dir.to_owned(), source })?
        .into_inner();
    if packed.len() > ARTIFACT_BYTES_MAX { Err(too_long()) } else { Ok(packed) }
}

fn add<W: Write + Seek>(zip: &mut ZipWriter<W>, dir: &Path, path: &Path) -> Result<(), BuildError> {
    use std::os::unix::fs::PermissionsExt;
    let unreadable = |source| BuildError::Unreadable { path: path.to_owned(), source };
    let unpackable = |source| BuildError::Unpackable { path: path.to_owned(), source };
    let name = path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned();
    let meta = fs::symlink_metadata(path).map_err(unreadable)?;
    let options = SimpleFileOptions::default().unix_permissions(meta.permissions().mode() & 0o7777);
    if meta.is_dir() {
        zip.add_directory(name, options).map_err(unpackable)
    } else if meta.is_symlink() {
        let target = fs::read_link(path).map_err(unreadable)?;
        zip.add_symlink(name, target.to_string_lossy(), options).map_err(unpackable)
    } else if meta.is_file() {
        zip.start_file(name, options).map_err(unpackable)?;
        // One that grows meanwhile is cut: it is no file to put into an image.
        let mut file = fs::File::open(path).map_err(unreadable)?.take(meta.len());
        io::copy(&mut file, zip).map(|_| ()).map_err(unreadable)
    } else {
        // Sockets and devices have no place in an artifact.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_a_dockerfile_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = pack(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("has no Dockerfile"));
    }

    #[test]
    fn a_directory_that_is_too_large_is_refused_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        let disk = fs::File::create(dir.path().join("disk.img")).unwrap();
        disk.set_len(CONTENT_BYTES_MAX + 1).unwrap();
        assert!(matches!(pack(dir.path()), Err(BuildError::TooLong { .. })));
    }

    #[test]
    fn an_artifact_keeps_modes_and_links() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Dockerfile"), "FROM scratch\n").unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        let tool = dir.path().join("bin/tool");
        fs::write(&tool, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        symlink("tool", dir.path().join("bin/alias")).unwrap();
        let mut zip = zip::ZipArchive::new(Cursor::new(pack(dir.path()).unwrap())).unwrap();
        assert_eq!(zip.by_name("bin/tool").unwrap().unix_mode().map(|m| m & 0o777), Some(0o755));
        assert!(zip.by_name("bin/alias").unwrap().is_symlink());
        assert!(zip.by_name("Dockerfile").is_ok());
    }
}
