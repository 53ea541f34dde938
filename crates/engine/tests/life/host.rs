//! An engine in a directory of its own, with one template; and what a test asks of a VM.

use engine::{
    AcceleratorChoice, App, Attach, CheckpointId, Engine, EngineError, ExecOutput, ExecRequest,
    ExitStatus, GuestSockets, HookRequest, LaunchSpec, Launched, Origin, Qemu, QemuConfig,
    TemplateId, TemplateSpec, VmId, VmState,
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, sync::RwLock};

/// Counts, and says how far it is to whoever connects; that is its `ready` hook, too.
const APP: &str = r#"
use IO::Socket::INET; use IO::Select;
my $server = IO::Socket::INET->new(LocalPort => 8080, Listen => 50, ReuseAddr => 1) or die;
my $ready = IO::Select->new($server);
my $count = 0;
while (1) {
    if ($ready->can_read(0.02) and my $client = $server->accept) {
        print $client "HTTP/1.0 200 OK\r\n\r\n$count"; close $client;
    }
    $count++;
}
"#;
pub(crate) const APP_PORT: u16 = 8080;
const PROGRAMS: [&str; 14] = [
    "/bin/bash",
    "/bin/cat",
    "/bin/date",
    "/bin/mkdir",
    "/bin/sleep",
    "/bin/sync",
    "/bin/ls",
    "/usr/bin/cut",
    "/usr/bin/head",
    "/usr/bin/md5sum",
    "/usr/bin/od",
    "/usr/bin/perl",
    "/usr/bin/tr",
    "/usr/bin/setsid",
];
const PERL: &str = "/usr/lib/x86_64-linux-gnu/perl-base";
const MEMORY_MIB: u32 = 512;
/// A VM answers in milliseconds; on a busy host, much later.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);

