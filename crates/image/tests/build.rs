//! Real builds with buildah and mke2fs, from `FROM scratch`: no network, no base, a second each.
//! They need root, as every build does.

use image::{
    Artifact, BuildError, BuildRequest, BuildStage, BuiltImage, ImageBuilder, ImageConfig,
    Progress, ReasonCode,
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};
use tempfile::TempDir;
use tokio::sync::mpsc;

struct Machine {
    dir: TempDir,
    builder: ImageBuilder,
}

impl Machine {
    fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "image builds need root: run it through sudo"
        );
        let dir = tempfile::tempdir().unwrap();
        let mut config = ImageConfig::new(dir.path().join("share"), dir.path().join("work"));
        config.disk_bytes = 64 << 20;
        Self { builder: ImageBuilder::new(config), dir }
    }

    /// An artifact directory with this Dockerfile and a small file to copy.
    fn artifact(&self, dockerfile: &str) -> Artifact {
        let path = self.dir.path().join("artifact");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("Dockerfile"), dockerfile).unwrap();
        fs::write(path.join("hello"), "hello\n").unwrap();
        fs::set_permissions(path.join("hello"), fs::Permissions::from_mode(0o750)).unwrap();
        Artifact::Directory(path)
    }

    /// No temporary file, no mount, no working container.
    fn assert_nothing_is_left(&self) {
        let storage = self.dir.path().join("share/buildah");
        assert_eq!(fs::read_dir(storage.join("tmp")).unwrap().count(), 0);
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        assert!(!mounts.contains(self.dir.path().to_str().unwrap()), "{mounts}");
        let driver = fs::read_to_string(storage.join("driver")).unwrap();
        let listed = Command::new("buildah")
            .args(["--root".as_ref(), storage.join("root").as_os_str()])
            .args(["--runroot".as_ref(), storage.join("run").as_os_str()])
            .args(["--storage-driver", &driver, "containers", "--quiet"])
            .output()
            .unwrap();
        assert!(listed.status.success());
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "");
    }

    async fn build(&self, artifact: Artifact) -> (Result<BuiltImage, BuildError>, Vec<Progress>) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let environment = vec![("FROM_CALLER".to_owned(), "1".to_owned())];
        let result = self.builder.build(BuildRequest { artifact, environment }, sender).await;
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
    for (name, value) in [("GREETING", "hello"), ("FROM_CALLER", "1")] {
        assert!(built.app.env.contains(&(name.to_owned(), value.to_owned())), "{name}");
    }
    assert_eq!(debugfs(&built.rootfs, "cat /bin/hello"), "hello\n");
    let stat = debugfs(&built.rootfs, "stat /bin/hello");
    assert!(stat.contains("Mode:  0750"), "{stat}");
    assert!(stat.contains("User:     7   Group:     8"), "{stat}");
    assert_eq!(debugfs(&built.rootfs, "cat /etc/resolv.conf"), "nameserver 10.0.0.1\n");
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
    let machine = Machine::new();
    // The build stands in ADD for as long as this server does not answer.
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let artifact = machine.artifact(&format!(
        "FROM scratch\nCOPY hello /hello\nADD http://{address}/never /never\nCMD [\"/hello\"]\n"
    ));
    tokio::select! {
        (built, _) = machine.build(artifact) => panic!("it ended: {built:?}"),
        connected = server.accept() => drop(connected.unwrap()),
    }
    machine.builder.shut_down().await;
    machine.assert_nothing_is_left();
}

#[tokio::test]
async fn an_image_larger_than_its_disk_is_refused() {
    let machine = Machine::new();
    let artifact = machine.artifact("FROM scratch\nCOPY . /\nCMD [\"/hello\"]\n");
    let Artifact::Directory(dir) = &artifact else { unreachable!("artifact() makes a directory") };
    fs::write(dir.join("large"), vec![1; 80 << 20]).unwrap();
    let (built, _) = machine.build(artifact).await;
    let error = built.unwrap_err();
    assert_eq!(error.reason(), ReasonCode::DiskStorageFull, "{error:?}");
}

#[tokio::test]
async fn what_a_crash_left_is_swept() {
    let machine = Machine::new();
    let (share, work) = (machine.dir.path().join("share"), machine.dir.path().join("work"));
    // As a killed mmdebstrap leaves it: with a directory of the host mounted in it.
    let (host, mounted) = (machine.dir.path().join("host"), share.join("buildah/tmp/crash/dev"));
    fs::create_dir_all(&mounted).unwrap();
    fs::create_dir_all(&host).unwrap();
    fs::write(host.join("device"), "the host's").unwrap();
    rustix::mount::mount_bind(&host, &mounted).unwrap();
    fs::create_dir_all(work.join("rootfs")).unwrap();
    fs::write(work.join("rootfs/half.partial"), "half").unwrap();
    machine.build(machine.artifact(DOCKERFILE)).await.0.unwrap();
    assert!(host.join("device").exists());
    assert!(!work.join("rootfs/half.partial").exists());
    assert_eq!(fs::read_dir(share.join("buildah/tmp")).unwrap().count(), 0);
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
