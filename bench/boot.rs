//! What goes past the service: a cold boot, asked of the engine itself, and the demo, a process of its own.

use anyhow::{Context as _, anyhow};
use e2e::{Program, Site, binary};
use engine::{AcceleratorChoice, Engine as _, Qemu, QemuConfig, TemplateId};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The guest kernel, where `scripts/setup` puts it.
const SHARE_DIR: &str = "/var/lib/warren/share";
/// The first demo makes its image.
const DEMO_WAIT_MAX: Duration = Duration::from_secs(600);

/// Where the helper programs are: `WARREN_LIBEXEC`, or beside the binary.
pub(crate) fn libexec() -> PathBuf {
    std::env::var_os("WARREN_LIBEXEC")
        .map_or_else(|| binary().with_file_name("libexec"), PathBuf::from)
}

/// Milliseconds from the VMM's start to the app's hook server answering, without a snapshot, for
/// the one template in the data directory. Nothing else may use that directory meanwhile.
pub(crate) fn cold_boots(data_dir: &Path, runs: u32) -> anyhow::Result<Vec<f64>> {
    let state_dir = data_dir.join("engine");
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let template = only_template(&state_dir.join("templates"))?;
        let engine = open(state_dir).await?;
        // As before each series of launches: one that is not counted fills the host's page cache.
        engine.cold_boot(&template).await?;
        let mut times = Vec::new();
        for _ in 0..runs {
            times.push(engine.cold_boot(&template).await?.as_secs_f64() * 1e3);
        }
        engine.shutdown().await;
        Ok(times)
    })
}

/// The engine of a data directory, without VMs on standby.
pub(crate) async fn open(state_dir: PathBuf) -> anyhow::Result<Arc<Qemu>> {
    let config = QemuConfig {
        state_dir,
        share_dir: SHARE_DIR.into(),
        libexec_dir: libexec(),
        accelerator: AcceleratorChoice::Auto,
        standby: 0,
    };
    Ok(Qemu::open(config).await?)
}

pub(crate) fn only_template(dir: &Path) -> anyhow::Result<TemplateId> {
    let shown = || dir.display().to_string();
    let entries = fs::read_dir(dir).with_context(shown)?;
    let mut names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(TemplateId::new(name)?),
        (Some(_), Some(_)) => Err(anyhow!("{}: more than one template", shown())),
        (None, _) => Err(anyhow!("{}: no template", shown())),
    }
}

/// Seconds of whole demos whose image is there already, on their own data directory and ports.
pub(crate) fn demos(site: &Site, runs: u32) -> Vec<f64> {
    let dir = site.data_dir().with_file_name("demo");
    let demo = || {
        let program = Program::new(binary())
            .args(["--json", "demo"])
            .env("WARREN_DATA_DIR", &dir.to_string_lossy())
            .env("WARREN_API_LISTEN", "127.0.0.1:0")
            .env("WARREN_PLATFORM_LISTEN", "127.0.0.1:0")
            .within(DEMO_WAIT_MAX);
        let ended = program.run();
        let took = ended.took.as_secs_f64();
        ended.ok();
        took
    };
    demo();
    (0..runs).map(|_| demo()).collect()
}
