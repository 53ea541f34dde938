//! The binary as a library: commands, configuration, wiring, and nothing else.
//!
//! [`run`] is the whole program with the outside world passed in. What a session is, how a VM is
//! made and what AWS answers is decided in the crates below; here they are only put together.
#![forbid(unsafe_code)]

mod args;
mod config;
mod demo;
mod failure;
mod print;

pub use config::Env;
