//! What exists and what should: images, VMs, their state machine, timers, store.
