//! One function a command: it reads its arguments, asks the service or does the work, and prints.

mod ca;
mod completions;
mod cp;
mod env;
mod exec;
mod image;
mod import;
mod init;
mod life;
mod logs;
mod look;
pub(crate) mod platform;
mod secret;
mod shell;
mod up;
mod vms;

pub(crate) use ca::ca;
pub(crate) use completions::completions;
pub(crate) use cp::cp;
pub(crate) use env::env;
pub(crate) use exec::exec;
pub(crate) use image::image;
pub(crate) use import::import_stack;
pub(crate) use init::init;
pub(crate) use life::{checkpoint, fork, resume, run, suspend};
pub(crate) use logs::logs;
pub(crate) use look::{attach, events, inspect, top};
pub(crate) use platform::platform;
pub(crate) use secret::{get as get_secret, secret};
pub(crate) use shell::shell;
pub(crate) use up::{down, up};
pub(crate) use vms::{ps, rm};

use crate::{
    client::Client,
    config::{Credentials, Settings},
    failure::{Exit, Remedy},
    print::Printer,
};
use serde::Deserialize;
use std::{io, path::PathBuf};

/// What every command has.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) printer: Printer,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OperatorError {
    #[error("{path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not an operator's key")]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Remedy for OperatorError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "`warren up` makes it at its first start; is --data-dir the one of your `warren up`?"
                    .into()
            }
            Self::Unreadable { .. } => "run this as the user of `warren up`, with sudo".into(),
            Self::Malformed { .. } => "remove it and restart `warren up`: a new one is made".into(),
        })
    }
    fn exit(&self) -> Exit {
        match self {
            // No service has ever run there.
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Exit::Unreachable
            }
            Self::Unreadable { .. } | Self::Malformed { .. } => Exit::Failed,
        }
    }
}

/// The part of `<data_dir>/operator.json` that a client needs.
#[derive(Deserialize)]
struct OperatorFile {
    access_key_id: String,
    secret_access_key: String,
}

impl Context {
    /// The operator's key, or what the environment says instead.
    pub(crate) fn credentials(&self) -> Result<Credentials, OperatorError> {
        match &self.settings.credentials {
            Some(credentials) => Ok(credentials.clone()),
            None => self.operator(),
        }
    }

    pub(crate) fn operator(&self) -> Result<Credentials, OperatorError> {
        let path = self.settings.data_dir.join("operator.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|source| OperatorError::Unreadable { path: path.clone(), source })?;
        let file: OperatorFile = serde_json::from_str(&text)
            .map_err(|source| OperatorError::Malformed { path, source })?;
        Ok(Credentials {
            access_key_id: file.access_key_id,
            secret_access_key: file.secret_access_key,
            session_token: None,
        })
    }

    pub(crate) fn client(&self) -> Result<Client, OperatorError> {
        let Settings { api_listen, region, .. } = &self.settings;
        Ok(Client::new(*api_listen, region, self.credentials()?))
    }
}
