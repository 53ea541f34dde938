//! The instance metadata service of one VM, version 2 only.
//!
//! What is asked here comes from this VM by construction of its socket. The token dance is not
//! there to know who asks, but to keep a request that somebody tricked a server in the VM into
//! making (an SSRF) from getting the role's credentials: such a request cannot PUT, cannot set
//! headers, or has been forwarded.

use crate::{
    imds_token::TokenKey,
    role::{Role, RoleCredentials},
    stats::{ImdsCounters, count},
};
use bytes::Bytes;
use control::{Clock, ImageArn, ImageVersion, MicrovmId};
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use serde_json::json;
use std::{sync::Arc, time::Duration};

const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TOKEN_TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// Life of a token, seconds, as EC2 allows it.
const TOKEN_TTL_SECONDS: std::ops::RangeInclusive<u32> = 1..=21_600;
/// What AWS calls the role in a MicroVM, whatever its real name.
const ROLE_NAME: &str = "execution_role";
/// Whole seconds, as AWS's credential documents have it.
const DATE: &[time::format_description::FormatItem<'_>] =
    time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// What a VM may know about itself.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) id: MicrovmId,
    pub(crate) image: ImageArn,
    pub(crate) version: ImageVersion,
}

/// The service of one VM.
pub(crate) struct Imds {
    identity: Identity,
    role: Option<Role>,
    tokens: TokenKey,
    clock: Arc<dyn Clock>,
}

/// What there is at a path.
enum Leaf {
    Text(String),
    Json(serde_json::Value),
    Credentials(RoleCredentials),
}

/// Why a request gets nothing.
#[derive(Clone, Copy)]
enum Refusal {
    /// Anything but the one method that is good here.
    MethodNotAllowed {
        allow: &'static str,
    },
    /// A token was asked for through a proxy.
    Forwarded,
    /// A token was asked for without a life time, or with one out of bounds.
    BadTtl,
    /// No token, or one that is not good: version 1 is not served.
    NoToken,
    NotFound,
}

impl Imds {
    pub(crate) fn new(identity: Identity, role: Option<Role>, clock: Arc<dyn Clock>) -> Self {
        Self { identity, role, tokens: TokenKey::random(), clock }
    }

    /// Answers one request.
    pub(crate) fn answer(
        &self,
        head: &http::request::Parts,
        counters: &ImdsCounters,
    ) -> Response<Full<Bytes>> {
        count(&counters.requests);
        let path = head.uri.path();
        let answer = if path == TOKEN_PATH {
            self.token(&head.method, &head.headers)
        } else {
            self.read(&head.method, path, &head.headers).map(|leaf| {
                if let Leaf::Credentials(_) = leaf {
                    count(&counters.credentials);
                }
                leaf.response()
            })
        };
        answer.unwrap_or_else(|refusal| {
            count(&counters.refused);
            refusal.response()
        })
    }

    fn token(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        if method != Method::PUT {
            return Err(Refusal::MethodNotAllowed { allow: "PUT" });
        }
        if headers.contains_key("x-forwarded-for") {
            return Err(Refusal::Forwarded);
        }
        let ttl = headers.get(TOKEN_TTL_HEADER).ok_or(Refusal::BadTtl)?;
        let seconds: u32 =
            ttl.to_str().ok().and_then(|ttl| ttl.parse().ok()).ok_or(Refusal::BadTtl)?;
        if !TOKEN_TTL_SECONDS.contains(&seconds) {
            return Err(Refusal::BadTtl);
        }
        let expires_at = self.clock.now().plus(Duration::from_secs(seconds.into()));
        let mut response = text(StatusCode::OK, self.tokens.issue(expires_at));
        response.headers_mut().insert(TOKEN_TTL_HEADER, HeaderValue::from(seconds));
        Ok(response)
    }

