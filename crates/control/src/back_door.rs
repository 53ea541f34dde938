//! What control wants of the room that serves a VM's back door (IMDS, relays, resolver).

use crate::{Credentials, ImageArn, ImageVersion, MicrovmId, RoleArn};
use async_trait::async_trait;
use engine::GuestSockets;
use std::sync::Arc;

/// Who is behind a set of sockets.
#[derive(Clone, Debug)]
pub struct VmAttachment {
    pub id: MicrovmId,
    pub image: ImageArn,
    pub version: ImageVersion,
    /// None: IMDS has no credentials to give.
    pub execution_role: Option<RoleArn>,
    /// ARNs of the effective egress connectors.
    pub egress_connectors: Vec<String>,
    /// Issues the role's short-lived credentials.
    pub credentials: Arc<Credentials>,
}

/// The back door could not be opened; the text names what failed, on what.
#[derive(Debug, thiserror::Error)]
#[error("the back door of {id} did not open: {reason}")]
pub struct BackDoorError {
    pub id: MicrovmId,
    pub reason: String,
}

/// Serves what a VM reaches of its host.
#[async_trait]
pub trait BackDoor: Send + Sync + 'static {
    /// Serves `sockets` from when it returns until [`BackDoor::detach`]. Attaching a VM that is
    /// attached replaces its sockets.
    ///
    /// # Errors
    /// Where the sockets cannot be served; the VM is then terminated.
    async fn attach(&self, vm: VmAttachment, sockets: GuestSockets) -> Result<(), BackDoorError>;

    /// Stops serving and closes the sockets. Of what is not attached: nothing happens.
    async fn detach(&self, id: &MicrovmId);
}
