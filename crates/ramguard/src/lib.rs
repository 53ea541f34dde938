//! Preloaded into QEMU: keeps a clone from writing to the template's RAM file.
