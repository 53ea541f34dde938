//! The SDK's clients: one connection pool, one identity, time limits on everything.

use crate::config::LauncherConfig;
use aws_sdk_lambdamicrovms::config::{
    BehaviorVersion, Region, SharedCredentialsProvider, SharedHttpClient, retry::RetryConfig,
    timeout::TimeoutConfig,
};
use aws_sdk_lambdamicrovms::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use std::{error::Error, time::Duration};

/// One attempt of a call. RunMicrovm takes 0.2 to 0.75 s on AWS.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// A call with all its attempts: the platform does not say how long it waits for a webhook.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(9);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS_MAX: u32 = 3;
/// An idle connection is kept a little longer than the time between two warming calls.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS for the AWS clients cannot be set up: {0}")]
pub struct TlsError(String);

#[derive(Clone, Debug)]
pub(crate) struct AwsClients {
    pub(crate) microvms: aws_sdk_lambdamicrovms::Client,
    pub(crate) secrets: aws_sdk_secretsmanager::Client,
}

impl AwsClients {
    pub(crate) fn new(
        config: &LauncherConfig,
        credentials: SharedCredentialsProvider,
    ) -> Result<Self, TlsError> {
        let http = http_client(config.endpoint_url.as_deref())?;
        let retry = RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX);
        let timeout = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(CALL_TIMEOUT)
            .build();
        let mut microvms = aws_sdk_lambdamicrovms::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .credentials_provider(credentials.clone())
            .http_client(http.clone())
            .retry_config(retry.clone())
            .timeout_config(timeout.clone());
        let mut secrets = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .credentials_provider(credentials)
            .http_client(http)
            .retry_config(retry)
            .timeout_config(timeout);
        if let Some(url) = &config.endpoint_url {
            microvms = microvms.endpoint_url(url);
            secrets = secrets.endpoint_url(url);
        }
        Ok(Self {
            microvms: aws_sdk_lambdamicrovms::Client::from_conf(microvms.build()),
            secrets: aws_sdk_secretsmanager::Client::from_conf(secrets.build()),
        })
    }
}

/// One client for both services. A plain endpoint needs no certificates, and a host without any
/// must be able to serve itself, so they are read only where TLS will be spoken.
fn http_client(endpoint_url: Option<&str>) -> Result<SharedHttpClient, TlsError> {
    let plain = endpoint_url.is_some_and(|url| url.starts_with("http://"));
    let trust = if plain { TrustStore::empty() } else { TrustStore::default() };
    let tls = TlsContext::builder()
        .with_trust_store(trust)
        .build()
        .map_err(|error| TlsError(error.to_string()))?;
    Ok(Builder::new()
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(tls)
        .build_https())
}

/// What AWS says in an error, or the causes that kept us from hearing it, on one line. The SDK's
/// own Display names only its kind.
pub(crate) fn full_message<E, R>(error: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug,
{
    if let Some(message) = error.as_service_error().and_then(ProvideErrorMetadata::message) {
        return message.to_owned();
    }
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        message.push_str(": ");
        message.push_str(&inner.to_string());
        cause = inner.source();
    }
    message
}

/// AWS's name of an error, or ours for what kept us from getting an answer.
pub(crate) fn code_of<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> String {
    let ours = match error {
        SdkError::ConstructionFailure(_) => "RequestNotBuilt",
        SdkError::TimeoutError(_) => "TimedOut",
        SdkError::DispatchFailure(_) => "NoConnection",
        SdkError::ResponseError(_) => "ResponseUnreadable",
        SdkError::ServiceError(_) => "UnnamedServiceError",
        // The SDK's enum is open.
        _ => "Unknown",
    };
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or(ours).to_owned()
}
