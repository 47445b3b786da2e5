//! Memory that the process has used once and will not use again soon.

/// Gives freed memory of the allocator and unused pages of the stack back to the system. See malloc_trim(3) and madvise(2).
///
/// Worth its call (some microseconds, and a page fault for each page used again) only for a process with one thread that
/// has done its one big piece of work and will then wait for days.
pub fn release_unused() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only the allocator's own free memory, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
    release_stack();
}

/// Drops the pages that deeper calls have left behind.
#[inline(never)]
fn release_stack() {
    let here = 0u8;
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs() as usize;
    // This frame, those of the calls it makes, and what the ABI lets a leaf use below them stay within the pages kept.
    let end = (std::hint::black_box(&raw const here).addr() & !(page - 1)).saturating_sub(2 * page);
    let Some(start) = stack_bottom().filter(|start| *start < end) else { return };
    // SAFETY: the range lies within this thread's own stack and wholly below its stack pointer, where nothing is alive.
    // Of the main thread's stack part of it may not be mapped yet: the call then says ENOMEM after it has done the rest.
    unsafe {
        libc::madvise(std::ptr::without_provenance_mut(start), end - start, libc::MADV_DONTNEED);
    }
}

/// The lowest address of the calling thread's stack, as far as it may grow.
fn stack_bottom() -> Option<usize> {
    let mut bottom = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: the attributes are plain memory that the call initialises if it succeeds, read once and then destroyed.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes) != 0 {
            return None;
        }
        let found = libc::pthread_attr_getstack(&raw const attributes, &raw mut bottom, &raw mut size) == 0;
        libc::pthread_attr_destroy(&raw mut attributes);
        found.then(|| bottom.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn deep(depth: usize) -> usize {
        let filled = std::hint::black_box([depth as u8; 4096]);
        if depth == 0 { usize::from(filled[7]) } else { deep(depth - 1) + usize::from(filled[9]) }
    }

    #[test]
    fn the_stack_is_usable_afterwards() {
        let before = deep(64);
        release_unused();
        assert_eq!(deep(64), before);
    }
}
