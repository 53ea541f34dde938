//! Puts one VMM process into its jail and executes it.
fn main() {}
