//! Memory that the process has used once and will not use again soon.

/// The stack of a process with one thread. Found out once: forked children have the same, and looking for it reads a file.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    bottom: Option<usize>,
}

impl Stack {
    /// Finds the calling thread's stack.
    #[must_use]
    pub fn find() -> Self {
        Self { bottom: stack_bottom() }
    }
}

/// Gives freed memory of the allocator and unused pages of the stack back to the system. See malloc_trim(3) and madvise(2).
///
/// Worth its call (some microseconds, and a page fault for each page used again) only for a process with one thread that
/// has done its one big piece of work and will then wait for days.
pub fn release_unused(stack: Stack) {
    release_heap();
    release_stack(stack);
}

/// Gives freed memory of the allocator back to the system, in a process with threads too. See malloc_trim(3).
pub fn release_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only the allocator's own free memory, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Lets go of the pages of the program file that are mapped by now; what is used again is mapped again, from memory. See madvise(2).
///
/// The start of a large program touches far more of it than it uses afterwards, and the kernel maps the neighbours of each page too. Worth its call
/// (some hundred microseconds) for a process that has started and will then wait for days.
pub fn release_program() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    for line in maps.lines().filter(|line| line.ends_with(&*program.to_string_lossy())) {
        if let Some((start, length)) = read_only_range(line) {
            // SAFETY: a private mapping that was never writable holds nothing but the file's own content, which a later access reads again.
            unsafe { libc::madvise(std::ptr::without_provenance_mut(start), length, libc::MADV_DONTNEED) };
        }
    }
}

/// Start and length of a mapping that cannot be written and is private.
fn read_only_range(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let (rights, offset) = (fields.next()?, fields.next()?);
    // The loader writes into some mappings before it takes the right away. Code is sure to be the file's own, and so is the beginning of the file.
    let pristine = rights == "r-xp" || (rights == "r--p" && offset.bytes().all(|digit| digit == b'0'));
    pristine.then_some((start, end - start))
}

/// Drops the pages that deeper calls have left behind.
#[inline(never)]
fn release_stack(stack: Stack) {
    let here = 0u8;
    // SAFETY: asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs() as usize;
    // This frame, those of the calls it makes, and what the ABI lets a leaf use below them stay within the pages kept.
    let end = (std::hint::black_box(&raw const here).addr() & !(page - 1)).saturating_sub(2 * page);
    let Some(start) = stack.bottom.filter(|start| *start < end) else { return };
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
    fn the_program_goes_on_without_its_mapped_pages() {
        release_program();
        assert_eq!(deep(3), (0..=3).sum::<usize>());
        assert_eq!(read_only_range("00400000-00402000 r-xp 00000000 08:01 7 /bin/x"), Some((0x40_0000, 0x2000)));
        assert_eq!(read_only_range("00400000-00402000 r--p 00000000 08:01 7 /bin/x"), Some((0x40_0000, 0x2000)));
        assert_eq!(read_only_range("00400000-00402000 r--p 00009000 08:01 7 /bin/x"), None);
        assert_eq!(read_only_range("00400000-00402000 rw-p 00000000 08:01 7 /bin/x"), None);
    }

    #[test]
    fn the_stack_is_usable_afterwards() {
        let before = deep(64);
        release_unused(Stack::find());
        assert_eq!(deep(64), before);
    }
}
