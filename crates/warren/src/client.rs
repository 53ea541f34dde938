//! The client of a running `warren up`: signed HTTP to the API port.
//!
//! One connection a request: they are few, go over loopback, and may be upgraded. The same client
//! speaks to the AWS services there and to Warren's own; only the signing name differs.

mod exec;
mod lines;
mod shell;

pub(crate) use exec::{ExecStream, Sender};
pub(crate) use lines::Lines;
pub(crate) use shell::Socket;

use crate::{
    config::Credentials,
    failure::{Exit, Remedy},
    protocol::{self, SERVICE, Vm},
};
use aws_credential_types::Credentials as SigningCredentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, SignableBody, SignableRequest, SigningError, SigningSettings, sign,
    },
    sign::v4,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime},
};
use tokio::net::TcpStream;

const CONNECT_SECONDS_MAX: u64 = 5;
/// Until the head of an answer; a cold `RunMicrovm` is the slowest.
const ANSWER_SECONDS_MAX: u64 = 120;
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(crate) struct Client {
    address: SocketAddr,
    region: String,
    credentials: Credentials,
}

/// A request before it is signed.
pub(crate) struct Call<'a> {
    /// Signing name of the service.
    pub(crate) service: &'a str,
    pub(crate) method: Method,
    /// Path and query, encoded.
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("the Warren service at {address} does not answer")]
    Unreachable {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("the Warren service at {address} did not answer within {ANSWER_SECONDS_MAX} s")]
    Slow { address: SocketAddr },
    #[error("the request to {path} broke off")]
    Broken {
        path: String,
        #[source]
        source: hyper::Error,
    },
    #[error("the connection to the command in the VM broke")]
    Stream(#[source] io::Error),
    #[error("the endpoint at {address} opens no shell")]
    Shell {
        address: SocketAddr,
        #[source]
        source: tokio_tungstenite::tungstenite::Error,
    },
    #[error("the request to {path} cannot be made")]
    BadRequest {
        path: String,
        #[source]
        source: http::Error,
    },
    #[error("the request cannot be signed")]
    Signing(#[source] SigningError),
    #[error("the answer of {path} is not understood: {reason}")]
    BadAnswer { path: String, reason: String },
    /// The service's own words.
    #[error("{message}")]
    Refused { status: StatusCode, code: String, message: String },
    #[error("there is no VM {name:?}")]
    NoSuchVm { name: String },
    #[error("{name:?} is the beginning of several VMs' ids: {ids}")]
    Ambiguous { name: String, ids: String },
}

impl Remedy for ClientError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some(
                "start it with `warren up`, or name its data directory and address with --data-dir \
                 and WARREN_API_LISTEN"
                    .into(),
            ),
            Self::Slow { .. } => Some("see what `warren up` logs, and `warren verify`".into()),
            Self::Broken { .. } | Self::Stream(_) | Self::Shell { .. } => Some("see what `warren up` logs".into()),
            Self::BadAnswer { .. } => {
                Some("is this address that of a `warren up` of the same version?".into())
            }
            Self::Refused { status, .. } if *status == StatusCode::FORBIDDEN => Some(
                "the credentials are not this service's: unset AWS_ACCESS_KEY_ID, or run \
                 `eval \"$(warren env)\"`"
                    .into(),
            ),
            Self::NoSuchVm { .. } | Self::Ambiguous { .. } => {
                Some("`warren ps --all` lists the VMs".into())
            }
            Self::Refused { .. } | Self::BadRequest { .. } | Self::Signing(_) => None,
        }
    }
    fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Slow { .. } => Exit::Unreachable,
            Self::Broken { .. }
            | Self::Stream(_)
            | Self::Shell { .. }
            | Self::BadRequest { .. }
            | Self::Signing(_)
            | Self::BadAnswer { .. }
            | Self::Refused { .. }
            | Self::NoSuchVm { .. }
            | Self::Ambiguous { .. } => Exit::Failed,
        }
    }
}

