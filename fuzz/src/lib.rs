//! What the fuzz targets share: a check may hold so much memory at a time and no more.
//!
//! The figure of a check is `MAX_BYTES` in its file under `checks/`. It is counted by AddressSanitizer's hooks, so that what C and C++ libraries take counts like
//! what Rust takes, on whichever thread. libFuzzer's own limits (`-malloc_limit_mb`, `-rss_limit_mb`) are coarser: the one sees single allocations alone, the other
//! the process with all that the sanitizer keeps.

use std::ffi::{c_int, c_void};
use std::sync::Once;
use std::sync::atomic::{AtomicIsize, Ordering};

unsafe extern "C" {
    fn __sanitizer_install_malloc_and_free_hooks(
        malloc: extern "C" fn(*const c_void, usize),
        free: extern "C" fn(*const c_void),
    ) -> c_int;
    fn __sanitizer_get_allocated_size(memory: *const c_void) -> usize;
}

/// Bytes taken and not given back since the count began; what was taken before and is given back now makes it less.
static HELD: AtomicIsize = AtomicIsize::new(0);

/// The most of it.
static PEAK: AtomicIsize = AtomicIsize::new(0);

extern "C" fn taken(_: *const c_void, bytes: usize) {
    let held = HELD.fetch_add(bytes as isize, Ordering::Relaxed) + bytes as isize;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

extern "C" fn given_back(memory: *const c_void) {
    // SAFETY: the sanitizer calls this hook with what it is about to free.
    let bytes = unsafe { __sanitizer_get_allocated_size(memory) };
    HELD.fetch_sub(bytes as isize, Ordering::Relaxed);
}

/// Runs a check.
///
/// # Panics
/// If it held more than `max_bytes` beyond what was held before.
pub fn within(max_bytes: usize, check: impl FnOnce()) {
    static HOOKS: Once = Once::new();
    // SAFETY: both functions live as long as the process and allocate nothing.
    HOOKS.call_once(|| assert!(unsafe { __sanitizer_install_malloc_and_free_hooks(taken, given_back) } > 0));
    HELD.store(0, Ordering::Relaxed);
    PEAK.store(0, Ordering::Relaxed);
    check();
    let peak = PEAK.load(Ordering::Relaxed);
    assert!(peak <= max_bytes as isize, "{peak} bytes were held at once, and {max_bytes} are allowed");
}
