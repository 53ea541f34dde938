//! A Warren of its own for a test: control on an engine that runs nothing, the AWS surface on a
//! loopback port, the image `claude-worker`, and stock clients as child processes.

mod engine;

use ::engine::GuestSockets;
use async_trait::async_trait;
use aws::{
    AccessKey, AuthSettings, Authenticator, AwsState, CLOCK_SKEW, IamConfig, Rates, Throttles,
    UserConfig, router,
};
use control::{
    BackDoor, BackDoorError, BuildProgress, Clock, Control, ControlConfig, CreateImage, Hook,
    Hooks, ImageName, ImageSpec, Logging, MicrovmId, OsCapabilities, Outside, Quotas, RoleArn,
    SystemClock, VmAttachment,
};
use objects::Objects;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};
use tokio_util::task::TaskTracker;

/// Longest that any wait of these tests may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct World {
    pub(super) endpoint: String,
    pub(super) control: Arc<Control>,
    calls: TaskTracker,
    server: tokio::task::JoinHandle<()>,
    _data: tempfile::TempDir,
}

struct Wall;

#[async_trait]
impl BackDoor for Wall {
    async fn attach(&self, _vm: VmAttachment, _sockets: GuestSockets) -> Result<(), BackDoorError> {
        Ok(())
    }

    async fn detach(&self, _id: &MicrovmId) {}
}

/// Users besides the operator: one without any right, one whose rights a denial cuts, and one who
/// may read a bucket.
fn users() -> Vec<UserConfig> {
    let user = |name: &str, key: &str, policies: &[&str]| UserConfig {
        name: name.into(),
        access_keys: vec![AccessKey { id: key.into(), secret: "secret".into() }],
        policies: policies.iter().map(|&policy| policy.to_owned()).collect(),
    };
    vec![
        user("nobody", "AKIANOBODYNOBODYNOBO", &[]),
        user(
            "tagged",
            "AKIATAGGEDTAGGEDTAGG",
            &[r#"{"Version":"2012-10-17","Statement":[
                {"Effect":"Allow","Action":"lambda:*","Resource":"*",
                 "Condition":{"StringEquals":{"aws:ResourceTag/Team":"blue"},
                              "StringEqualsIfExists":{"aws:RequestTag/team":"blue"}}},
                {"Effect":"Deny","Action":"lambda:TagResource","Resource":"*",
                 "Condition":{"ForAnyValue:StringEquals":{"aws:TagKeys":["secret"]}}}]}"#],
        ),
        user(
            "guarded",
            "AKIAGUARDEDGUARDEDGU",
            &[r#"{"Version":"2012-10-17","Statement":[
                {"Effect":"Allow","Action":"lambda:*","Resource":"*"},
                {"Effect":"Deny","Action":"lambda:TerminateMicrovm","Resource":"*"}]}"#],
        ),
        user(
            "reader",
            "AKIAREADERREADERREAD",
            &[r#"{"Version":"2012-10-17","Statement":[
                {"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::first/*"},
                {"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::first",
                 "Condition":{"StringEquals":{"s3:prefix":"to"}}}]}"#],
        ),
    ]
}

impl World {
    pub(super) async fn start() -> Self {
        Self::limited(Rates::unlimited(), Quotas::default()).await
    }

