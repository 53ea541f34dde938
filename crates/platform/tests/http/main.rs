//! The emulator over HTTP, as its clients, workers and webhook receivers see it.

mod api;
mod oracles;
mod restart;
mod sessions;
mod support;
mod webhooks;
mod work;
