//! The binary as a library: commands, configuration, wiring, and nothing else.
//!
//! [`run`] is the whole program with the outside world passed in. What a session is, how a VM is
//! made and what AWS answers is decided in the crates below; here they are only put together.
#![forbid(unsafe_code)]

mod args;
mod client;
mod commands;
mod config;
mod console;
mod demo;
mod doctor;
mod failure;
mod image_file;
mod import;
mod lock;
mod log;
mod node;
mod print;
mod progress;
mod protocol;
mod run;
mod service;
mod session_keeper;
mod terminal;
mod verify;

pub use config::Env;
pub use run::run;
