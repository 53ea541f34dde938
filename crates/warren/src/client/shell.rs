//! A shell in a VM, from the client's side: a token from the AWS API, then a WebSocket to the VM's
//! endpoint, as any client of AWS's would do it.

use super::{Call, Client, ClientError, parse, reachable, read_body};
use crate::config::{CertificateFrom, Gateway, Tls};
use gateway::{EXIT_STATUS_PROTOCOL, SHELL_PATH, ShellQuery};
use hyper::{
    Method,
    header::{CONTENT_TYPE, HOST, SEC_WEBSOCKET_PROTOCOL},
};
use serde::Deserialize;
use std::{collections::HashMap, io};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error as WebSocketError, client::IntoClientRequest, http::HeaderValue},
};

/// How long the token is good for; it is used at once.
const TOKEN_MINUTES: u32 = 1;

/// Plain or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(crate) type Socket = WebSocketStream<Box<dyn Stream>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenAnswer {
    auth_token: HashMap<String, String>,
}

impl Client {
    /// Opens a shell in the VM with this full id.
    pub(crate) async fn shell(
        &self,
        gateway: &Gateway,
        microvm_id: &str,
        query: &ShellQuery,
    ) -> Result<Socket, ClientError> {
        let token = self.shell_token(microvm_id).await?;
        let broken = |source| ClientError::Shell { address: gateway.listen, source };
        let host = format!("{microvm_id}.{}", gateway.domain);
        let stream = stream(gateway, &host).await.map_err(|e| broken(e.into()))?;
        let url = format!("ws://{host}{SHELL_PATH}?{}", query.encode());
        let mut request = url.into_client_request().map_err(broken)?;
        let offers = format!(
            "lambda-microvms, lambda-microvms.authentication.{token}, {EXIT_STATUS_PROTOCOL}"
        );
        for (name, value) in [(HOST, host), (SEC_WEBSOCKET_PROTOCOL, offers)] {
            let value = HeaderValue::from_str(&value);
            request.headers_mut().insert(name, value.map_err(|e| broken(WebSocketError::from(e)))?);
        }
        let opened = tokio_tungstenite::client_async(request, stream).await;
        opened.map(|(socket, _)| socket).map_err(broken)
    }

    async fn shell_token(&self, microvm_id: &str) -> Result<String, ClientError> {
        let path = format!("/2025-09-09/microvms/{microvm_id}/shell-auth-token");
        let input = serde_json::json!({ "expirationInMinutes": TOKEN_MINUTES });
        let call = Call {
            service: "lambda",
            method: Method::POST,
            path: &path,
            headers: &[(CONTENT_TYPE.as_str(), "application/json")],
            body: input.to_string().into(),
        };
        let body = read_body(&path, self.send(call).await?).await?;
        let TokenAnswer { mut auth_token } = parse(&path, &body)?;
        auth_token
            .remove("X-aws-proxy-auth")
            .ok_or_else(|| ClientError::BadAnswer { path, reason: "it has no token".into() })
    }
}

async fn stream(gateway: &Gateway, host: &str) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(reachable(gateway.listen)).await?;
    // Keys must not wait for acknowledgements; a socket that cannot do it still works.
    let _ = stream.set_nodelay(true);
    if gateway.tls == Tls::Off {
        return Ok(Box::new(stream));
    }
    let trusted = match &gateway.certificate {
        CertificateFrom::Authority(dir) => gateway::authority_path(dir),
        CertificateFrom::Files { chain, .. } => chain.clone(),
    };
    Ok(Box::new(gateway::connect_trusting(stream, host, &trusted).await?))
}
