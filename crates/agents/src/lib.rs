//! The Managed Agents protocol: types, client, webhook signatures.
