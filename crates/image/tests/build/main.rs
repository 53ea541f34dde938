//! Real builds with buildah and mke2fs, from `FROM scratch`: no network, no base, a second each.
//! They need root, as every build does.

mod registry;

use image::{
    BuildError, BuildRequest, BuildStage, BuiltImage, ImageBuilder, ImageConfig, Progress, Pruning,
    Reach, ReasonCode,
};
use registry::{Image, Registry};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;
use tokio::sync::mpsc;

struct Machine {
    dir: TempDir,
    builder: ImageBuilder,
}

impl Machine {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(configure: impl FnOnce(&mut ImageConfig)) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "image builds need root: run it through sudo"
        );
        let dir = tempfile::tempdir().unwrap();
        let mut config = ImageConfig::new(dir.path().join("share"), dir.path().join("work"));
        config.disk_bytes = 64 << 20;
        configure(&mut config);
        Self { builder: ImageBuilder::new(config), dir }
    }

    /// An artifact with this Dockerfile and a small file to copy.
    fn artifact(&self, dockerfile: &str) -> PathBuf {
        self.artifact_with(dockerfile, "hello", b"hello\n")
    }

    fn artifact_with(&self, dockerfile: &str, name: &str, content: &[u8]) -> PathBuf {
        self.zip(dockerfile, &[(name.to_owned(), content.to_vec())])
    }

    /// With more files.
    fn artifact_of(&self, dockerfile: &str, files: &[(String, Vec<u8>)]) -> PathBuf {
        let mut files = files.to_vec();
        files.push(("hello".to_owned(), b"hello\n".to_vec()));
        self.zip(dockerfile, &files)
    }

    fn zip(&self, dockerfile: &str, files: &[(String, Vec<u8>)]) -> PathBuf {
        let path = self.dir.path().join("artifact.zip");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file("Dockerfile", options).unwrap();
        zip.write_all(dockerfile.as_bytes()).unwrap();
        for (name, content) in files {
            zip.start_file(name, options.unix_permissions(0o750)).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    /// No temporary file, no process, no group, no link.
    fn assert_nothing_is_left(&self) {
        let storage = self.dir.path().join("share/containers");
        assert_eq!(fs::read_dir(storage.join("tmp")).unwrap().count(), 0);
        let containers =
            fs::read_to_string(storage.join("root/overlay-containers/containers.json"));
        assert!(matches!(containers.unwrap_or_default().trim(), "" | "[]" | "null"));
        let rootfs = fs::read_dir(self.dir.path().join("work/rootfs")).unwrap();
        let names = rootfs.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(names.into_iter().all(|name| !name.starts_with("making-")));
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "{mounts}");
    }

    async fn build(&self, artifact: PathBuf) -> (Result<BuiltImage, BuildError>, Vec<Progress>) {
        self.build_reaching(artifact, Reach::Nothing).await
    }

    async fn build_reaching(
        &self,
        artifact: PathBuf,
        reach: Reach,
    ) -> (Result<BuiltImage, BuildError>, Vec<Progress>) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let request = BuildRequest { artifact, reach };
        let result = self.builder.build(request, sender).await;
        let mut progress = Vec::new();
        while let Some(event) = receiver.recv().await {
            progress.push(event);
        }
        (result, progress)
    }
}

