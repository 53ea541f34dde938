//! The emulator over HTTP, as its clients, workers and webhook receivers see it.

mod api;
mod model;
mod oracles;
mod restart;
mod sessions;
mod soak;
mod support;
mod webhooks;
mod work;
