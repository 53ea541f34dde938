//! The few AWS calls that a worker makes: credentials, the environment key, the VM's own end.
//!
//! Signing is the crate `aws-sigv4`'s; the calls themselves are three, which is why no SDK
//! stands here: one would cost more memory than the whole worker has.

mod imds;

use std::time::SystemTime;

use agents::Secret;
use agents::client::{Answer, Transport, TransportError};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};
use url::Url;

use crate::config::Config;
pub use imds::ImdsError;

/// Why a call to AWS failed.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// No credentials.
    #[error("no credentials from the instance metadata service")]
    Credentials(#[from] ImdsError),
    /// No answer.
    #[error("{operation}")]
    Transport {
        /// The operation.
        operation: &'static str,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// An error answer.
    #[error("{operation} was refused with {status}: {code}: {message}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// Its status.
        status: StatusCode,
        /// `AccessDeniedException`, `ResourceNotFoundException`, …
        code: String,
        /// What AWS says.
        message: String,
    },
    /// A good answer without what was asked for.
    #[error("the answer to {operation} has no {member}")]
    Incomplete {
        /// The operation.
        operation: &'static str,
        /// What it lacks.
        member: &'static str,
    },
    /// A request that cannot be made.
    #[error("{operation} cannot be signed: {reason}")]
    Unsignable {
        /// The operation.
        operation: &'static str,
        /// Why.
        reason: String,
    },
}

/// AWS as a worker sees it.
#[derive(Debug, Clone)]
pub(crate) struct Aws {
    transport: Transport,
    endpoint: Option<Url>,
    imds: Url,
    region: String,
}

struct Call {
    operation: &'static str,
    /// Signing name, which is also the first label of the real service's host.
    service: &'static str,
    method: Method,
    path: String,
    /// `X-Amz-Target` and the JSON body, for services of AWS's JSON 1.1 protocol.
    target: Option<(&'static str, Value)>,
}

impl Aws {
    /// AWS in `region`, reached as `config` says.
    pub(crate) fn new(transport: Transport, config: &Config, region: Option<&str>) -> Self {
        Self {
            transport,
            endpoint: config.aws_endpoint.clone(),
            imds: config.imds.clone(),
            region: region.unwrap_or(&config.region).to_owned(),
        }
    }

    /// A secret of Secrets Manager, by name or ARN.
    ///
    /// # Errors
    /// [`AwsError`].
    pub(crate) async fn secret(&self, id: &str) -> Result<Secret, AwsError> {
        let operation = "GetSecretValue";
        let answer = self
            .call(Call {
                operation,
                service: "secretsmanager",
                method: Method::POST,
                path: "/".to_owned(),
                target: Some(("secretsmanager.GetSecretValue", json!({"SecretId": id}))),
            })
            .await?;
        let text = answer.get("SecretString").and_then(Value::as_str);
        text.filter(|text| !text.trim().is_empty())
            .map(Secret::new)
            .ok_or(AwsError::Incomplete { operation, member: "SecretString" })
    }

    /// A parameter of SSM Parameter Store, decrypted.
    ///
    /// # Errors
    /// [`AwsError`].
    pub(crate) async fn parameter(&self, name: &str) -> Result<Secret, AwsError> {
        let operation = "GetParameter";
        let body = json!({"Name": name, "WithDecryption": true});
        let answer = self
            .call(Call {
                operation,
                service: "ssm",
                method: Method::POST,
                path: "/".to_owned(),
                target: Some(("AmazonSSM.GetParameter", body)),
            })
            .await?;
        let value = answer.get("Parameter").and_then(|parameter| parameter.get("Value"));
        value
            .and_then(Value::as_str)
            .filter(|text| !text.trim().is_empty())
            .map(Secret::new)
            .ok_or(AwsError::Incomplete { operation, member: "Parameter.Value" })
    }

    /// Ends a VM; a worker calls it for its own.
    ///
    /// # Errors
    /// [`AwsError`].
    pub(crate) async fn terminate_microvm(&self, id: &str) -> Result<(), AwsError> {
        let call = Call {
            operation: "TerminateMicrovm",
            service: "lambda",
            method: Method::DELETE,
            path: format!("/2025-09-09/microvms/{id}"),
            target: None,
        };
        self.call(call).await.map(drop)
    }

    /// Suspends a VM; a worker calls it for its own, and goes on when it is resumed.
    ///
    /// # Errors
    /// [`AwsError`].
    pub(crate) async fn suspend_microvm(&self, id: &str) -> Result<(), AwsError> {
        let call = Call {
            operation: "SuspendMicrovm",
            service: "lambda",
            method: Method::POST,
            path: format!("/2025-09-09/microvms/{id}/suspend"),
            target: None,
        };
        self.call(call).await.map(drop)
    }

    async fn call(&self, call: Call) -> Result<Value, AwsError> {
        let credentials = imds::credentials(&self.transport, &self.imds).await?;
        let operation = call.operation;
        let request = self.signed(call, credentials)?;
        let answer = self
            .transport
            .send(request)
            .await
            .map_err(|source| AwsError::Transport { operation, source })?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        if answer.status.is_success() { Ok(body) } else { Err(refused(operation, &answer, &body)) }
    }

    fn signed(
        &self,
        call: Call,
        credentials: Credentials,
    ) -> Result<Request<Full<Bytes>>, AwsError> {
        let operation = call.operation;
        let unsignable = |reason: String| AwsError::Unsignable { operation, reason };
        let base = match &self.endpoint {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("https://{}.{}.amazonaws.com", call.service, self.region),
        };
        let uri = format!("{base}{}", call.path);
        let mut headers = Vec::new();
        let mut body = String::new();
        if let Some((target, value)) = call.target {
            headers.push(("content-type", "application/x-amz-json-1.1"));
            headers.push(("x-amz-target", target));
            body = value.to_string();
        }
        let identity: Identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(call.service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsignable(error.to_string()))?
            .into();
        let signable = SignableRequest::new(
            call.method.as_str(),
            uri.as_str(),
            headers.iter().copied(),
            SignableBody::Bytes(body.as_bytes()),
        )
        .map_err(|error| unsignable(error.to_string()))?;
        let (instructions, _) = sign(signable, &parameters)
            .map_err(|error| unsignable(error.to_string()))?
            .into_parts();
        let mut request = Request::builder().method(call.method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| unsignable(error.to_string()))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

/// AWS's JSON errors name their code in a header or in `__type`, with a prefix or without.
fn refused(operation: &'static str, answer: &Answer, body: &Value) -> AwsError {
    let text = |name: &str| body.get(name).and_then(Value::as_str);
    let header = answer.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let code = header.or_else(|| text("__type")).unwrap_or("UnknownError");
    let code = code.split(':').next().and_then(|code| code.rsplit('#').next()).unwrap_or(code);
    AwsError::Refused {
        operation,
        status: answer.status,
        code: code.to_owned(),
        message: text("message").or_else(|| text("Message")).unwrap_or_default().to_owned(),
    }
}