static NAMES: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Host {
    dir: TempDir,
    engine: RwLock<Option<Arc<Qemu>>>,
    template: TemplateId,
    digests: BTreeMap<String, String>,
    sockets: Mutex<Vec<GuestSockets>>,
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where the helper programs are: `WARREN_LIBEXEC`, or where `make build` puts them.
fn libexec() -> PathBuf {
    std::env::var_os("WARREN_LIBEXEC").map_or_else(
        || {
            let own = std::env::current_exe().expect("a test is a file");
            own.ancestors().nth(2).expect("target/PROFILE/deps").join("libexec")
        },
        PathBuf::from,
    )
}

/// Some programs of this host with their libraries, as an ext4 file system.
fn make_rootfs(dir: &Path) -> PathBuf {
    let root = dir.join("rootfs");
    let copy = |file: &str| {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        fs::copy(file, &to).unwrap_or_else(|e| panic!("{file}: {e}"));
    };
    for program in PROGRAMS {
        copy(program);
        let libraries = run("ldd", &[program]);
        libraries.split_whitespace().filter(|word| word.starts_with('/')).for_each(copy);
    }
    let perl = root.join(PERL.trim_start_matches('/'));
    fs::create_dir_all(&perl).expect("a directory");
    run("cp", &["-a", &format!("{PERL}/."), &perl.display().to_string()]);
    for directory in ["etc", "tmp", "dev", "proc", "sys", "run", "root"] {
        fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    std::os::unix::fs::symlink("bash", root.join("bin/sh")).expect("a link");
    fs::write(root.join("app.pl"), APP).expect("the app");
    let disk = dir.join("rootfs.ext4");
    fs::File::create(&disk).and_then(|f| f.set_len(1 << 30)).expect("a disk");
    let (from, to) = (root.display().to_string(), disk.display().to_string());
    run("mke2fs", &["-q", "-t", "ext4", "-O", "^has_journal", "-d", &from, "-F", &to]);
    disk
}

pub(crate) fn open_config(dir: &Path) -> QemuConfig {
    QemuConfig {
        state_dir: dir.join("engine"),
        share_dir: std::env::var_os("WARREN_SHARE")
            .map_or_else(|| "/var/lib/warren/share".into(), PathBuf::from),
        libexec_dir: libexec(),
        accelerator: AcceleratorChoice::Auto,
        standby: 0,
    }
}

async fn open(dir: &Path) -> Arc<Qemu> {
    fs::create_dir_all(dir.join("engine")).expect("a directory");
    Qemu::open(open_config(dir))
        .await
        .unwrap_or_else(|e| panic!("{e:?}; as root, after `make build`?"))
}

impl Host {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("warren-life-").tempdir_in("/var/tmp").unwrap();
        let engine = open(dir.path()).await;
        let template = TemplateId::new("life").unwrap();
        let app = App {
            argv: vec!["perl".into(), "/app.pl".into()],
            working_dir: "/".into(),
            ..App::default()
        };
        let rootfs = make_rootfs(dir.path());
        let warm =
            vec![vec!["bash".into(), "-c".into(), "md5sum /app.pl; head -c 1 /app.pl".into()]];
        let (path, timeout_ms) = ("/".to_owned(), 60_000);
        let ready = Some(HookRequest { port: APP_PORT, path, body: None, timeout_ms });
        let spec = TemplateSpec { rootfs, memory_mib: MEMORY_MIB, vcpus: 1, app, ready, warm };
        let (progress, _) = tokio::sync::mpsc::unbounded_channel();
        engine.make_template(&template, spec, progress).await.unwrap();
        let digests = digests(&dir.path().join("engine/templates/life"));
        Self {
            dir,
            engine: RwLock::new(Some(engine)),
            template,
            digests,
            sockets: Mutex::default(),
        }
    }

    pub(crate) async fn close(self) {
        if self.engine.read().await.is_some() {
            self.stop_all().await;
            self.engine().await.shutdown().await;
        }
    }

    /// Tests that failed leave VMs.
    async fn stop_all(&self) {
        let engine = self.engine().await;
        for listing in engine.list().await.unwrap_or_default() {
            let _ = engine.stop(&listing.id, None).await;
        }
        for info in engine.list_checkpoints().await.unwrap_or_default() {
            let _ = engine.remove_checkpoint(&info.id).await;
        }
    }

    pub(crate) async fn engine(&self) -> Arc<Qemu> {
        self.engine.read().await.clone().expect("an engine")
    }

    /// Another engine on the same directory, as after a restart. Its VMs are adopted by whom it concerns.
    pub(crate) async fn reopen(&self) -> Arc<Qemu> {
        let mut engine = self.engine.write().await;
        if let Some(before) = engine.take() {
            until_released(before).await;
        }
        let opened = open(self.dir.path()).await;
        *engine = Some(opened.clone());
        opened
    }

    /// Nobody has the directory, while a process of another has it.
    pub(crate) async fn lend(&self) -> &Path {
        self.stop_all().await;
        if let Some(engine) = self.engine.write().await.take() {
            until_released(engine).await;
        }
        self.dir.path()
    }

    /// A VM's back door stays open, and nobody answers.
    pub(crate) fn keep(&self, launched: Launched) {
        self.sockets.lock().unwrap().push(launched.sockets);
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("engine").join(below)
    }

    pub(crate) fn template(&self) -> &TemplateId {
        &self.template
    }

    pub(crate) async fn launch(&self) -> VmId {
        let (id, launched) = self.launch_from(Origin::Template(self.template.clone())).await;
        self.keep(launched);
        id
    }

    pub(crate) async fn launch_from(&self, origin: Origin) -> (VmId, Launched) {
        let id = name("vm");
        let spec = LaunchSpec { id: id.clone(), origin, internet: true };
        let launched = self.engine().await.launch(spec).await.unwrap();
        (id, launched)
    }

    /// What a shell's script prints.
    pub(crate) async fn sh(&self, id: &VmId, script: &str) -> String {
        let engine = self.engine().await;
        sh(&engine, id, script).await.unwrap_or_else(|e| panic!("{id}: {script}: {e:?}"))
    }

    /// How far the app of a VM is.
    pub(crate) async fn count(&self, id: &VmId) -> u64 {
        count(&*self.engine().await, id).await
    }

    pub(crate) async fn state(&self, id: &VmId) -> Option<VmState> {
        let listed = self.engine().await.list().await.unwrap();
        listed.into_iter().find(|listing| listing.id == *id).map(|listing| listing.state)
    }

    pub(crate) async fn stop(&self, ids: impl IntoIterator<Item = &VmId>) {
        let engine = self.engine().await;
        for id in ids {
            engine.stop(id, None).await.unwrap();
            assert!(!self.path("vms").join(id.as_str()).exists(), "{id}: its directory is left");
            assert_eq!(self.slots_of(id), 0, "{id}: its slot is left");
        }
    }

    /// Slots that this engine has taken for a VM; others on the machine may have VMs of that name.
    pub(crate) fn slots_of(&self, id: &VmId) -> usize {
        let owner = format!("{}\n{id}\n", self.dir.path().join("engine").display());
        let slots = fs::read_dir("/run/warren/slots").into_iter().flatten().flatten();
        let contents = slots.filter_map(|slot| fs::read_to_string(slot.path()).ok());
        contents.filter(|content| *content == owner).count()
    }

    pub(crate) fn check_template(&self) {
        assert_eq!(digests(&self.path("templates/life")), self.digests, "the template has changed");
    }
}

pub(crate) async fn a_templates_files_never_change(host: &Host) {
    host.check_template();
}

/// Waits until the tasks of an engine, which watch its VMs, have ended with those.
async fn until_released(engine: Arc<Qemu>) {
    let weak = Arc::downgrade(&engine);
    engine.shutdown().await;
    drop(engine);
    assert_eq!(weak.strong_count(), 0, "a test keeps the engine");
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// A name that no other VM or checkpoint on this machine has.
pub(crate) fn name(kind: &str) -> VmId {
    let number = NAMES.fetch_add(1, Ordering::Relaxed);
    VmId::new(format!("{kind}-{}-{number}", std::process::id())).unwrap()
}

pub(crate) fn checkpoint_name() -> CheckpointId {
    CheckpointId::new(name("checkpoint").as_str()).unwrap()
}

pub(crate) async fn sh(engine: &Qemu, id: &VmId, script: &str) -> Result<String, EngineError> {
    let argv = ["bash", "-c", script].map(String::from).to_vec();
    let request = ExecRequest { argv, attach: Attach::NoInput, ..ExecRequest::default() };
    let mut session = engine.exec(id, request).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let output = async {
        while let Some(output) = session.output.recv().await {
            match output {
                ExecOutput::Stdout(data) => stdout.extend(data),
                ExecOutput::Stderr(data) => stderr.extend(data),
                ExecOutput::Exited(status) => return status,
            }
        }
        ExitStatus::NotStarted("the channel ended".into())
    };
    let status = tokio::time::timeout(ANSWER_WAIT_MAX, output).await.expect("an answer");
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    assert_eq!(status, ExitStatus::Code(0), "{script}: {} {}", text(&stdout), text(&stderr));
    Ok(text(&stdout))
}

pub(crate) async fn count(engine: &Qemu, id: &VmId) -> u64 {
    let mut stream = engine.dial(id, APP_PORT).await.unwrap();
    let mut text = String::new();
    let read = tokio::time::timeout(ANSWER_WAIT_MAX, stream.read_to_string(&mut text));
    read.await.expect("an answer").unwrap();
    text.lines().last().expect("an answer").parse().unwrap()
}

fn digests(dir: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(dir).expect("the template").map(|e| e.expect("a file").path());
    files
        .map(|path| (path.display().to_string(), run("md5sum", &[&path.display().to_string()])))
        .collect()
}
