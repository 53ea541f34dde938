//! What the end-to-end tests stand on: a running Warren with its platform, and the ways a user has to it.
//!
//! Everything goes through the binary, HTTP and the stock clients; nothing here links Warren's crates.
//! One [`Site`] is shared by the tests, which run one after the other: VMs are dear.

#![expect(clippy::print_stdout, reason = "the logs of a site whose test failed are shown")]

mod host;
mod platform;
mod process;
mod site;

pub use host::{Namespaces, PUBLIC_ADDRESS, Remains};
pub use platform::{Platform, ToolResult};
pub use process::{Finished, Program, Running, eventually};
pub use site::{Site, binary, free_port, oracles};
