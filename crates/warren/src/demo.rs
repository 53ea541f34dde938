//! `warren demo`: the platform, the service and one session in one process.

mod script;
