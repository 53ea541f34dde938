//! What is measured on sessions: each is created at the platform like a client's, gets its VM by
//! webhook, and is archived when it has been looked at.

use crate::{
    boot::libexec,
    report::{Report, Unit},
};
use anyhow::Context as _;
use e2e::{Site, eventually};
use serde_json::{Value, json};
use std::{
    fmt, fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

/// A launch under emulation on a busy host.
/// VMs that run at once where memory is measured for many.
const FLEET: usize = 8;
const LAUNCH_WAIT_MAX_S: u64 = 60;
/// How long a launch, a worker or a new standby VM gets undisturbed before the next look or launch:
/// with two cores, asking for the VMs meanwhile would be measured too.
const SETTLE: Duration = Duration::from_secs(1);
/// The longest time by which a first result is seen too late.
const POLL_EVERY: Duration = Duration::from_millis(5);
/// The worker's memory as the guest's kernel counts it; its pid is looked up by name.
const WORKER_MEMORY: &str = "for p in /proc/[0-9]*; do \
     if [ \"$(cat $p/comm 2>/dev/null)\" = warren-worker ]; then \
     grep -E '^(VmRSS|RssAnon):' $p/status; exit; fi; done; exit 1";

#[derive(Debug, Clone, Copy)]
pub(crate) enum Image {
    /// claude-worker with its 512 MiB.
    Default,
    /// The same artifact with 2048 MiB.
    Larger,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Standby {
    On,
    Off,
}

/// Launches of one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series {
    pub(crate) image: Image,
    pub(crate) standby: Standby,
}

impl Image {
    fn name(self) -> &'static str {
        match self {
            Self::Default => "claude-worker",
            Self::Larger => "bench-2048",
        }
    }

    fn memory_mib(self) -> u32 {
        match self {
            Self::Default => 512,
            Self::Larger => 2048,
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.standby {
            Standby::On => "standby",
            Standby::Off => "clone",
        };
        write!(f, "{path}_{}", self.image.memory_mib())
    }
}

impl Series {
    /// Launches in a row, each with a standby VM ready where one is kept. A launch that took another
    /// path than its series is about is put down as such, not mixed in.
    pub(crate) fn launches(self, site: &Site, runs: u32, report: &mut Report) {
        restart(site, self);
        Opened::new(site).close(site);
        let expected = match self.standby {
            Standby::On => "standby",
            Standby::Off => "clone",
        };
        for _ in 0..runs {
            sleep(SETTLE);
            let opened = Opened::new(site);
            let launch = &opened.vm["launch"];
            let path = launch["path"].as_str().unwrap_or("none");
            let kind =
                if path == expected { self.to_string() } else { format!("{self}_took_{path}") };
            let ms = |key: &str| launch[key].as_f64().into_iter().collect();
            report.add(&format!("launch_{kind}"), Unit::Ms, ms("run_hook_answered_ms"));
            report.add(&format!("launch_{kind}_restored"), Unit::Ms, ms("restored_ms"));
            report.add(&format!("pss_idle_{kind}"), Unit::Mib, pss_mib(&opened.vm));
            opened.close(site);
        }
    }
}

/// Starts the service anew for a series, and gives it time to have its standby VM.
pub(crate) fn restart(site: &Site, series: Series) {
    let standby = match series.standby {
        Standby::On => "1",
        Standby::Off => "0",
    };
    let image = series.image.name();
    site.restart_up(&[("WARREN_LAUNCHER_IMAGE", image), ("WARREN_ENGINE_STANDBY", standby)]);
    if let Standby::On = series.standby {
        let vms = site.data_dir().join("engine/vms");
        eventually("a VM on standby", LAUNCH_WAIT_MAX_S, || {
            let mut entries = fs::read_dir(&vms).ok()?.flatten();
            entries.find(|e| e.file_name().to_string_lossy().starts_with("engine-standby-"))
        });
    }
    sleep(SETTLE);
}

/// Builds the default image's artifact with more memory.
pub(crate) fn build_larger_image(site: &Site) -> anyhow::Result<()> {
    let artifact = tempfile::tempdir()?;
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("images/claude-worker");
    let worker = libexec().join("warren-worker");
    for file in [source.join("Dockerfile"), source.join("image.toml"), worker] {
        let name = file.file_name().context("a file has a name")?;
        fs::copy(&file, artifact.path().join(name)).with_context(|| file.display().to_string())?;
    }
    site.start_up();
    let dir = artifact.path().to_string_lossy().into_owned();
    let memory = Image::Larger.memory_mib().to_string();
    let options = ["--name", Image::Larger.name(), "--memory", &memory];
    let build = site.warren(["image", "build", &dir]).args(options);
    build.within(Duration::from_secs(600)).run().ok();
    Ok(())
}

/// A session whose first turn has no calls, and its VM, which has answered `/run`.
struct Opened {
    session: String,
    vm: Value,
}

/// A session that was told that there is nothing to do.
fn start_idle_session(site: &Site) -> String {
    let platform = site.platform();
    let session = platform.create_session();
    let text = json!([{ "type": "text", "text": "Nothing to do yet." }]);
    let events = json!({ "events": [{ "type": "user.message", "content": text }] });
    let path = format!("/v1/sessions/{session}/events");
    let (status, answer) = platform.request("POST", &path, Some(&events));
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
    session
}

impl Opened {
    fn new(site: &Site) -> Self {
        let session = start_idle_session(site);
        sleep(SETTLE);
        let vm = eventually("a launched VM", LAUNCH_WAIT_MAX_S, || {
            site.vms().into_iter().find(|vm| !vm["launch"].is_null())
        });
        Self { session, vm }
    }

    fn id(&self) -> &str {
        self.vm["microvm_id"].as_str().expect("a VM has an id")
    }

    fn close(self, site: &Site) {
        site.platform().archive(&self.session);
        site.quiet();
    }
}

fn call(tool: &str, command: &str) -> Value {
    json!({ "tool": tool, "input": { "command": command } })
}

/// Milliseconds from sending a new session's message to the result of its first call, webhook, launch
/// and claim in between.
pub(crate) fn first_result_ms(site: &Site) -> f64 {
    sleep(SETTLE);
    let platform = site.platform();
    let session = platform.create_session();
    let sent = Instant::now();
    platform.start_turn(&session, &json!([call("bash", "true")]));
    let is_result = |event: &Value| event["type"] == "user.tool_result";
    while !platform.events(&session).iter().any(is_result) {
        assert!(sent.elapsed().as_secs() < LAUNCH_WAIT_MAX_S, "{session}: no result");
        sleep(POLL_EVERY);
    }
    let took = sent.elapsed().as_secs_f64() * 1e3;
    platform.archive(&session);
    site.quiet();
    took
}

/// Proportional set size of a VM's VMM, as the list of VMs says it.
fn pss_mib(vm: &Value) -> Vec<f64> {
    vm["usage"]["pss_kib"].as_f64().map(|kib| kib / 1024.0).into_iter().collect()
}

/// Idle memory of each of [`FLEET`] VMs that run at the same time.
pub(crate) fn fleet(site: &Site, report: &mut Report) {
    let sessions: Vec<String> = (0..FLEET).map(|_| start_idle_session(site)).collect();
    eventually("the fleet", LAUNCH_WAIT_MAX_S * 2, || {
        let launched = site.vms().iter().filter(|vm| !vm["launch"].is_null()).count();
        (launched == FLEET).then_some(())
    });
    sleep(SETTLE);
    let pss = site.vms().iter().flat_map(pss_mib).collect();
    report.add("pss_idle_of_8", Unit::Mib, pss);
    sessions.iter().for_each(|session| site.platform().archive(session));
    // Workers that had not claimed their session yet do not see its end.
    site.warren(["rm", "--all"]).run();
    site.quiet();
}

/// Memory of a VM that ran tools, and of the worker in it.
pub(crate) fn memory(site: &Site, report: &mut Report) {
    sleep(SETTLE);
    let opened = Opened::new(site);
    let calls = json!([call("bash", "true"), call("bash", "python3 -c 'print(6 * 7)'")]);
    site.platform().turn(&opened.session, &calls);
    let vm = site.vms().into_iter().find(|vm| vm["microvm_id"] == opened.id());
    report.add("pss_after_tools", Unit::Mib, vm.as_ref().map(pss_mib).unwrap_or_default());
    let command = ["exec", "-u", "root", opened.id(), "--", "sh", "-c", WORKER_MEMORY];
    let status = site.warren(command).run().ok();
    for (field, name) in [("VmRSS:", "worker_rss"), ("RssAnon:", "worker_anonymous")] {
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
        report.add(name, Unit::Mib, kib.map(|kib| kib / 1024.0).into_iter().collect());
    }
    opened.close(site);
}
