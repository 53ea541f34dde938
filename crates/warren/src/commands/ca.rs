//! `warren ca`: the certificate that clients of the VMs' endpoints have to trust.

use super::Context;
use crate::{
    config::{CertificateFrom, Tls},
    failure::{Exit, Outcome, Remedy},
};
use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
enum CaError {
    #[error("{path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("endpoints have no TLS: gateway.tls is off")]
    Off,
    #[error("endpoints have the certificate in {chain}, which is not by Warren's authority")]
    Other { chain: PathBuf },
}

impl Remedy for CaError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some("`warren up` makes it at its first start".into()),
            Self::Off | Self::Other { .. } => None,
        }
    }
}

pub(crate) fn ca(context: &Context) -> Outcome {
    let gateway = &context.settings.gateway;
    let dir = match (&gateway.certificate, gateway.tls) {
        (_, Tls::Off) => return Err(CaError::Off.into()),
        (CertificateFrom::Files { chain, .. }, _) => {
            return Err(CaError::Other { chain: chain.clone() }.into());
        }
        (CertificateFrom::Authority(dir), _) => dir,
    };
    let path = gateway::authority_path(dir);
    let pem = std::fs::read(&path).map_err(|source| CaError::Unreadable { path, source })?;
    context.printer.bytes(&pem)?;
    Ok(Exit::Success)
}
