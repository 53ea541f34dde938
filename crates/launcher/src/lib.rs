//! Webhook in, RunMicrovm out.