/// What debugfs says to one request about a disk.
fn debugfs(disk: &Path, request: &str) -> String {
    let output =
        Command::new("/usr/sbin/debugfs").args(["-R", request]).arg(disk).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

const DOCKERFILE: &str = "FROM scratch
COPY --chown=7:8 hello /bin/hello
ENV GREETING=hello
USER 7
VOLUME /data/files
WORKDIR /home
ENTRYPOINT [\"/bin/hello\"]
CMD [\"world\"]
";

#[tokio::test]
async fn a_dockerfile_becomes_a_disk_and_an_app() {
    let machine = Machine::new();
    let (built, progress) = machine.build(machine.artifact(DOCKERFILE)).await;
    let built = built.unwrap();

    assert_eq!(built.app.argv, ["/bin/hello", "world"]);
    assert_eq!((built.app.user.as_str(), built.app.working_dir.as_str()), ("7", "/home"));
    assert!(built.app.env.contains(&("GREETING".to_owned(), "hello".to_owned())));
    assert_eq!(debugfs(&built.rootfs, "cat /bin/hello"), "hello\n");
    let stat = debugfs(&built.rootfs, "stat /bin/hello");
    assert!(stat.contains("Mode:  0750"), "{stat}");
    assert!(stat.contains("User:     7   Group:     8"), "{stat}");
    assert_eq!(debugfs(&built.rootfs, "cat /etc/resolv.conf"), "nameserver 10.0.0.1\n");
    let stat = debugfs(&built.rootfs, "stat /tmp");
    assert!(stat.contains("Mode:  01777"), "{stat}");
    assert!(debugfs(&built.rootfs, "stat /data/files").contains("Type: directory"));
    assert_eq!(fs::metadata(&built.rootfs).unwrap().len(), 64 << 20);
    assert!(built.rootfs_bytes < 16 << 20, "not sparse: {}", built.rootfs_bytes);
    assert!(progress.contains(&Progress::Stage(BuildStage::Disk)));

    // The same again: nothing to do, the same names.
    let (again, progress) = machine.build(machine.artifact(DOCKERFILE)).await;
    assert_eq!(again.unwrap(), built);
    assert!(progress.contains(&Progress::Stage(BuildStage::Cached)));
    assert!(!progress.contains(&Progress::Stage(BuildStage::Container)));

    machine.assert_nothing_is_left();
}

#[tokio::test]
async fn a_failing_step_gives_its_output() {
    let machine = Machine::new();
    let (built, _) = machine.build(machine.artifact("FROM scratch\nCOPY missing /\n")).await;
    let error = built.unwrap_err();
    assert_eq!(error.reason(), ReasonCode::ContainerBuildFailed);
    assert!(error.log_tail().iter().any(|line| line.contains("missing")), "{error:?}");
    machine.assert_nothing_is_left();
}

#[tokio::test]
async fn a_cancelled_build_leaves_nothing() {
    // The build waits for its base image for as long as this registry does not answer.
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let machine = Machine::with(|config| {
        config.plain_registries.insert(address.to_string());
    });
    let artifact = machine.artifact(&format!("FROM {address}/never\nCMD [\"/hello\"]\n"));
    tokio::select! {
        (built, _) = machine.build(artifact) => panic!("it ended: {built:?}"),
        connected = server.accept() => drop(connected.unwrap()),
    }
    machine.builder.shut_down().await;
    machine.assert_nothing_is_left();
}

#[tokio::test]
async fn a_step_reaches_nothing_of_this_host() {
    let server = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let machine = Machine::new();
    // The loopback is the build's own; 198.51.100.x is this host, seen from the build.
    for (reach, host) in [(Reach::Internet, "127.0.0.1"), (Reach::Nothing, "198.51.100.1")] {
        let step = format!("ADD http://{host}:{port}/secret /secret");
        let artifact = machine.artifact(&format!("FROM scratch\n{step}\nCMD [\"/x\"]\n"));
        tokio::select! {
            (built, _) = machine.build_reaching(artifact, reach) => {
                let error = built.unwrap_err();
                assert_eq!(error.reason(), ReasonCode::ContainerBuildFailed, "{error:?}");
            }
            _ = server.accept() => panic!("{host} was reached"),
        }
    }
    machine.assert_nothing_is_left();
}

#[tokio::test]
async fn an_image_begins_with_a_layout_an_archive_or_what_a_registry_has() {
    let (registry, image) = (Registry::start(), Image::new());
    let address = registry.serve(&image);
    let archive = tempfile::NamedTempFile::new().unwrap();
    fs::write(archive.path(), image.archive()).unwrap();
    fs::set_permissions(archive.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let machine = Machine::with(|config| {
        config.plain_registries.insert(address.clone());
        let here = format!("oci-archive:{}", archive.path().display());
        config.aliases.insert("far.example/base:1".to_owned(), here);
    });
    let layout: Vec<(String, Vec<u8>)> = image.layout("base/");
    for from in ["oci:base", "far.example/base:1", &format!("{address}/some/base:1")] {
        let dockerfile = format!("FROM {from}\nCOPY hello /hello\nENTRYPOINT [\"/app\"]\n");
        let (built, seen) = machine.build(machine.artifact_of(&dockerfile, &layout)).await;
        let built = built.unwrap();
        assert_eq!(debugfs(&built.rootfs, "cat /from-base"), "from the base\n", "{from}");
        assert!(built.app.env.contains(&("OF_BASE".to_owned(), "yes".to_owned())), "{from}");
        assert!(seen.contains(&Progress::Stage(BuildStage::Fetching)), "{from}");
    }
    // A registry that is gone: what was fetched before is taken, and nothing is built.
    drop(registry);
    let dockerfile =
        format!("FROM {address}/some/base:1\nCOPY hello /hello\nENTRYPOINT [\"/app\"]\n");
    let (built, seen) = machine.build(machine.artifact_of(&dockerfile, &layout)).await;
    built.unwrap();
    assert!(seen.contains(&Progress::Stage(BuildStage::Cached)), "{seen:?}");

    let missing = format!("FROM {address}/other\nCMD [\"/x\"]\n");
    let error = machine.build(machine.artifact(&missing)).await.0.unwrap_err();
    assert_eq!(error.reason(), ReasonCode::ContainerBuildFailed);
    assert!(error.to_string().contains("/other cannot be fetched"), "{error}");
}

#[tokio::test]
async fn an_image_larger_than_its_disk_is_refused() {
    let machine = Machine::new();
    let dockerfile = "FROM scratch\nCOPY . /\nCMD [\"/large\"]\n";
    let mut content = vec![0; 80 << 20];
    content.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 8 * 31) as u8);
    let (built, _) = machine.build(machine.artifact_with(dockerfile, "large", &content)).await;
    let error = built.unwrap_err();
    assert_eq!(error.reason(), ReasonCode::DiskStorageFull, "{error:?}");
    machine.assert_nothing_is_left();
}

#[tokio::test]
async fn what_a_crash_left_is_swept() {
    let machine = Machine::new();
    let (share, work) = (machine.dir.path().join("share"), machine.dir.path().join("work"));
    fs::create_dir_all(share.join("containers/tmp/crash/dev")).unwrap();
    fs::create_dir_all(work.join("rootfs/making-half")).unwrap();
    fs::write(work.join("rootfs/making-half/disk"), "half").unwrap();
    machine.build(machine.artifact(DOCKERFILE)).await.0.unwrap();
    machine.assert_nothing_is_left();
}

#[tokio::test]
async fn an_etc_that_is_a_link_leads_to_a_directory_of_the_same_disk() {
    let machine = Machine::new();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    tar.append_link(&mut header, "etc", "/real").unwrap();
    let tar = tar.into_inner().unwrap();
    let dockerfile = "FROM scratch\nWORKDIR /real\nADD link.tar /\nCMD [\"/x\"]\n";
    let built = machine.build(machine.artifact_with(dockerfile, "link.tar", &tar)).await.0.unwrap();
    assert_eq!(debugfs(&built.rootfs, "cat /real/resolv.conf"), "nameserver 10.0.0.1\n");
}

#[tokio::test]
async fn a_disk_goes_unless_something_is_made_from_it() {
    let machine = Machine::new();
    let built = machine.build(machine.artifact(DOCKERFILE)).await.0.unwrap();
    let used = machine.builder.disk(&built.disk, machine.dir.path()).unwrap().unwrap();
    assert_eq!(machine.builder.prune(Pruning::Everything).await.unwrap().disks, 0);
    assert!(built.rootfs.exists());
    fs::remove_file(used).unwrap();
    assert_eq!(machine.builder.prune(Pruning::Everything).await.unwrap().disks, 1);
    assert!(!built.rootfs.exists());
    assert_eq!(machine.builder.disk(&built.disk, machine.dir.path()).unwrap(), None);
    // It can be built again.
    machine.build(machine.artifact(DOCKERFILE)).await.0.unwrap();
}

#[tokio::test]
async fn builds_side_by_side_do_not_collide() {
    let machine = Machine::new();
    let artifact = machine.artifact(DOCKERFILE);
    let builds = (0..4).map(|_| machine.build(artifact.clone()));
    let mut digests = Vec::new();
    for (built, _) in futures_of(builds).await {
        digests.push(built.unwrap().disk);
    }
    digests.dedup();
    assert_eq!(digests.len(), 1);
}

/// Polls all at once.
async fn futures_of<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut results = Vec::new();
    std::future::poll_fn(|context| {
        all.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                results.push(result);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    results
}