    pub(super) async fn limited(rates: Rates, quotas: Quotas) -> Self {
        let data = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let config = ControlConfig { quotas, ..ControlConfig::new(data.path().join("data")) };
        let (region, account) = (config.region.clone(), config.account.clone());
        let outside = Outside {
            engine: Arc::new(engine::PaperEngine::new()),
            back_door: Arc::new(Wall),
            artifacts: Arc::new(control::testing::FakeArtifacts),
            image_builder: Arc::new(engine::PaperBuilder),
            clock: clock.clone(),
        };
        let control = Control::open(config, outside).await.unwrap();
        build_image(&control).await;
        let mut iam = IamConfig::standard(&region, &account);
        iam.users.extend(users());
        let settings = AuthSettings { region, account, clock_skew: CLOCK_SKEW, clock, iam };
        let authenticator = Authenticator::new(settings, control.credentials().clone()).unwrap();
        let (authenticator, calls) = (Arc::new(authenticator), TaskTracker::new());
        let objects = Arc::new(Objects::open(&data.path().join("objects")).await.unwrap());
        let state = AwsState {
            control: control.clone(),
            authenticator,
            objects,
            s3_domains: vec!["localhost".to_owned()],
            throttles: Arc::new(Throttles::new(rates)),
            calls: calls.clone(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let service = router(state).into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { endpoint, control, calls, server, _data: data }
    }

    pub(super) async fn stop(self) {
        self.control.terminate_all().await.unwrap();
        self.server.abort();
        self.calls.close();
        self.calls.wait().await;
        self.control.shutdown().await;
    }

    /// Environment of a client that is the operator, and nobody else of this machine.
    fn client(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let operator = self.control.credentials().operator();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("AWS_ACCESS_KEY_ID", &operator.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", operator.secret_access_key.expose());
        command
    }

    /// A Python program with boto3, from `tests/stock_clients`.
    pub(super) fn python(&self, script: &str) -> Command {
        let mut command = self.client(oracle("python3"));
        command.arg(manifest().join("tests/stock_clients").join(script));
        command
    }

    /// The AWS CLI from PyPI.
    pub(super) fn aws(&self, arguments: &[&str]) -> Command {
        let mut command = self.client(oracle("python3"));
        command.arg(oracle("aws")).args(arguments);
        command
    }

    /// Debian's AWS CLI 2.
    pub(super) fn aws2(&self, arguments: &[&str]) -> Command {
        let path = std::env::var_os("WARREN_AWSCLI2").unwrap_or_else(|| "/usr/bin/aws".into());
        assert!(
            Path::new(&path).exists(),
            "the AWS CLI 2 is missing at {}; run: scripts/setup --tests (or set WARREN_AWSCLI2)",
            path.display()
        );
        let mut command = self.client(path);
        // It is older than AWS_ENDPOINT_URL.
        command.args(["--endpoint-url", &self.endpoint]).args(arguments);
        command
    }
}

fn manifest() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn oracle(program: &str) -> PathBuf {
    let oracles = std::env::var_os("WARREN_ORACLES")
        .map_or_else(|| manifest().join("../../target/oracles"), PathBuf::from);
    let path = oracles.join("venv/bin").join(program);
    assert!(path.exists(), "{} is missing; run: scripts/oracles", path.display());
    path
}

/// Runs a client to its end beside the server.
pub(super) async fn run(mut command: Command) -> Output {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    tokio::time::timeout(PATIENCE, output).await.expect("the client ends").unwrap()
}

/// As [`run`], of a client that must succeed.
pub(super) async fn succeed(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = run(command).await;
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}\n{out}\n{err}");
    out.into_owned()
}

async fn build_image(control: &Arc<Control>) {
    let timeouts =
        [Hook::Ready, Hook::Run, Hook::Terminate].map(|hook| (hook, hook.default_timeout()));
    let spec = ImageSpec {
        artifact_uri: "s3://artifacts/image.zip".into(),
        base_image_arn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1".into(),
        base_image_version: None,
        architectures: Vec::new(),
        build_role: RoleArn::parse("arn:aws:iam::000000000000:role/warren-build").unwrap(),
        description: Some("the default worker".into()),
        memory_mib: 512,
        hooks: Hooks { port: Some(9000), timeouts: BTreeMap::from(timeouts), ..Hooks::default() },
        environment: vec![("KEY".into(), "value".into())],
        egress_connectors: Vec::new(),
        logging: Logging::Default,
        os_capabilities: OsCapabilities::Default,
    };
    let request = CreateImage {
        name: ImageName::parse("claude-worker").unwrap(),
        spec,
        tags: BTreeMap::new(),
        client_token: None,
    };
    let started = control.images().create(request).await.unwrap();
    let mut progress = started.progress.unwrap();
    let finished = async {
        while let Some(step) = progress.recv().await {
            if let BuildProgress::Finished { result, .. } = step {
                result.unwrap();
                return;
            }
        }
        panic!("the build ended without a result");
    };
    tokio::time::timeout(PATIENCE, finished).await.expect("the image is built");
}
