//! One Warren on one host, put together: engine, control, back door, AWS surface, launcher, and the
//! server in front of them. `warren up` and `warren demo` are two ways to run it.

mod artifacts;
mod builder;
mod default_image;
mod front;
mod iam_directory;
mod identities;

pub(crate) use artifacts::store;
pub(crate) use default_image::{DefaultImageError, NAME as DEFAULT_IMAGE};
pub(crate) use identities::{EXECUTION_ROLE, LAUNCHER_ROLE, role_arn};

use crate::{
    config::{self, Accelerator, AtEnd, Counts, LauncherMode, Require, Settings, Switch},
    failure::{Exit, Remedy},
    lock::{Lock, LockError},
    service::{self, Service},
    session_keeper::{SessionKeeper, keep_sessions},
};
use agents::{EnvironmentId, InvalidId, client::InvalidBaseUrl};
use artifacts::Artifacts;
use aws::{AuthSettings, Authenticator, AwsState, CLOCK_SKEW, ObjectReader, Throttles};
use axum::serve::ListenerExt;
use builder::Builder;
use control::{
    Control, ControlConfig, ControlError, IdleCounts, Internet, Outside, RoleArn, StartedBuild,
    SystemClock,
};
use egress::{EgressConfig, Target};
use engine::{AcceleratorChoice, Engine, EngineError, Qemu, QemuConfig};
use identities::{
    IdentitiesError, LauncherCredentials, allow_secrets, identities, keep_key_on_host,
};
use launcher::{Launcher, LauncherConfig, Mode, SharedCredentialsProvider};
use objects::Objects;
use std::{
    fs::{DirBuilder, Permissions},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, SetOnce},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where the platform is for a VM when it is not on the internet: relayed by egress.
const GUEST_PLATFORM: &str = "http://10.0.0.1:7430";
/// What no other user of this host may read: guests' memory and disks, artifacts, databases. The data
/// directory itself stays as it is found, since `share/` may be below it.
const PRIVATE_DIRS: [&str; 7] =
    ["gateway", "engine", "images", "objects", "launcher", "platform", "demo"];
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Where the VMs' own AWS API is bound: any port, which nobody but egress is told.
const GUEST_API_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Connections that are still open then are cut.
const DRAIN: Duration = Duration::from_secs(10);

