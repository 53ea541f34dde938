//! One Warren with its platform, in data directories of its own, on free ports.

use crate::{
    platform::Platform,
    process::{Program, eventually},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tempfile::TempDir;

/// Building the image anew takes seconds; on a machine that builds its base too, minutes.
const IMAGE_WAIT_MAX: Duration = Duration::from_secs(900);

/// The binary under test: `WARREN_BIN`, or the release build beside this test.
pub fn binary() -> PathBuf {
    let path = std::env::var_os("WARREN_BIN").map_or_else(
        || {
            let own = std::env::current_exe().expect("a test is a file");
            own.ancestors().nth(2).expect("target/PROFILE/deps").join("warren")
        },
        PathBuf::from,
    );
    assert!(path.exists(), "{} is not there: run `make build`", path.display());
    path
}

/// A program of the official clients; see `scripts/setup --tests`.
pub fn oracles(program: &str) -> PathBuf {
    let root = std::env::var("WARREN_ORACLES").unwrap_or_else(|_| {
        format!(
            "{}/.cache/warren/oracles",
            std::env::var("HOME").unwrap_or_else(|_| "/root".into())
        )
    });
    let path = Path::new(&root).join(program);
    assert!(path.exists(), "{} is not there: run `scripts/setup --tests`", path.display());
    path
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub struct Site {
    dir: TempDir,
    pub api_port: u16,
    pub gateway_port: u16,
    pub platform_port: u16,
    pub environment_id: String,
    pub webhook_secret: String,
    api_key: String,
    up: Mutex<Option<Child>>,
    platform: Mutex<Option<Child>>,
}

impl Site {
    /// Starts the platform and Warren as the README's two terminals do, and waits for the image.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("warren-e2e-").tempdir_in("/var/tmp").unwrap();
        let mut site = Self {
            dir,
            api_port: free_port(),
            gateway_port: free_port(),
            platform_port: free_port(),
            environment_id: String::new(),
            webhook_secret: String::new(),
            api_key: String::new(),
            up: Mutex::default(),
            platform: Mutex::default(),
        };
        site.start_platform();
        site.wire();
        site.start_up();
        site.put_secrets();
        eventually("the default image", IMAGE_WAIT_MAX.as_secs(), || {
            site.image_ready().then_some(())
        });
        site
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("warren")
    }

    fn platform_dir(&self) -> PathBuf {
        self.dir.path().join("platform")
    }

    /// The binary with this site's directories and ports.
    pub fn warren<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Program {
        self.program(&self.data_dir()).args(args)
    }

    fn program(&self, data_dir: &Path) -> Program {
        self.settled(Program::new(binary()), data_dir)
    }

    /// A program that runs the binary itself, with this site's directories and ports.
    pub fn with_settings(&self, program: Program) -> Program {
        self.settled(program, &self.data_dir())
    }

    fn settled(&self, program: Program, data_dir: &Path) -> Program {
        let settings = self.settings(data_dir);
        settings.iter().fold(program, |program, (name, value)| program.env(name, value))
    }

    fn settings(&self, data_dir: &Path) -> Vec<(&'static str, String)> {
        vec![
            ("WARREN_DATA_DIR", data_dir.display().to_string()),
            ("WARREN_API_LISTEN", format!("127.0.0.1:{}", self.api_port)),
            ("WARREN_GATEWAY_LISTEN", format!("127.0.0.1:{}", self.gateway_port)),
            ("WARREN_PLATFORM_LISTEN", format!("127.0.0.1:{}", self.platform_port)),
            ("WARREN_PLATFORM_BASE_URL", format!("http://127.0.0.1:{}", self.platform_port)),
            ("WARREN_LAUNCHER_ENVIRONMENT_ID", self.environment_id.clone()),
            // Tests launch, suspend and look more often than a user of AWS may.
            ("WARREN_LIMITS_RUN_PER_S", "0".to_owned()),
            ("WARREN_LIMITS_RESUME_PER_S", "0".to_owned()),
            ("WARREN_LIMITS_SUSPEND_PER_S", "0".to_owned()),
            ("WARREN_LIMITS_TERMINATE_PER_S", "0".to_owned()),
            ("WARREN_LIMITS_GET_PER_S", "0".to_owned()),
            ("WARREN_LIMITS_AUTH_TOKEN_PER_S", "0".to_owned()),
            ("WARREN_LIMITS_SHELL_AUTH_TOKEN_PER_S", "0".to_owned()),
        ]
    }

    fn spawn(&self, data_dir: &Path, args: &[&str], log: &str) -> Child {
        self.spawn_with(data_dir, args, log, &[])
    }

    fn spawn_with(
        &self,
        data_dir: &Path,
        args: &[&str],
        log: &str,
        more: &[(&str, &str)],
    ) -> Child {
        let log =
            File::options().create(true).append(true).open(self.dir.path().join(log)).unwrap();
        Command::new(binary())
            .args(args)
            .envs(self.settings(data_dir))
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn start_platform(&mut self) {
        let child = self.spawn(&self.platform_dir(), &["platform"], "platform.log");
        *self.platform.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let key = self.platform_dir().join("platform/api-key");
        self.api_key = eventually("the platform's API key", 30, || fs::read_to_string(&key).ok())
            .trim()
            .to_owned();
        let port = self.platform_port;
        eventually("the platform", 30, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    }

    /// An environment with its key, and a webhook to the launcher.
    fn wire(&mut self) {
        let environment = self.platform_json(&["--json", "platform", "env", "create", "e2e"]);
        self.environment_id = environment["environment_id"].as_str().expect("an id").to_owned();
        let key = environment["key"].as_str().expect("a key").to_owned();
        fs::write(self.dir.path().join("environment-key"), key).unwrap();
        let url = format!("http://127.0.0.1:{}/webhooks/managed-agents", self.api_port);
        let webhook = self.platform_json(&["--json", "platform", "webhook", "add", &url]);
        self.webhook_secret = webhook["secret"].as_str().expect("a secret").to_owned();
    }

    fn platform_json(&self, args: &[&str]) -> Value {
        let program = self.program(&self.platform_dir()).args(args.iter().copied());
        program.run().json_lines().pop().expect("one object")
    }

    /// Starts `warren up` and waits until it answers. After a crash as well.
    pub fn start_up(&self) {
        self.start_up_with(&[]);
    }

    /// Stops it as a signal does, VMs going on, and starts it with more settings.
    pub fn restart_up(&self, more: &[(&'static str, &str)]) {
        self.stop_up();
        self.start_up_with(more);
    }

    /// Stops it as a signal does; VMs go on.
    pub fn stop_up(&self) {
        if let Some(mut child) = self.up.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let pid = nix::unistd::Pid::from_raw(child.id() as i32);
            nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
            child.wait().unwrap();
        }
    }

    fn start_up_with(&self, more: &[(&'static str, &str)]) {
        let child = self.spawn_with(&self.data_dir(), &["up"], "up.log", more);
        *self.up.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let url = format!("http://127.0.0.1:{}/healthz", self.api_port);
        eventually("warren up", 60, || ureq::get(&url).call().ok());
    }

    fn put_secrets(&self) {
        let key = fs::read_to_string(self.dir.path().join("environment-key")).unwrap();
        self.put_secret("warren/environment-key", &key);
        self.put_secret("warren/webhook-signing-secret", &self.webhook_secret);
    }

    pub fn put_secret(&self, name: &str, value: &str) {
        self.warren(["secret", "put", name]).input(value).run().ok();
    }

    fn image_ready(&self) -> bool {
        let images = self.warren(["--json", "image", "ls"]).run();
        images.code == 0
            && images.stdout.contains("claude-worker")
            && images.stdout.contains("ACTIVE")
    }

    /// Kills `warren up` where it stands.
    pub fn kill_up(&self) {
        let child = self.up.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut child = child.expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// `warren down`, and the end of the process.
    pub fn down(&self) {
        self.warren(["down"]).run().ok();
        if let Some(mut child) = self.up.lock().unwrap_or_else(PoisonError::into_inner).take() {
            child.wait().unwrap();
        }
    }

    pub fn up_log(&self) -> String {
        fs::read_to_string(self.dir.path().join("up.log")).unwrap_or_default()
    }

    pub fn platform(&self) -> Platform {
        let base_url = format!("http://127.0.0.1:{}", self.platform_port);
        Platform::new(base_url, self.api_key.clone(), self.environment_id.clone())
    }

    /// The VMs that are not terminated.
    pub fn vms(&self) -> Vec<Value> {
        self.warren(["--json", "ps"]).run().json_lines()
    }

    /// The VM of the one session that runs now.
    pub fn only_vm(&self) -> String {
        let vms = self.vms();
        assert_eq!(vms.len(), 1, "{vms:?}");
        vms[0]["microvm_id"].as_str().expect("an id").to_owned()
    }

    /// Waits until no VM is left.
    pub fn quiet(&self) {
        eventually("the end of all VMs", 60, || self.vms().is_empty().then_some(()));
    }

    /// After a test that failed: Warren with its own settings, and no VM of that test.
    pub fn recover(&self) {
        if self.warren(["ps"]).run().code == 0 {
            self.stop_up();
        }
        self.start_up();
        self.warren(["rm", "--all"]).run();
        self.quiet();
    }

    /// What `warren env` exports.
    pub fn aws_environment(&self) -> Vec<(String, String)> {
        let exports = self.warren(["env"]).run().ok();
        let lines =
            exports.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        lines
            .map(|(name, value)| {
                (name.into(), value.trim_matches(|c| c == '\'' || c == '"').into())
            })
            .collect()
    }

    /// The stock AWS CLI, pointed here by nothing but the environment.
    pub fn aws<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Program {
        let program = Program::new(oracles("venv/bin/aws")).args(args).env("AWS_PAGER", "");
        self.aws_environment()
            .iter()
            .fold(program, |program, (name, value)| program.env(name, value))
    }
}

impl Drop for Site {
    /// Ends the VMs too: they would outlive the processes.
    fn drop(&mut self) {
        if self.up.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            let _ = self.warren(["down"]).run();
        }
        for child in [&self.up, &self.platform] {
            if let Some(mut child) = child.lock().unwrap_or_else(PoisonError::into_inner).take() {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(child.id() as i32),
                    nix::sys::signal::SIGTERM,
                );
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            // Kept for whoever looks into it, on the screen: the directory goes.
            for log in ["up.log", "platform.log"] {
                let text = fs::read_to_string(self.dir.path().join(log)).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(60).collect();
                println!("--- {log}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
    }
}
