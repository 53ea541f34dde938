//! Emulator of the Managed Agents platform.
