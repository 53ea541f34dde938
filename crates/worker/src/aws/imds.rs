//! Credentials of the VM's role, by IMDSv2: a token first, then the role, then its keys.

use std::time::{Duration, SystemTime};

use agents::client::{Answer, Transport, TransportError};
use aws_credential_types::Credentials;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

/// How long a token may be used, in seconds; it is used at once.
const TOKEN_TTL: &str = "60";
/// Right after a restore the network may need a moment.
const ATTEMPTS_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);
const ROLE_PATH: &str = "latest/meta-data/iam/security-credentials/";

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum ImdsError {
    /// No answer.
    #[error("the instance metadata service at {endpoint} does not answer")]
    Transport {
        /// Its URL.
        endpoint: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// An error answer.
    #[error("the instance metadata service answered {status} to {path}; has the VM a role?")]
    Refused {
        /// The path asked for.
        path: String,
        /// The answer's status.
        status: StatusCode,
    },
    /// An answer that holds no credentials.
    #[error("the instance metadata service gave no readable credentials")]
    Unreadable(#[source] serde_json::Error),
    /// A request that cannot be built from the endpoint.
    #[error("no request can be made to {endpoint}")]
    BadEndpoint {
        /// Its URL.
        endpoint: String,
        /// Why.
        #[source]
        source: http::Error,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleCredentials {
    access_key_id: String,
    secret_access_key: String,
    token: String,
    expiration: Option<String>,
}

/// The current credentials of the VM's role. Each call asks anew: it happens twice in a VM's
/// life, and a VM may have slept in between.
pub(super) async fn credentials(
    transport: &Transport,
    endpoint: &Url,
) -> Result<Credentials, ImdsError> {
    let mut attempt = 1;
    loop {
        match fetch(transport, endpoint).await {
            Err(ImdsError::Transport { .. }) if attempt < ATTEMPTS_MAX => {
                tokio::time::sleep(PAUSE * attempt).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

async fn fetch(transport: &Transport, endpoint: &Url) -> Result<Credentials, ImdsError> {
    let imds = Imds { transport, endpoint };
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL);
    let token = imds.ask(Method::PUT, "latest/api/token", ttl).await?;
    let token = text(&token);
    let with_token = ("x-aws-ec2-metadata-token", token.as_str());
    let roles = text(&imds.ask(Method::GET, ROLE_PATH, with_token).await?);
    let role = roles.lines().next().unwrap_or_default();
    let answer = imds.ask(Method::GET, &format!("{ROLE_PATH}{role}"), with_token).await?;
    let found: RoleCredentials =
        serde_json::from_slice(&answer.body).map_err(ImdsError::Unreadable)?;
    let expires = found.expiration.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
    Ok(Credentials::new(
        found.access_key_id,
        found.secret_access_key,
        Some(found.token),
        expires.map(SystemTime::from),
        "imds",
    ))
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).trim().to_owned()
}

struct Imds<'a> {
    transport: &'a Transport,
    endpoint: &'a Url,
}

impl Imds<'_> {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        header: (&str, &str),
    ) -> Result<Answer, ImdsError> {
        let endpoint = self.endpoint.as_str().trim_end_matches('/').to_owned();
        let request = Request::builder()
            .method(method)
            .uri(format!("{endpoint}/{path}"))
            .header(header.0, header.1)
            .body(Full::new(Bytes::new()));
        let request = match request {
            Ok(request) => request,
            Err(source) => return Err(ImdsError::BadEndpoint { endpoint, source }),
        };
        let answer = self.transport.send(request).await;
        let answer = answer.map_err(|source| ImdsError::Transport { endpoint, source })?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(ImdsError::Refused { path: path.to_owned(), status: answer.status })
    }
}
