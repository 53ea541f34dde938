//! A VM: make a template of it, clone, adopt, call its hooks, run commands in it, stop.
//!
//! [`Engine`] is the whole of what the rest of Warren knows of VMs. Nothing above it knows a pid,
//! a namespace or a socket path; nothing below it knows AWS, images or sessions.

mod api;
mod cgroup;
mod channel;
mod command;
mod events;
mod firewall;
mod hook_words;
mod layers;
mod namespace;
mod qcow2;
mod qemu;
mod slot;
mod state;
mod turns;

pub use api::{
    AppOutput, BadName, CheckpointId, CheckpointInfo, Engine, EngineError, EngineEvent,
    EngineReport, ExecInput, ExecOutput, ExecSession, GuestSockets, LaunchSpec, Launched, Listing,
    Origin, Suspended, TemplateId, TemplateInfo, TemplateSpec, TemplateStage, VmId, VmState,
    VmUsage,
};
pub use events::Events;
pub use hook_words::hook_failure;
pub use qemu::{AcceleratorChoice, Qemu, QemuConfig};
pub use wire::{
    App, AppExit, Attach, Capabilities, ExecRequest, ExitStatus, HookOutcome, HookRequest,
    TerminalSize,
};
