//! The binary `warren`; all of it is in the library beside.
fn main() {}