    fn read(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Leaf, Refusal> {
        if method != Method::GET && method != Method::HEAD {
            return Err(Refusal::MethodNotAllowed { allow: "GET, HEAD" });
        }
        let token = headers.get(TOKEN_HEADER).ok_or(Refusal::NoToken)?;
        if !self.tokens.is_good(token.as_bytes(), self.clock.now()) {
            return Err(Refusal::NoToken);
        }
        self.leaf(path).ok_or(Refusal::NotFound)
    }

    /// The tree. A directory answers with or without its last slash, as lists do on EC2.
    fn leaf(&self, path: &str) -> Option<Leaf> {
        let text = |text: &str| Some(Leaf::Text(text.to_owned()));
        let identity = &self.identity;
        match path.trim_start_matches('/').trim_end_matches('/') {
            "latest" => text("dynamic\nmeta-data"),
            "latest/meta-data" => match self.role {
                Some(_) => text("iam/\ninstance-id\nplacement/"),
                None => text("instance-id\nplacement/"),
            },
            "latest/meta-data/instance-id" => text(identity.id.as_str()),
            "latest/meta-data/placement" => text("availability-zone\nregion"),
            "latest/meta-data/placement/region" => text(&identity.image.region),
            // One host is one zone; older SDKs learn the region from here.
            "latest/meta-data/placement/availability-zone" => {
                Some(Leaf::Text(format!("{}a", identity.image.region)))
            }
            "latest/meta-data/iam" => self.role.as_ref().and(text("security-credentials/")),
            "latest/meta-data/iam/security-credentials" => self.role.as_ref().and(text(ROLE_NAME)),
            "latest/meta-data/iam/security-credentials/execution_role" => {
                self.role.as_ref().map(|role| Leaf::Credentials(role.credentials()))
            }
            "latest/dynamic" => text("instance-identity/"),
            "latest/dynamic/instance-identity" => text("document"),
            "latest/dynamic/instance-identity/document" => Some(Leaf::Json(json!({
                "accountId": identity.image.account,
                "architecture": std::env::consts::ARCH,
                "imageId": identity.image.to_string(),
                "imageVersion": identity.version.to_string(),
                "instanceId": identity.id.as_str(),
                "region": identity.image.region,
                "version": "2017-09-30",
            }))),
            _ => None,
        }
    }
}

impl Leaf {
    fn response(self) -> Response<Full<Bytes>> {
        match self {
            Self::Text(body) => text(StatusCode::OK, body),
            Self::Json(document) => json_text(&document),
            Self::Credentials(role) => json_text(&json!({
                "Code": "Success",
                "LastUpdated": date(role.issued_at),
                "Type": "AWS-HMAC",
                "AccessKeyId": role.access_key_id,
                "SecretAccessKey": role.secret_access_key,
                "Token": role.token,
                "Expiration": date(role.expires_at),
            })),
        }
    }
}

impl Refusal {
    fn response(self) -> Response<Full<Bytes>> {
        match self {
            Self::MethodNotAllowed { allow } => {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                response
            }
            Self::Forwarded => text(StatusCode::FORBIDDEN, "Forbidden: the request was forwarded"),
            Self::BadTtl => text(
                StatusCode::BAD_REQUEST,
                format!("Bad Request: {TOKEN_TTL_HEADER} must be 1 to 21600"),
            ),
            Self::NoToken => text(
                StatusCode::UNAUTHORIZED,
                format!("Unauthorized: PUT {TOKEN_PATH} gives the {TOKEN_HEADER} to send"),
            ),
            Self::NotFound => text(StatusCode::NOT_FOUND, "Not Found"),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// JSON, under the type that EC2 gives it.
fn json_text(document: &serde_json::Value) -> Response<Full<Bytes>> {
    text(StatusCode::OK, format!("{document:#}"))
}

fn date(at: control::Timestamp) -> String {
    // A fixed format of numbers: it cannot fail.
    at.utc().format(DATE).unwrap_or_default()
}