impl Client {
    /// A client of the service that listens on `listen`; an unspecified address is reached by
    /// loopback.
    pub(crate) fn new(listen: SocketAddr, region: &str, credentials: Credentials) -> Self {
        Self { address: reachable(listen), region: region.to_owned(), credentials }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends and returns the head of a successful answer, with its body still to be read.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for a status over 299.
    pub(crate) async fn send(&self, call: Call<'_>) -> Result<Response<Incoming>, ClientError> {
        let path = call.path.to_owned();
        let request = self.signed(call)?;
        let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
        let answer = tokio::time::timeout(limit, self.exchange(&path, request))
            .await
            .map_err(|_| ClientError::Slow { address: self.address })??;
        let status = answer.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        Err(refusal(status, &read_body(&path, answer).await?))
    }

    /// Posts as somebody without credentials, a webhook's sender say.
    pub(crate) async fn post_unsigned(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<StatusCode, ClientError> {
        let mut request = Request::builder().method(Method::POST).uri(path);
        request = request.header(HOST, self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|source| ClientError::BadRequest { path: path.to_owned(), source })?;
        let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
        let answer = tokio::time::timeout(limit, self.exchange(path, request))
            .await
            .map_err(|_| ClientError::Slow { address: self.address })??;
        Ok(answer.status())
    }

    async fn exchange(
        &self,
        path: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let limit = Duration::from_secs(CONNECT_SECONDS_MAX);
        let stream = match tokio::time::timeout(limit, TcpStream::connect(self.address)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
        .map_err(|source| ClientError::Unreachable { address: self.address, source })?;
        let broken = |source| ClientError::Broken { path: path.to_owned(), source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the answer's body, or with the upgraded stream: both are held by the caller.
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.map_err(broken)
    }

    pub(crate) fn signed(&self, call: Call<'_>) -> Result<Request<Full<Bytes>>, ClientError> {
        let bad = |source| ClientError::BadRequest { path: call.path.to_owned(), source };
        let host = self.address.to_string();
        let mut headers = vec![("host", host.as_str())];
        headers.extend_from_slice(call.headers);
        let identity = SigningCredentials::new(
            &self.credentials.access_key_id,
            &self.credentials.secret_access_key,
            self.credentials.session_token.clone(),
            None,
            "warren",
        )
        .into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(call.service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|e| ClientError::BadAnswer {
                path: call.path.to_owned(),
                reason: e.to_string(),
            })?
            .into();
        let url = format!("http://{host}{}", call.path);
        let signable = SignableRequest::new(
            call.method.as_str(),
            url,
            headers.iter().copied(),
            SignableBody::Bytes(&call.body),
        )
        .map_err(ClientError::Signing)?;
        let (instructions, _) = sign(signable, &params).map_err(ClientError::Signing)?.into_parts();
        let mut request = Request::builder().method(&call.method).uri(call.path);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Full::new(call.body.clone())).map_err(bad)?;
        debug_assert!(request.headers().contains_key(HOST), "a request names its host");
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    /// A call of Warren's own service with a JSON answer.
    pub(crate) async fn own<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<A, ClientError> {
        let call = Call { service: SERVICE, method, path, headers: &[], body: Bytes::new() };
        let body = read_body(path, self.send(call).await?).await?;
        parse(path, &body)
    }

    /// As [`Client::own`], posting a JSON document.
    pub(crate) async fn own_post<A: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<A, ClientError> {
        let body = serde_json::to_vec(document)
            .map_err(|e| ClientError::BadAnswer { path: path.to_owned(), reason: e.to_string() })?;
        let headers = &[(CONTENT_TYPE.as_str(), "application/json")];
        let method = Method::POST;
        let call = Call { service: SERVICE, method, path, headers, body: body.into() };
        let body = read_body(path, self.send(call).await?).await?;
        parse(path, &body)
    }

    /// As [`Client::own_post`], with the answer as it comes.
    pub(crate) async fn own_post_stream(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<Response<Incoming>, ClientError> {
        let body = serde_json::to_vec(document)
            .map_err(|e| ClientError::BadAnswer { path: path.to_owned(), reason: e.to_string() })?;
        let headers = &[(CONTENT_TYPE.as_str(), "application/json")];
        let method = Method::POST;
        self.send(Call { service: SERVICE, method, path, headers, body: body.into() }).await
    }

    /// The answer of Warren's own service as it comes.
    pub(crate) async fn own_stream(&self, path: &str) -> Result<Response<Incoming>, ClientError> {
        let method = Method::GET;
        self.send(Call { service: SERVICE, method, path, headers: &[], body: Bytes::new() }).await
    }

    /// A call of an AWS service of the JSON protocol: `target` is the X-Amz-Target.
    pub(crate) async fn json_rpc(
        &self,
        service: &str,
        target: &str,
        input: &serde_json::Value,
    ) -> Result<serde_json::Value, ClientError> {
        let call = Call {
            service,
            method: Method::POST,
            path: "/",
            headers: &[
                ("x-amz-target", target),
                (CONTENT_TYPE.as_str(), "application/x-amz-json-1.1"),
            ],
            body: input.to_string().into(),
        };
        let body = read_body(target, self.send(call).await?).await?;
        if body.is_empty() { Ok(serde_json::Value::Null) } else { parse(target, &body) }
    }

    /// The VM whose id is `name`, or begins with it; `microvm-` may be left out.
    pub(crate) async fn vm(&self, name: &str) -> Result<Vm, ClientError> {
        let vms: Vec<Vm> = self.own(Method::GET, &format!("{}?all=true", protocol::VMS)).await?;
        one_named(name, vms)
    }
}

/// Running VMs go before ended ones: an ended VM is meant only where no running one is.
fn one_named(name: &str, vms: Vec<Vm>) -> Result<Vm, ClientError> {
    let fits = |vm: &Vm| {
        !name.is_empty()
            && (vm.microvm_id.starts_with(name)
                || vm.microvm_id.strip_prefix("microvm-").is_some_and(|id| id.starts_with(name)))
    };
    if let Some(exact) = vms.iter().find(|vm| vm.microvm_id == name) {
        return Ok(exact.clone());
    }
    let (ended, live): (Vec<Vm>, Vec<Vm>) =
        vms.into_iter().filter(fits).partition(|vm| vm.state == "TERMINATED");
    let mut found = if live.is_empty() { ended } else { live };
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(ClientError::NoSuchVm { name: name.to_owned() }),
        (Some(vm), true) => Ok(vm),
        (Some(vm), false) => {
            found.push(vm);
            let ids: Vec<&str> = found.iter().map(|vm| vm.microvm_id.as_str()).collect();
            Err(ClientError::Ambiguous { name: name.to_owned(), ids: ids.join(", ") })
        }
    }
}

fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The whole body of an answer, up to a bound.
pub(crate) async fn read_body(
    path: &str,
    answer: Response<Incoming>,
) -> Result<Bytes, ClientError> {
    match Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(e) => match e.downcast::<hyper::Error>() {
            Ok(source) => Err(ClientError::Broken { path: path.to_owned(), source: *source }),
            Err(e) => {
                let reason = match e.downcast_ref::<LengthLimitError>() {
                    Some(_) => format!("it is over {ANSWER_BYTES_MAX} bytes"),
                    None => e.to_string(),
                };
                Err(ClientError::BadAnswer { path: path.to_owned(), reason })
            }
        },
    }
}

fn parse<A: DeserializeOwned>(path: &str, body: &[u8]) -> Result<A, ClientError> {
    serde_json::from_slice(body)
        .map_err(|e| ClientError::BadAnswer { path: path.to_owned(), reason: e.to_string() })
}

/// An error answer of any of AWS' JSON protocols.
fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |names: &[&str]| {
        names.iter().find_map(|name| value.get(*name)?.as_str()).map(str::to_owned)
    };
    let code = text(&["__type", "code", "Code"]).unwrap_or_default();
    let message = text(&["message", "Message"])
        .unwrap_or_else(|| format!("{status}: {}", String::from_utf8_lossy(body)));
    ClientError::Refused { status, code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(id: &str, state: &str) -> Vm {
        Vm {
            microvm_id: id.into(),
            session_id: None,
            image: "i".into(),
            version: "1.0".into(),
            state: state.into(),
            state_reason: None,
            started_at: String::new(),
            launch: None,
            usage: None,
        }
    }

    fn named(name: &str) -> Result<String, String> {
        let vms = vec![
            vm("microvm-3f2a", "RUNNING"),
            vm("microvm-3f2b", "TERMINATED"),
            vm("microvm-9c01", "RUNNING"),
            vm("microvm-9c02", "RUNNING"),
        ];
        one_named(name, vms).map(|vm| vm.microvm_id).map_err(|e| e.to_string())
    }

    #[test]
    fn a_vm_is_named_by_any_unique_beginning_of_its_id() {
        assert_eq!(named("microvm-3f2a").as_deref(), Ok("microvm-3f2a"));
        assert_eq!(named("9c01").as_deref(), Ok("microvm-9c01"));
        assert_eq!(named("3f").as_deref(), Ok("microvm-3f2a"), "a running one goes first");
        assert_eq!(named("3f2b").as_deref(), Ok("microvm-3f2b"));
        assert_eq!(named("zz"), Err("there is no VM \"zz\"".into()));
        assert_eq!(named(""), Err("there is no VM \"\"".into()));
        assert!(named("9c").unwrap_err().contains("microvm-9c01, microvm-9c02"));
    }

    #[test]
    fn a_service_on_all_addresses_is_reached_by_loopback() {
        let listen = "0.0.0.0:7420".parse().unwrap();
        assert_eq!(reachable(listen).to_string(), "127.0.0.1:7420");
    }
}
