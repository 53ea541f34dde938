//! Back door of a VM: metadata service, relays to the local services, resolver.
//!
//! Ruling idea: the sockets are inside the VM's own network namespace, so who asks is known without
//! asking; and what a VM reaches through them is this crate's list, nothing else on the host.
//!
//! - [`Egress`] is control's [`control::BackDoor`]: it attaches and detaches VMs.
//! - `imds` (with `imds_server`, `imds_token`, `role`) gives the execution role's credentials.
//! - `relay` leads to the AWS API and to the platform, `resolver` (with `dns`, `upstream`) to names.
//! - `accept` bounds and ends all tasks of a VM, `stats` counts.
//!
//! It knows no VMM and no image, and routes no packets: the firewall is the engine's.

#![forbid(unsafe_code)]

mod accept;
mod dns;
mod egress;
mod imds;
mod imds_server;
mod imds_token;
mod relay;
mod resolver;
mod role;
mod stats;
mod upstream;

pub use egress::{Egress, EgressConfig};
pub use relay::Target;
pub use stats::{DnsStats, EgressStats, ImdsStats, RelayStats};
