//! Everything that a session needs, set up by the means that any user has: the platform's API and
//! Console, Secrets Manager, the image build.

use super::{DemoError, interrupted};
use crate::{
    commands::{Context, platform::StartError},
    config::Settings,
    node::{DEFAULT_IMAGE, Names, Node},
    print::Printer,
    progress::Progress,
};
use agents::{
    EnvironmentId, Secret, SessionId,
    client::{BaseUrl, Client, Transport},
    webhook::SESSION_RUN_STARTED,
};
use control::{
    BuildProgress, Control, ControlError, CreateSecret, ImageName, PutSecret, SecretName,
    SecretValue, StartedBuild,
};
use hyper::Method;
use platform::{Platform, PlatformConfig};
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf};

const SECRETS: &str = "warren/demo/";
const SIGNING_SECRET: &str = "warren/demo/webhook-signing-secret";
const ENVIRONMENT_KEY: &str = "warren/demo/environment-key";
const ENVIRONMENT: &str = "warren-demo";
const MODEL: &str = "scripted";

pub(super) struct Stage {
    platform: Platform,
    platform_dir: PathBuf,
    pub(super) node: Node,
    pub(super) environment: EnvironmentId,
    /// With the organisation's key, as a user of the platform has it.
    pub(super) operator: Client,
    /// With the environment's key, as a worker has it.
    pub(super) worker: Client,
    pub(super) image: ImageName,
}

impl Stage {
    pub(super) async fn set(context: &Context, image: Option<String>) -> Result<Self, DemoError> {
        let mut settings = context.settings.clone();
        if let Some(image) = image {
            settings.launcher.image = image;
        }
        let image = ImageName::parse(&settings.launcher.image)
            .map_err(|_| DemoError::NoImage { image: settings.launcher.image.clone() })?;
        let platform_dir = settings.data_dir.join("demo/platform");
        let platform = start_platform(&settings, &platform_dir).await?;
        let environment = environment(&platform).await?;
        let key = platform.rotate_environment_key(&environment).await.map_err(StartError::from)?;
        let base_url = platform.base_url();
        let base: BaseUrl = base_url.parse().map_err(|_| DemoError::Answer("its address"))?;
        settings.platform_url =
            url::Url::parse(&base_url).map_err(|_| DemoError::Answer("its address"))?;
        settings.launcher.environment_id = Some(environment.to_string());
        let node = match Node::open(settings, names()).await {
            Ok(node) => node,
            Err(e) => {
                platform.shutdown().await;
                return Err(e.into());
            }
        };
        let operator = Client::new(Transport::new(), base, platform.api_key().clone());
        let worker = operator.with_credential(key.clone());
        let stage = Self { platform, platform_dir, node, environment, operator, worker, image };
        // The first image build takes minutes: given up, what runs already is ended in order.
        let prepared = tokio::select! {
            prepared = stage.prepare(&context.printer, &key) => prepared,
            () = interrupted() => Err(DemoError::Interrupted),
        };
        match prepared {
            Ok(()) => Ok(stage),
            Err(e) => {
                stage.clear().await;
                Err(e)
            }
        }
    }

