//! In the VM: claims a session, runs its tools.
fn main() {}
