//! What exists and what should: images, VMs, their state machine, timers, store.
//!
//! [`Control`] is the front door. It knows images, roles and AWS's words for states; it knows no
//! HTTP above it and no pid, path or namespace of a VM below it: VMs are reached through
//! [`engine::Engine`], their back door through [`BackDoor`], disks come from an [`ImageBuilder`].

#![forbid(unsafe_code)]

mod app_log;
mod back_door;
mod checkpoint;
mod checkpoints;
mod clock;
mod config;
mod connector;
mod connectors;
mod control;
mod credentials;
mod engine_events;
mod error;
mod file_changes;
mod fleet;
mod idle;
mod ids;
mod image;
mod image_build;
mod image_rules;
mod image_template;
mod image_validate;
mod images;
mod ingress;
mod keeper;
mod life;
mod log_retention;
mod log_target;
mod log_writer;
mod logs;
mod microvm;
mod parameters;
mod proxy_token;
mod reconcile;
mod run;
mod seal;
mod secrets;
mod store;
mod tags;
pub mod testing;
mod wake;

pub use back_door::{BackDoor, BackDoorError, VmAttachment};
pub use checkpoint::{Change, Checkpoint, CheckpointState, FORKS_MAX, FileChange, RunFrom};
pub use clock::{Clock, SystemClock, Timestamp, Uptime};
pub use config::{ControlConfig, IdleCounts, Internet, Quotas};
pub use connector::{
    ComputeResource, Connector, ConnectorRef, ConnectorState, ConnectorVersion, CreateConnector,
    ElasticIp, NetworkProtocol, UpdateConnector, UpdateStatus, VpcEgress,
};
pub use connectors::{CHANGE_TAKES, Connectors};
pub use control::{Control, Outside};
pub use credentials::{
    Credentials, IssueRequest, OperatorKey, SecretAccessKey, Session, TempCredentials,
};
pub use engine::{
    Attach, EngineError, ExecInput, ExecOutput, ExecRequest, ExecSession, ExitStatus, TerminalSize,
};
pub use error::ControlError;
pub use ids::{
    BadId, BuildId, CheckpointName, ClientToken, ConnectorId, ConnectorName, ImageArn, ImageName,
    ImageVersion, LogGroup, LogStream, MicrovmId, RoleArn, SecretName,
};
pub use image::{
    Architecture, ArtifactSource, Build, BuildFailure, BuildNetwork, BuildProgress, BuildRequest,
    BuildState, BuiltRootfs, CreateImage, Hook, Hooks, IMAGE_MEMORY_MIB, IMAGE_MEMORY_MIB_DEFAULT,
    Image, ImageBuilder, ImageSpec, ImageState, ManagedImage, OsCapabilities, PortableImage,
    SnapshotSizes, StartedBuild, UpdateImage, Version, VersionState, VersionStatus,
};
pub use images::Images;
pub use ingress::{Hold, Traffic};
pub use logs::{
    Direction, EventWindow, FilterEvents, GetEvents, LogBatch, LogEvent, LogGroupInfo, LogRecord,
    LogStreamInfo, Logs, StreamChoice, StreamOrder, StreamQuery, TimeSpan,
};
pub use microvm::{
    AutoResume, IdlePolicy, Inspection, LogTarget, Logging, MAXIMUM_DURATION, Mark, Microvm,
    MicrovmEvent, MicrovmFilter, MicrovmOrigin, MicrovmState, Page, PageRequest,
    RUN_HOOK_PAYLOAD_BYTES_MAX, RunMicrovm, TimelineEntry,
};
pub use parameters::{
    Existing, Parameter, ParameterAbout, ParameterName, ParameterTier, ParameterType, Parameters,
    PutParameter, VersionSelector,
};
pub use proxy_token::{
    BadToken, Grant, Ingress, ProxyTokens, Reach, TOKEN_CHARS_MAX, TOKEN_LIFE_MAX,
};
pub use secrets::{
    CreateSecret, OpenedSecret, PutSecret, SECRET_BYTES_MAX, STAGE_CURRENT, STAGE_PENDING,
    STAGE_PREVIOUS, Secret, SecretDeletion, SecretSelector, SecretValue, SecretVersion, Secrets,
};
pub use tags::{TAGS_MAX, Tagged, Tags};
pub use wake::NotRunning;
