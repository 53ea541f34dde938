//! `warren verify`: walks the chain from webhook to VM, link by link, and names the broken one.
//!
//! Links are tried in the order in which a session needs them; what cannot be tried because an
//! earlier one is broken is said to be skipped, so that the first broken line is the cause.

mod launch;
mod rights;

pub(crate) use rights::launcher_rights;

use crate::{
    args,
    client::{Client, ClientError},
    commands::{Context, get_secret},
    config::LauncherMode,
    doctor::show,
    failure::{Exit, Outcome, Remedy, with_causes},
    print::Format,
    protocol::{CHECKS, Check, IMAGES, Image, STATUS, Status, Verdict},
};
use agents::{
    EnvironmentId, Secret,
    client::{BaseUrl, Client as PlatformClient, Transport},
    webhook::{ID_HEADER, Keys, SIGNATURE_HEADER, TIMESTAMP_HEADER},
};
use hyper::{Method, StatusCode};
use launcher::{ENVIRONMENT_KEY_SECRET_ID_DEFAULT, SIGNING_SECRET_ID_DEFAULT, WEBHOOK_PATH};
use serde_json::json;
use time::OffsetDateTime;

const SERVICE: &str = "service";
const LAUNCHER: &str = "launcher";
const SIGNING: &str = "webhook signing secret";
const ENVIRONMENT_KEY: &str = "environment key";
const IMAGE: &str = "image";
const SIGNED: &str = "a signed webhook";
const FORGED: &str = "a forged webhook";
const RIGHTS: &str = "launcher's rights";
const PLATFORM: &str = "platform";
const LAUNCH: &str = "launch of a VM";

pub(crate) async fn verify(context: &Context, verify: args::Verify) -> Outcome {
    let checks = walk(context, verify.launch).await;
    show(&context.printer, &checks)?;
    let broken = checks.iter().find(|c| c.verdict == Verdict::Broken);
    if context.printer.format() == Format::Human {
        match broken {
            Some(link) => context.printer.line(format!("\nthe chain breaks at: {}", link.name))?,
            None => context.printer.line("\nthe chain holds")?,
        }
    }
    Ok(if broken.is_some() { Exit::Failed } else { Exit::Success })
}

async fn walk(context: &Context, launch: bool) -> Vec<Check> {
    let mut checks = vec![Check::ok(
        "configuration",
        format!("data in {}", context.settings.data_dir.display()),
    )];
    let (client, status) = match service(context).await {
        Ok((client, status)) => {
            checks.push(Check::ok(
                SERVICE,
                format!("{} on {}, {}", status.version, client.address(), status.accelerator),
            ));
            (client, status)
        }
        Err(broken) => {
            checks.push(broken);
            let rest =
                [LAUNCHER, SIGNING, ENVIRONMENT_KEY, IMAGE, SIGNED, FORGED, RIGHTS, PLATFORM];
            checks.extend(rest.map(Check::skipped));
            return checks;
        }
    };
    checks.push(launcher_check(&status));
    let keys = match status.launcher_mode {
        LauncherMode::Webhook => {
            let (check, keys) = signing_secret(&client).await;
            checks.push(check);
            keys
        }
        // Nobody needs to ring, and where somebody does it changes nothing.
        LauncherMode::Poll => None,
    };
    let (check, key) = environment_key(&client).await;
    checks.push(check);
    checks.push(image(&client, &status).await);
    if status.launcher_mode == LauncherMode::Webhook {
        checks.extend(webhooks(&client, &status, keys.as_ref()).await);
    }
    checks.extend(rights(&client).await);
    checks.push(platform(&status, key).await);
    if launch {
        let broken = checks.iter().any(|c| c.verdict == Verdict::Broken && c.name == IMAGE);
        checks.push(match broken {
            true => Check::skipped(LAUNCH),
            false => launch::launch(&client, &context.settings, &status).await,
        });
    }
    checks
}