    async fn prepare(&self, printer: &Printer, key: &Secret) -> Result<(), DemoError> {
        let control = self.node.control();
        put_secret(control, ENVIRONMENT_KEY, key).await?;
        let hook = format!("http://{}{}", self.node.address, launcher::WEBHOOK_PATH);
        let endpoint = self.platform.add_webhook_endpoint(&hook, &[SESSION_RUN_STARTED]).await;
        let endpoint = endpoint.map_err(StartError::from)?;
        put_secret(control, SIGNING_SECRET, &endpoint.secret).await?;
        if self.image.as_str() == DEFAULT_IMAGE
            && let Some(started) = self.node.ensure_default_image().await?
        {
            watch_build(printer, started).await?;
        }
        match control.images().get(&self.image).await {
            Ok(image) if image.latest_active_version.is_some() => Ok(()),
            Ok(_) | Err(ControlError::ImageNotFound(_)) => {
                Err(DemoError::NoImage { image: self.image.to_string() })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// An agent with the six tools, and a session of it.
    pub(super) async fn create_session(&self) -> Result<SessionId, DemoError> {
        let agent = json!({
            "name": "warren-demo", "model": MODEL, "tools": [{"type": "agent_toolset_20260401"}],
        });
        let agent = self.operator.raw(Method::POST, "/v1/agents", Some(agent)).await?;
        let session = json!({
            "agent": text(&agent, "id")?, "environment_id": self.environment, "title": "warren demo",
        });
        let session = self.operator.raw(Method::POST, "/v1/sessions", Some(session)).await?;
        SessionId::new(text(&session, "id")?).map_err(|_| DemoError::Answer("a session's id"))
    }

    pub(super) fn platform_url(&self) -> String {
        self.platform.base_url()
    }

    pub(super) fn key_file(&self) -> String {
        self.platform_dir.join("api-key").display().to_string()
    }

    /// Stops both; VMs that still run go on.
    pub(super) async fn clear(self) {
        self.node.close().await;
        self.platform.shutdown().await;
    }
}

pub(super) fn text<'v>(value: &'v Value, member: &'static str) -> Result<&'v str, DemoError> {
    value.get(member).and_then(Value::as_str).ok_or(DemoError::Answer(member))
}

fn names() -> Names {
    Names {
        signing_secret: SIGNING_SECRET.into(),
        environment_key: ENVIRONMENT_KEY.into(),
        launcher_dir: "demo/launcher",
        secrets: Some(SECRETS),
    }
}

/// On the configured port, or on any where that is taken: nobody but this process needs to know.
async fn start_platform(
    settings: &Settings,
    dir: &std::path::Path,
) -> Result<Platform, StartError> {
    let started = Platform::start(PlatformConfig::new(settings.platform_listen, dir)).await;
    match started.map_err(StartError::from) {
        Err(StartError::PortTaken { .. }) => {
            let any = (Ipv4Addr::LOCALHOST, 0).into();
            Platform::start(PlatformConfig::new(any, dir)).await.map_err(StartError::from)
        }
        other => other,
    }
}

/// The demo's environment; made at its first run.
async fn environment(platform: &Platform) -> Result<EnvironmentId, StartError> {
    match platform.find_environment(ENVIRONMENT).await? {
        Some(id) => Ok(id),
        None => Ok(platform.create_environment(ENVIRONMENT).await?.id),
    }
}

async fn put_secret(control: &Control, name: &str, value: &Secret) -> Result<(), ControlError> {
    let value = SecretValue::Text(value.expose().to_owned());
    let put = PutSecret {
        secret: name.to_owned(),
        value: value.clone(),
        version_id: None,
        stages: Vec::new(),
    };
    match control.secrets().put(put).await {
        Err(ControlError::SecretNotFound(_)) => {
            let create = CreateSecret {
                name: SecretName::parse(name)?,
                description: Some("of warren demo".into()),
                value: Some(value),
                version_id: None,
                tags: BTreeMap::new(),
            };
            control.secrets().create(create).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

async fn watch_build(printer: &Printer, started: StartedBuild) -> Result<(), DemoError> {
    let image = started.image.arn.name.to_string();
    let mut progress = Progress::new(printer);
    let Some(mut steps) = started.progress else { return Ok(()) };
    while let Some(step) = steps.recv().await {
        match step {
            BuildProgress::Step(step) => progress.stage(&format!("image {image}: {step}")),
            BuildProgress::Line(line) => progress.log(&line),
            BuildProgress::Finished { result: Ok(_), .. } => {
                progress.finish();
                return Ok(());
            }
            BuildProgress::Finished { result: Err(reason), .. } => {
                progress.fail();
                return Err(DemoError::Build { image, reason });
            }
        }
    }
    Err(DemoError::Build { image, reason: "it broke off".into() })
}
