//! The gateway from outside: clients of all kinds in front of it, apps of all kinds behind it, and a
//! VM that is a table of local ports.

mod access;
mod hostile;
mod http1;
mod http2;
mod life;
mod shell;
mod upgrade;
mod world;