/// A client that was let in, and what the service says of itself.
async fn service(context: &Context) -> Result<(Client, Status), Check> {
    let broken = |e: &dyn Remedy| {
        Check::broken(
            SERVICE,
            with_causes(e),
            e.hint().unwrap_or_else(|| "see what it logs".into()),
        )
    };
    let client = context.client().map_err(|e| broken(&e))?;
    let status = client.own(Method::GET, STATUS).await.map_err(|e: ClientError| broken(&e))?;
    Ok((client, status))
}

fn launcher_check(status: &Status) -> Check {
    let found = match status.launcher_mode {
        LauncherMode::Webhook => "by webhook",
        LauncherMode::Poll => "by polling",
    };
    match &status.environment_id {
        Some(id) => {
            Check::ok(LAUNCHER, format!("serves {id} {found}, with image {}", status.image))
        }
        None => Check::broken(
            LAUNCHER,
            "no environment is configured, so no session is served",
            "warren up --environment ID, or launcher.environment_id in warren.toml",
        ),
    }
}

async fn read_secret(client: &Client, link: &str, name: &str) -> Result<String, Check> {
    get_secret(client, name).await.map_err(|e| match &e {
        ClientError::Refused { code, .. } if code.ends_with("ResourceNotFoundException") => {
            Check::broken(
                link,
                format!("there is no secret {name}"),
                format!("warren secret put {name}"),
            )
        }
        _ => Check::broken(link, with_causes(&e), "see what the service logs"),
    })
}

async fn signing_secret(client: &Client) -> (Check, Option<Keys>) {
    let name = SIGNING_SECRET_ID_DEFAULT;
    let text = match read_secret(client, SIGNING, name).await {
        Ok(text) => text,
        Err(broken) => return (broken, None),
    };
    match Keys::parse(&text) {
        Ok(keys) => (Check::ok(SIGNING, name), Some(keys)),
        Err(e) => {
            let remedy = format!("warren secret put {name}, with what the platform shows");
            (Check::broken(SIGNING, e.to_string(), remedy), None)
        }
    }
}

async fn environment_key(client: &Client) -> (Check, Option<Secret>) {
    let name = ENVIRONMENT_KEY_SECRET_ID_DEFAULT;
    let text = match read_secret(client, ENVIRONMENT_KEY, name).await {
        Ok(text) => text,
        Err(broken) => return (broken, None),
    };
    let remedy = format!("warren secret put {name}, with the key of the environment");
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
        let found = format!("{name} holds white space or other letters that no key has");
        return (Check::broken(ENVIRONMENT_KEY, found, remedy), None);
    }
    let check = if text.starts_with("sk-ant-api") {
        Check::broken(
            ENVIRONMENT_KEY,
            "this is an API key of the organisation, which has no place in a VM",
            remedy,
        )
    } else if text.starts_with("sk-ant-oat") {
        Check::ok(ENVIRONMENT_KEY, name)
    } else {
        Check::warn(ENVIRONMENT_KEY, "it does not look like an environment key", remedy)
    };
    (check, Some(Secret::new(text)))
}

async fn image(client: &Client, status: &Status) -> Check {
    let images: Vec<Image> = match client.own(Method::GET, IMAGES).await {
        Ok(images) => images,
        Err(e) => return Check::broken(IMAGE, with_causes(&e), "see what the service logs"),
    };
    let versions: Vec<&Image> = images.iter().filter(|i| i.name == status.image).collect();
    let active = versions.iter().find(|i| i.state == "ACTIVE");
    match (active, versions.first()) {
        (Some(image), _) => Check::ok(IMAGE, format!("{} {}", image.name, image.version)),
        (None, Some(image)) => Check::broken(
            IMAGE,
            format!(
                "{} {} is {}{}",
                image.name,
                image.version,
                image.state,
                image.state_reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
            ),
            "where it is being built, wait; else see what the service logs and build it again",
        ),
        (None, None) => Check::broken(
            IMAGE,
            format!("there is no image {}", status.image),
            format!("warren image build DIR --name {}", status.image),
        ),
    }
}

