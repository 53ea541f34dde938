//! Back door of a VM: resolver, IMDSv2, relays to the local services.
