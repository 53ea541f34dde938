//! In the VM: claims a session, runs its tools.

#![forbid(unsafe_code)]

pub mod tools;