/// Delivers an event that launches nothing, once genuine and once forged, to the launcher.
async fn webhooks(client: &Client, status: &Status, keys: Option<&Keys>) -> [Check; 2] {
    let (Some(keys), Some(_)) = (keys, &status.environment_id) else {
        return [SIGNED, FORGED].map(Check::skipped);
    };
    let now = OffsetDateTime::now_utc();
    let id = format!("whe_verify_{}", uuid::Uuid::new_v4().simple());
    let body = json!({
        "type": "event", "id": id, "created_at": now.to_string(),
        "data": {"type": "session.status_idled", "id": "sesn_verify"},
    })
    .to_string();
    let signature = keys.sign(&id, now, body.as_bytes());
    let forged = keys.sign(&id, now, b"something else");
    let good = deliver(client, &id, now, &signature, &body).await;
    let bad = deliver(client, &id, now, &forged, &body).await;
    let expect = |link, answer, status: StatusCode, remedy: &str| match answer {
        Ok(found) if found == status => Check::ok(link, format!("answered {}", status.as_u16())),
        Ok(found) => Check::broken(link, format!("answered {found}, not {status}"), remedy),
        Err(e) => Check::broken(link, with_causes(&e), remedy),
    };
    [
        expect(
            SIGNED,
            good,
            StatusCode::OK,
            "the launcher may still hold an older secret for some minutes; then see what it logs",
        ),
        expect(FORGED, bad, StatusCode::UNAUTHORIZED, "this must not be: stop the service"),
    ]
}

async fn deliver(
    client: &Client,
    id: &str,
    at: OffsetDateTime,
    signature: &str,
    body: &str,
) -> Result<StatusCode, ClientError> {
    let timestamp = at.unix_timestamp().to_string();
    let headers = [
        (ID_HEADER, id),
        (TIMESTAMP_HEADER, timestamp.as_str()),
        (SIGNATURE_HEADER, signature),
        ("content-type", "application/json"),
    ];
    client.post_unsigned(WEBHOOK_PATH, &headers, body.to_owned().into()).await
}

async fn rights(client: &Client) -> Vec<Check> {
    match client.own::<Vec<Check>>(Method::GET, CHECKS).await {
        Ok(checks) => checks,
        Err(e) => vec![Check::broken(RIGHTS, with_causes(&e), "see what the service logs")],
    }
}

/// Asks the platform for the queue's statistics with the environment's key.
async fn platform(status: &Status, key: Option<Secret>) -> Check {
    let (Some(environment), Some(key)) = (&status.environment_id, key) else {
        return Check::skipped(PLATFORM);
    };
    let url = &status.platform_url;
    let remedy = "check platform.base_url; the emulator is started with `warren platform`";
    let (Ok(base), Ok(environment)) = (url.parse::<BaseUrl>(), EnvironmentId::new(environment))
    else {
        return Check::broken(PLATFORM, format!("{url} or {environment} is not usable"), remedy);
    };
    let client = PlatformClient::new(Transport::new(), base, key);
    let path = format!("/v1/environments/{environment}/work/stats");
    match client.raw(Method::GET, &path, None).await {
        Ok(stats) => {
            let depth = stats.get("depth").and_then(serde_json::Value::as_u64).unwrap_or_default();
            Check::ok(PLATFORM, format!("{url}, {depth} items waiting"))
        }
        Err(e) if e.status() == Some(StatusCode::UNAUTHORIZED) => Check::broken(
            PLATFORM,
            format!("{url} does not take the environment key"),
            format!("warren secret put {ENVIRONMENT_KEY_SECRET_ID_DEFAULT}, with a fresh key"),
        ),
        Err(e) if e.status() == Some(StatusCode::NOT_FOUND) => Check::broken(
            PLATFORM,
            format!("{url} knows no environment {environment}"),
            "check launcher.environment_id",
        ),
        Err(e) => Check::broken(PLATFORM, with_causes(&e), remedy),
    }
}