/// Names that differ between a user's own Warren and a demo in the same data directory.
pub(crate) struct Names {
    pub(crate) signing_secret: String,
    pub(crate) environment_key: String,
    /// Under the data directory.
    pub(crate) launcher_dir: &'static str,
    /// Secrets with this prefix are open to launcher and worker besides the usual ones.
    pub(crate) secrets: Option<&'static str>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            signing_secret: launcher::SIGNING_SECRET_ID_DEFAULT.into(),
            environment_key: launcher::ENVIRONMENT_KEY_SECRET_ID_DEFAULT.into(),
            launcher_dir: "launcher",
            secrets: None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the address {address} is taken by another program")]
    PortTaken { address: SocketAddr },
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the directory {path} cannot be made private")]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the engine does not start")]
    Engine(#[source] EngineError),
    #[error("the control plane does not start")]
    Control(#[from] ControlError),
    #[error("the objects of S3 cannot be used")]
    Objects(#[from] objects::ObjectsError),
    #[error(transparent)]
    Identities(#[from] IdentitiesError),
    #[error("the identities cannot be used")]
    Iam(#[from] aws::IamError),
    #[error("launcher.environment_id: {0}")]
    Environment(InvalidId),
    #[error("platform.base_url: {0}")]
    PlatformUrl(InvalidBaseUrl),
    #[error("the launcher does not start")]
    Launcher(#[from] launcher::StartError),
    #[error("the endpoints cannot be served over TLS")]
    Tls(#[from] gateway::TlsError),
}

impl Remedy for NodeError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Lock(e) => e.hint(),
            Self::PortTaken { address } => Some(format!(
                "`ss -ltnp 'sport = :{}'` shows by whom; end that, or choose another address: \
                 WARREN_API_LISTEN and WARREN_GATEWAY_LISTEN, or api.listen and gateway.listen in \
                 warren.toml",
                address.port()
            )),
            Self::Directory { .. } => Some("does it belong to another user?".into()),
            Self::Listen { .. } => {
                Some("choose another with api.listen or gateway.listen in warren.toml".into())
            }
            Self::Engine(EngineError::ToolMissing { .. }) => {
                Some("`warren doctor` lists what is missing and how to get it".into())
            }
            Self::Engine(_) => Some("`warren doctor` looks for the cause".into()),
            Self::Control(e) => e.hint(),
            Self::Identities(e) => e.hint(),
            Self::Iam(_) => Some("see the files that iam.files names".into()),
            Self::Environment(_) => {
                Some("`warren platform env create NAME` prints one, as does the platform".into())
            }
            Self::PlatformUrl(_) => {
                Some("polling needs a plain address, such as https://api.anthropic.com".into())
            }
            Self::Tls(_) => {
                Some("see gateway.tls_certificate and gateway.tls_key in warren.toml".into())
            }
            Self::Objects(_) | Self::Launcher(_) => {
                Some("is the disk full, or the data directory damaged?".into())
            }
        }
    }
    fn exit(&self) -> Exit {
        match self {
            Self::Lock(e) => e.exit(),
            Self::Identities(e) => e.exit(),
            Self::Iam(_) | Self::Environment(_) | Self::PlatformUrl(_) => Exit::Usage,
            Self::PortTaken { .. }
            | Self::Listen { .. }
            | Self::Directory { .. }
            | Self::Engine(_)
            | Self::Control(_)
            | Self::Objects(_)
            | Self::Tls(_)
            | Self::Launcher(_) => Exit::Failed,
        }
    }
}

/// A running Warren. End it with [`Node::close`]; its VMs go on.
pub(crate) struct Node {
    pub(crate) service: Arc<Service>,
    /// The address that it listens on, with the port that port 0 became.
    pub(crate) address: SocketAddr,
    machinery: Machinery,
    server: JoinHandle<()>,
    _lock: Lock,
}

/// Engine and control without anything in front of them.
struct Machinery {
    control: Arc<Control>,
    engine: Arc<Qemu>,
    back_door: Arc<egress::Egress>,
    builder: Arc<image::ImageBuilder>,
    artifacts: Arc<Artifacts>,
    objects: Arc<Objects>,
}

impl Node {
    /// Takes the data directory, then the port, then starts everything, in an order in which each
    /// part finds what it needs.
    pub(crate) async fn open(settings: Settings, names: Names) -> Result<Self, NodeError> {
        let holder = format!("warren on {}", settings.api_listen);
        let lock = Lock::take(&settings.data_dir, "warren", &holder)?;
        let listener = listen(settings.api_listen).await?;
        let address = local_address(&listener, settings.api_listen)?;
        let guest_listener = listen(GUEST_API_LISTEN).await?;
        let guest_api = local_address(&guest_listener, GUEST_API_LISTEN)?;
        let gateway_listener = listen(settings.gateway.listen).await?;
        let certificate = front::certificate(&settings.gateway)?;
        let machinery = Machinery::open(&settings, guest_api).await?;
        let gateway = front::gateway(&settings.gateway, certificate, &machinery.control);
        let service =
            match serving(settings, &names, &machinery, Ends { address, gateway: gateway.clone() })
                .await
            {
                Ok(service) => service,
                Err(error) => {
                    machinery.close().await;
                    return Err(error);
                }
            };
        let (control, stop) = (machinery.control.clone(), service.stop.clone());
        if let Some(launcher) = service.launcher.clone()
            && service.settings.launcher.at_end == AtEnd::Checkpoint
        {
            let keeping = keep_sessions(control.clone(), launcher);
            service.tasks.spawn(stop.clone().run_until_cancelled_owned(keeping));
        }
        let authenticator = service.authenticator.clone();
        let mut router = service::router(service.clone());
        if let Some(launcher) = &service.launcher {
            router = router.merge(launcher.router());
        }
        let calls = service.tasks.clone();
        let throttles = Arc::new(Throttles::new(service.settings.limits.rates()));
        let aws = aws::router(AwsState {
            control,
            authenticator,
            objects: machinery.objects.clone(),
            s3_domains: service.settings.s3_domains.clone(),
            throttles,
            calls,
        });
        let router = router.merge(aws.clone());
        let server = tokio::spawn(async move {
            // A VM has no business with Warren's own service nor with the webhook: what its relay
            // leads to has neither.
            tokio::join!(
                serve(listener, router, stop.clone()),
                serve(guest_listener, aws, stop.clone()),
                front::serve(gateway, gateway_listener, stop),
            );
        });
        Ok(Self { service, address, machinery, server, _lock: lock })
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.machinery.control
    }

    /// Begins to build the default image unless it is there and up to date.
    pub(crate) async fn ensure_default_image(
        &self,
    ) -> Result<Option<StartedBuild>, DefaultImageError> {
        let settings = &self.service.settings;
        let objects = &self.machinery.objects;
        default_image::ensure(self.control(), objects, &settings.engine.libexec_dir).await
    }

    /// Takes no more requests, ends what is under way, and closes the stores. The VMs go on.
    pub(crate) async fn close(self) {
        self.service.stop.cancel();
        self.service.tasks.close();
        let drained = async {
            // A server that broke off has said so itself.
            let _ = self.server.await;
            self.service.tasks.wait().await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("requests that did not end in {} s are cut", DRAIN.as_secs());
        }
        if let Some(launcher) = &self.service.launcher {
            launcher.shut_down().await;
        }
        self.machinery.close().await;
    }
}

/// By what a node is reached.
struct Ends {
    address: SocketAddr,
    gateway: gateway::Gateway,
}

/// What stands in front of the control plane: identities, launcher, Warren's own service.
async fn serving(
    settings: Settings,
    names: &Names,
    machinery: &Machinery,
    Ends { address, gateway }: Ends,
) -> Result<Arc<Service>, NodeError> {
    let Machinery { control, objects, artifacts, .. } = machinery;
    let mut iam = identities(&settings.region, &settings.account, &settings.iam_files)?;
    if let Some(prefix) = names.secrets {
        allow_secrets(&mut iam, &settings.region, &settings.account, prefix);
    }
    if settings.launcher.mode == LauncherMode::Poll {
        keep_key_on_host(&mut iam, &settings.region, &settings.account, &names.environment_key);
    }
    let auth = AuthSettings {
        region: settings.region.clone(),
        account: settings.account.clone(),
        clock_skew: CLOCK_SKEW,
        clock: Arc::new(SystemClock),
        iam,
    };
    let authenticator = Arc::new(Authenticator::new(auth, control.credentials().clone())?);
    let reader = ObjectReader::new(objects.clone(), authenticator.clone());
    if artifacts.reader.set(reader).is_err() {
        tracing::warn!("artifacts are read by another reader already");
    }
    // Last, since it begins to work at once.
    let launcher = start_launcher(&settings, names, control, address).await?;
    Ok(Arc::new(Service {
        control: control.clone(),
        objects: objects.clone(),
        builder: machinery.builder.clone(),
        authenticator,
        launcher,
        settings,
        gateway,
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        uploads: Semaphore::new(service::UPLOADS_MAX),
    }))
}

/// Ends every VM of a data directory whose service does not run.
pub(crate) async fn terminate_orphans(settings: &Settings) -> Result<(), NodeError> {
    let _lock = Lock::take(&settings.data_dir, "warren", "warren down")?;
    // Nothing serves the VMs, which are about to end.
    let machinery = Machinery::open(settings, GUEST_API_LISTEN).await?;
    let ended = machinery.control.terminate_all().await;
    machinery.close().await;
    ended.map_err(NodeError::from)
}

impl Machinery {
    /// `guest_api` is where the VMs' relay to AWS leads.
    async fn open(settings: &Settings, guest_api: SocketAddr) -> Result<Self, NodeError> {
        for name in PRIVATE_DIRS {
            let path = settings.data_dir.join(name);
            make_private(&path).map_err(|source| NodeError::Directory { path, source })?;
        }
        let engine = open_engine(settings).await.map_err(NodeError::Engine)?;
        let builder = Arc::new(image::ImageBuilder::new(image_config(settings)));
        let objects = Arc::new(Objects::open(&settings.data_dir.join("objects")).await?);
        let artifacts = Arc::new(Artifacts { reader: SetOnce::new() });
        let back_door = Arc::new(egress::Egress::new(
            EgressConfig {
                aws_api: guest_api,
                platform: relayed_platform(&settings.platform_url),
                resolv_conf: RESOLV_CONF.into(),
            },
            Arc::new(SystemClock),
        ));
        let outside = Outside {
            engine: engine.clone(),
            back_door: back_door.clone(),
            artifacts: artifacts.clone(),
            image_builder: Arc::new(Builder(builder.clone())),
            clock: Arc::new(SystemClock),
        };
        match Control::open(control_config(settings), outside).await {
            Ok(control) => Ok(Self { control, engine, back_door, builder, artifacts, objects }),
            Err(error) => {
                builder.shut_down().await;
                back_door.shut_down().await;
                engine.shutdown().await;
                objects.close().await;
                Err(error.into())
            }
        }
    }

    async fn close(self) {
        self.builder.shut_down().await;
        self.control.shutdown().await;
        self.back_door.shut_down().await;
        self.engine.shutdown().await;
        self.objects.close().await;
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// The engine alone, which calibrates the accelerator.
pub(crate) async fn open_engine(settings: &Settings) -> Result<Arc<Qemu>, EngineError> {
    let accelerator = match (settings.engine.require, settings.engine.accelerator) {
        (Require::Kvm, _) | (Require::Any, Accelerator::Kvm) => AcceleratorChoice::Kvm,
        (Require::Any, Accelerator::Auto) => AcceleratorChoice::Auto,
        (Require::Any, Accelerator::Tcg) => AcceleratorChoice::Tcg,
    };
    Qemu::open(QemuConfig {
        state_dir: settings.data_dir.join("engine"),
        share_dir: settings.engine.share_dir.clone(),
        libexec_dir: settings.engine.libexec_dir.clone(),
        accelerator,
        standby: settings.engine.standby.into(),
    })
    .await
}

fn image_config(settings: &Settings) -> image::ImageConfig {
    let share_dir = &settings.engine.share_dir;
    let mut config = image::ImageConfig::new(share_dir, settings.data_dir.join("images"));
    config.aliases.extend(settings.image.aliases.iter().cloned());
    config.plain_registries.extend(settings.image.plain_registries.iter().cloned());
    config.limits.memory_bytes = settings.image.build_memory_bytes;
    config.limits.time_max = settings.image.build_time;
    config.kept_bytes = settings.image.kept_bytes;
    config
}

fn control_config(settings: &Settings) -> ControlConfig {
    let region = &settings.region;
    let mut config = ControlConfig::new(&settings.data_dir);
    config.region.clone_from(region);
    config.account.clone_from(&settings.account);
    config.internet = match settings.internet {
        Switch::On => Internet::Reachable,
        Switch::Off => Internet::Closed,
    };
    config.idle_counts = match settings.idle_counts {
        Counts::Work => IdleCounts::Work,
        Counts::Ingress => IdleCounts::Ingress,
    };
    config.quotas = settings.limits.quotas();
    config.endpoint_domain.clone_from(&settings.gateway.domain);
    // A name that cannot be an image's is refused where it is used, with the key's name.
    config.standby_image = control::ImageName::parse(&settings.launcher.image).ok();
    for (name, value) in &mut config.platform_environment {
        if name == "AWS_REGION" || name == "AWS_DEFAULT_REGION" {
            value.clone_from(region);
        }
    }
    config
}

async fn listen(address: SocketAddr) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => NodeError::PortTaken { address },
        _ => NodeError::Listen { address, source },
    })
}

/// With the port that port 0 became; `asked` is for the error.
fn local_address(listener: &TcpListener, asked: SocketAddr) -> Result<SocketAddr, NodeError> {
    listener.local_addr().map_err(|source| NodeError::Listen { address: asked, source })
}

/// None where no environment is configured.
async fn start_launcher(
    settings: &Settings,
    names: &Names,
    control: &Arc<Control>,
    address: SocketAddr,
) -> Result<Option<Launcher>, NodeError> {
    let Some(environment) = &settings.launcher.environment_id else { return Ok(None) };
    let environment = EnvironmentId::new(environment).map_err(NodeError::Environment)?;
    let dir = settings.data_dir.join(names.launcher_dir);
    let mut config = LauncherConfig::new(environment, &settings.launcher.image, dir);
    config.mode = match settings.launcher.mode {
        LauncherMode::Webhook => Mode::Webhook,
        LauncherMode::Poll => {
            let url = settings.platform_url.as_str().trim_end_matches('/');
            Mode::Poll { platform_url: url.parse().map_err(NodeError::PlatformUrl)? }
        }
    };
    config.endpoint_url = Some(format!("http://{}", own_address(address)));
    config.region.clone_from(&settings.region);
    config.signing_secret_id.clone_from(&names.signing_secret);
    config.environment_key_secret_id.clone_from(&names.environment_key);
    config.guest_platform_url = Some(guest_platform_url(&settings.platform_url));
    config.vm.execution_role_arn = Some(role_arn(&settings.account, EXECUTION_ROLE));
    // So that a person can look into a session's VM.
    config.vm.ingress_connectors = ["HTTP_INGRESS", "SHELL_INGRESS"]
        .map(|name| managed_connector(&settings.region, name))
        .to_vec();
    let seconds = i32::try_from(settings.launcher.max_duration.as_secs());
    config.vm.max_duration_seconds = seconds.unwrap_or(launcher::MAX_DURATION_SECONDS_DEFAULT);
    config.vm.at_end = match settings.launcher.at_end {
        AtEnd::Terminate => launcher::AtEnd::Terminate,
        AtEnd::Suspend => launcher::AtEnd::Suspend {
            seconds: i32::try_from(settings.launcher.suspended.as_secs()).unwrap_or(i32::MAX),
        },
        AtEnd::Checkpoint => launcher::AtEnd::Keep,
    };
    if settings.launcher.at_end == AtEnd::Checkpoint {
        let keeper = SessionKeeper::new(control.clone(), settings.launcher.max_duration);
        config.comeback = Some(Arc::new(keeper));
    }
    let role =
        RoleArn::parse(&role_arn(&settings.account, LAUNCHER_ROLE)).map_err(ControlError::from)?;
    let credentials = control.credentials().clone();
    let provider = SharedCredentialsProvider::new(LauncherCredentials { role, credentials });
    Ok(Some(Launcher::start(config, provider).await?))
}

fn managed_connector(region: &str, name: &str) -> String {
    format!("arn:aws:lambda:{region}:aws:network-connector:aws-network-connector:{name}")
}

/// The platform on the internet is reached as it is; one on this host or its networks, which no VM
/// can reach, by egress' relay.
fn guest_platform_url(platform: &url::Url) -> String {
    if config::is_relayed(platform) {
        GUEST_PLATFORM.into()
    } else {
        platform.as_str().trim_end_matches('/').into()
    }
}

fn relayed_platform(platform: &url::Url) -> Option<Target> {
    let host = platform.host_str().filter(|_| config::is_relayed(platform))?;
    let host = host.trim_matches(['[', ']']).to_owned();
    Some(Target { host, port: platform.port_or_known_default()? })
}

/// An address at which this process reaches its own server.
fn own_address(listen: SocketAddr) -> SocketAddr {
    let ip =
        if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    SocketAddr::new(ip, listen.port())
}

async fn serve(listener: TcpListener, router: axum::Router, stop: CancellationToken) {
    let listener = listener.tap_io(|stream| {
        // Small answers must not wait for acknowledgements; a socket that cannot do it still works.
        let _ = stream.set_nodelay(true);
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the server broke off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_that_no_vm_can_reach_is_relayed() {
        let url = |text: &str| guest_platform_url(&url::Url::parse(text).unwrap());
        assert_eq!(url("http://127.0.0.1:7430"), GUEST_PLATFORM);
        assert_eq!(url("http://localhost:9/"), GUEST_PLATFORM);
        assert_eq!(url("http://192.168.1.5:7430"), GUEST_PLATFORM);
        assert_eq!(url("https://api.anthropic.com"), "https://api.anthropic.com");
    }
}
