//! The gateway of this Warren: its certificate, its settings, its end.

use crate::config::{CertificateFrom, Gateway as Settings, Tls};
use control::Control;
use gateway::{AnyHost, Certificate, Gateway, GatewayConfig, TlsError, TlsMode};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// None where TLS is off.
///
/// # Errors
/// [`TlsError`] where a file cannot be used, or the authority's not be made.
pub(super) fn certificate(settings: &Settings) -> Result<Option<Certificate>, TlsError> {
    if settings.tls == Tls::Off {
        return Ok(None);
    }
    match &settings.certificate {
        CertificateFrom::Authority(dir) => Certificate::self_signed(dir, &settings.domain),
        CertificateFrom::Files { chain, key } => Certificate::from_files(chain, key),
    }
    .map(Some)
}

pub(super) fn gateway(
    settings: &Settings,
    certificate: Option<Certificate>,
    control: &Arc<Control>,
) -> Gateway {
    let tls = match (settings.tls, certificate) {
        (Tls::Required, Some(certificate)) => TlsMode::Required(certificate),
        (Tls::Optional, Some(certificate)) => TlsMode::Optional(certificate),
        (Tls::Off, _) | (_, None) => TlsMode::Off,
    };
    let any_host = if settings.any_host.is_on() { AnyHost::Allowed } else { AnyHost::Refused };
    let config = GatewayConfig {
        tls,
        any_host,
        limits: settings.limits,
        connections_max: settings.connections_max,
        idle_max: settings.idle_max,
        ..GatewayConfig::new(&settings.domain)
    };
    Gateway::new(config, control.clone(), control.proxy_tokens().clone())
}

/// Until `stop`; then what is under way has some seconds.
pub(super) async fn serve(gateway: Gateway, listener: TcpListener, stop: CancellationToken) {
    tokio::select! {
        () = gateway.serve(listener) => {}
        () = stop.cancelled() => {}
    }
    gateway.close().await;
}
