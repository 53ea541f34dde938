//! Preloaded into QEMU: keeps a clone from writing to its template's RAM file.
//!
//! A clone maps the template's RAM privately (`share=off`), but QEMU up to 8.1 opens the file for
//! writing all the same, and free page reporting punches holes into it: that destroys the memory of
//! every other clone (`spec/engine-qemu.md`, section 3, "Danger"). So for the one path in `WARREN_RAM`
//! these functions open it read-only, and let a hole be punched without doing anything; QEMU then
//! drops the private pages by `madvise`, which is all that is wanted.
//!
//! The functions interpose libc's by name. They go to the kernel directly, so nothing has to be
//! looked up, and they keep no state but the file's descriptor.

use libc::{
    AT_FDCWD, FALLOC_FL_PUNCH_HOLE, O_ACCMODE, O_RDONLY, c_char, c_int, c_long, mode_t, off64_t,
};
use std::sync::atomic::{AtomicI32, Ordering};

/// The descriptor of the RAM file, -1 before it is opened. QEMU opens it once and never closes it.
static RAM_FD: AtomicI32 = AtomicI32::new(-1);

/// # Safety
/// `path` must be a C string, as libc's own `open` demands.
unsafe fn is_ram(path: *const c_char) -> bool {
    // SAFETY: the name is a C string; QEMU sets no environment after its start.
    let ram = unsafe { libc::getenv(c"WARREN_RAM".as_ptr()) };
    // SAFETY: both are C strings, the caller's by contract.
    !ram.is_null() && !path.is_null() && unsafe { libc::strcmp(path, ram) } == 0
}

/// # Safety
/// As for libc's `open`.
unsafe fn open_guarded(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's contract is that of `open`.
    let ram = unsafe { is_ram(path) };
    let flags = if ram { (flags & !O_ACCMODE) | O_RDONLY } else { flags };
    // SAFETY: the arguments are those of openat(2); the kernel checks the pointer.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat,
            c_long::from(AT_FDCWD),
            path,
            c_long::from(flags),
            c_long::from(mode),
        )
    } as c_int;
    if ram && fd >= 0 {
        RAM_FD.store(fd, Ordering::Relaxed);
    }
    fd
}

/// # Safety
/// As for libc's `open`. Declared with a fixed third argument: on x86-64 a variadic caller passes it
/// in the same register, and the kernel ignores it where no file is created.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: same contract.
    unsafe { open_guarded(path, flags, mode) }
}

/// # Safety
/// As [`open`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: same contract.
    unsafe { open_guarded(path, flags, mode) }
}

/// What Debian's fortified QEMU calls.
///
/// # Safety
/// As [`open`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: same contract.
    unsafe { open_guarded(path, flags, 0) }
}

/// # Safety
/// As [`open`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: same contract.
    unsafe { open_guarded(path, flags, 0) }
}

/// # Safety
/// As for libc's `fallocate`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(
    fd: c_int,
    mode: c_int,
    offset: off64_t,
    length: off64_t,
) -> c_int {
    if mode & FALLOC_FL_PUNCH_HOLE != 0 && fd >= 0 && fd == RAM_FD.load(Ordering::Relaxed) {
        return 0;
    }
    // SAFETY: the arguments are those of fallocate(2), which touches no memory of ours.
    unsafe {
        libc::syscall(libc::SYS_fallocate, c_long::from(fd), c_long::from(mode), offset, length)
            as c_int
    }
}

/// # Safety
/// As for libc's `fallocate`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(
    fd: c_int,
    mode: c_int,
    offset: off64_t,
    length: off64_t,
) -> c_int {
    // SAFETY: same contract.
    unsafe { fallocate64(fd, mode, offset, length) }
}
