//! The allocator's unused memory.

/// Gives memory that was freed back to the system. See malloc_trim(3).
///
/// Worth its call (some microseconds, a page fault for each page used again) only for a process that has done its one
/// big piece of work and will then wait for days. Does nothing with other C libraries than GNU's.
pub fn release_unused() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only the allocator's own free memory, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
