//! What can go wrong in the control plane, one variant per thing; the AWS edge maps them to codes.

use crate::{
    BadId, CheckpointName, ConnectorId, ConnectorName, ConnectorState, ImageName, ImageVersion,
    LogGroup, LogStream, MicrovmId, MicrovmState,
};
use std::path::PathBuf;

/// Every error of this crate. Display names the object; the cause is in `source`.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    BadId(#[from] BadId),

    // MicroVMs
    #[error("MicroVM not found: {0}")]
    MicrovmNotFound(MicrovmId),
    #[error("MicroVM {id} is {}, which does not allow {operation}", .state.as_str())]
    WrongState { id: MicrovmId, state: MicrovmState, operation: &'static str },
    /// Suspend or resume after the end: a ValidationException (spec 1.4).
    #[error("The MicroVM {0} has been terminated and its state cannot be changed.")]
    AlreadyTerminated(MicrovmId),
    #[error(
        "No active version found for MicroVM image {image}{}",
        .version.map(|v| format!(" and version {v}")).unwrap_or_default()
    )]
    NoActiveVersion { image: String, version: Option<ImageVersion> },
    #[error("there is no checkpoint {0}")]
    CheckpointNotFound(CheckpointName),
    #[error("a checkpoint named {0} exists already")]
    CheckpointExists(CheckpointName),
    #[error("checkpoint {0} is being written, or a MicroVM is being made of it")]
    CheckpointBusy(CheckpointName),
    #[error("the files of checkpoint {name} cannot be read: {reason}")]
    CheckpointUnreadable { name: String, reason: String },
    #[error("{asked} forks are asked for; 1 to {max} can be made at once")]
    TooManyForks { asked: usize, max: usize },
    #[error("The run hook must be enabled in the MicroVM image to pass the run hook payload.")]
    RunHookDisabled,
    #[error("the run hook payload has {bytes} bytes; at most {max} are allowed")]
    PayloadTooLong { bytes: usize, max: usize },
    #[error("maximumDurationInSeconds is {seconds}; it must be 1 to {max}")]
    BadMaximumDuration { seconds: u64, max: u64 },
    #[error("The provided clientToken was used with different request parameters.")]
    ClientTokenReused,
    #[error("The base maximum allocated memory limit has been reached for this account.")]
    MemoryQuota { limit_mib: u64 },
    #[error("every MicroVM is being terminated; none is run meanwhile")]
    TerminatingAll,
    #[error("the page token is not one of this list")]
    BadPageToken,

    // Tokens of endpoints
    #[error(
        "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."
    )]
    NoShellIngress,
    #[error(
        "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS \
         and/or SHELL_INGRESS instead"
    )]
    CombinedIngress,
    #[error("{0}")]
    BadTokenRequest(String),

    // Images
    #[error("MicroVMImage not found for MicroVMImageID: {0}")]
    ImageNotFound(String),
    #[error("MicroVMImage not found for MicroVMImage: {image}, Version: {version}")]
    VersionNotFound { image: String, version: ImageVersion },
    #[error("MicroVM image build not found: {0}")]
    BuildNotFound(String),
    #[error("A MicroVM image with the name '{0}' already exists in this account")]
    ImageExists(ImageName),
    #[error("MicroVM Image is already in state: {state}")]
    ImageBusy { image: ImageName, state: &'static str },
    #[error("Cannot delete MicroVM image in its current state: {0}")]
    ImageNotDeletable(String),
    #[error("Cannot delete microvm image with running microvms.")]
    ImageInUse(ImageName),
    #[error("This is the last version. Please delete the entire image")]
    LastVersion { image: ImageName, version: ImageVersion },
    #[error("{0}")]
    BadImageSpec(String),

    // Quotas
    #[error("The maximum number of {what}, {max}, has been reached.")]
    Quota { what: &'static str, max: u64 },

    // Network connectors
    #[error("Network connector not found for: {0}")]
    ConnectorNotFound(String),
    #[error("A network connector with the name '{0}' already exists in this account")]
    ConnectorExists(ConnectorName),
    #[error("The network connector {id} is {}; try again when its change is done.", .state.as_str())]
    ConnectorBusy { id: ConnectorId, state: ConnectorState },
    #[error("Version {version} is the latest of {id}; delete the whole network connector.")]
    ConnectorLatestVersion { id: ConnectorId, version: u32 },

    // Tags
    #[error("A resource has at most {max} tags.")]
    TooManyTags { max: usize },

    // Secrets
    #[error("Secrets Manager can't find the specified secret {0:?}.")]
    SecretNotFound(String),
    #[error("Secrets Manager can't find the specified secret value for {what} of {name:?}.")]
    SecretVersionNotFound { name: String, what: String },
    #[error("The operation failed because the secret {0} already exists.")]
    SecretExists(String),
    #[error("secret {0:?} was marked for deletion; restore it first")]
    SecretDeleted(String),
    #[error("the client request token was used with another secret value")]
    SecretVersionTaken,
    #[error("{0}")]
    BadSecretRequest(String),

    // Parameters
    #[error("there is no parameter {0}")]
    ParameterNotFound(String),
    #[error("parameter {0} has no such version")]
    ParameterVersionNotFound(String),
    #[error("there is a parameter {0} already")]
    ParameterExists(String),
    #[error("parameter {0} has as many versions as there may be, and the oldest has a label")]
    ParameterVersionsFull(String),
    #[error("{0}")]
    BadParameter(String),

    // Logs
    #[error("The specified log group does not exist: {0}")]
    LogGroupNotFound(LogGroup),
    #[error("The specified log stream does not exist: {stream} in {group}")]
    LogStreamNotFound { group: LogGroup, stream: LogStream },
    #[error("The specified log group already exists: {0}")]
    LogGroupExists(LogGroup),
    #[error("The specified log stream already exists: {stream} in {group}")]
    LogStreamExists { group: LogGroup, stream: LogStream },

    #[error("the log events could not be written; Warren's own log says why")]
    LogsNotWritten,

    // Credentials
    #[error("the security token is not one that this Warren issued, or belongs to another key")]
    BadSessionToken,
    #[error("the security token has expired")]
    ExpiredSessionToken,

    // Below
    #[error("the engine failed")]
    Engine(#[from] engine::EngineError),
    #[error("the store failed while {action}")]
    Store {
        action: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the store cannot be brought to this version's schema: {path}")]
    Migrate {
        path: PathBuf,
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A row that this version cannot have written.
    #[error("the store holds {what} that makes no sense: {value:?}")]
    Corrupt { what: &'static str, value: String },
    #[error("{action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} may be read by others (mode {mode:03o}); run: chmod 600 {path}")]
    FileTooOpen { path: PathBuf, mode: u32 },
    #[error(
        "{path} does not hold {expected}; restore it from a backup: what it sealed is lost without it"
    )]
    BadKeyFile { path: PathBuf, expected: &'static str },
    #[error("what was sealed with {path} does not open: it was made with another key")]
    Unsealable { path: PathBuf },
    #[error("the control plane is shutting down")]
    ShuttingDown,
}

impl ControlError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store { .. } => Some("is the disk full? `df -h` on the data directory".to_owned()),
            Self::Migrate { .. } => Some(
                "the data directory was written by a newer Warren; run that one, or take another --data-dir"
                    .to_owned(),
            ),
            Self::NoActiveVersion { .. } => {
                Some("`warren image ls` shows what there is; `warren image build DIR` makes one".to_owned())
            }
            Self::SecretNotFound(name) => Some(format!("`warren secret put {name}` creates it")),
            _ => None,
        }
    }
}

/// The whole chain of an error in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent errors repeat their source.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
