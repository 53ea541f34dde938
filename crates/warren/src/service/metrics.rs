//! `/metrics` for Prometheus: the gateway's counters, and the VMs by state. Says nothing of what a VM
//! is or does, and is open as `/healthz` is.

use super::{Service, vms};
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use control::MicrovmState;
use std::{fmt::Write, sync::Arc};

pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let mut text = service.gateway.metrics().render();
    let vms = match vms::all(&service.control).await {
        Ok(vms) => vms,
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the VMs cannot be counted");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let head = "# HELP warren_microvms MicroVMs by state.\n# TYPE warren_microvms gauge";
    // Writing to a text always succeeds.
    let _ = writeln!(text, "{head}");
    for state in MicrovmState::ALL {
        let count = vms.iter().filter(|vm| vm.state == state).count();
        let _ = writeln!(text, "warren_microvms{{state=\"{}\"}} {count}", state.as_str());
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
