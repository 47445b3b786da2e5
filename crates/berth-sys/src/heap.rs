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

/// Gives freed memory of the allocator back to the system, in a process with threads too. See malloc_trim(3); musl has none, and another allocator.
pub fn release_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: touches only the allocator's own free memory, under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
    #[cfg(target_env = "musl")]
    crate::allocator::release();
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
    let page = page_size();
    // This frame, those of the calls it makes, and what the ABI lets a leaf use below them stay within the pages kept.
    let end = (std::hint::black_box(&raw const here).addr() & !(page - 1)).saturating_sub(2 * page);
    let Some(start) = stack.bottom.filter(|start| *start < end) else { return };
    // SAFETY: the range lies within this thread's own stack and wholly below its stack pointer, where nothing is alive.
    // Of the main thread's stack part of it may not be mapped yet: the call then says ENOMEM after it has done the rest.
    unsafe {
        libc::madvise(std::ptr::without_provenance_mut(start), end - start, libc::MADV_DONTNEED);
    }
}

/// How much of the stack is overwritten where it is; what lies deeper is dropped. A launch seldom goes deeper, and each dropped page costs a fault.
const NEAR: usize = 64 * 1024;

/// Overwrites or drops all of the stack below the caller's own frame, so that nothing is left there of the calls that have returned.
///
/// Says whether it could: not where the bottom of the stack was not found.
#[inline(always)] // From the caller's frame on: one of our own could cover remains.
#[must_use]
pub fn wipe_stack(stack: Stack) -> bool {
    let reached = drop_far_stack(stack);
    wipe_near_stack();
    reached
}

/// Drops what lies deeper than [`NEAR`], and up to two pages more.
#[inline(never)]
fn drop_far_stack(stack: Stack) -> bool {
    let here = 0_u8;
    let here = std::hint::black_box(&raw const here).addr();
    let Some(bottom) = stack.bottom.filter(|bottom| here - bottom > 2 * NEAR) else { return false };
    let page = page_size();
    let end = (here - NEAR + 2 * page) & !(page - 1);
    // SAFETY: the range lies within this thread's own stack, far below its stack pointer, where nothing is alive. What was never mapped gives
    // ENOMEM after the rest was done.
    unsafe { libc::madvise(std::ptr::without_provenance_mut(bottom), end - bottom, libc::MADV_DONTNEED) };
    true
}

#[inline(always)]
fn wipe_near_stack() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: below the stack pointer nothing is alive: the compiler keeps nothing there across assembly that may use the stack, and no signal
    // has a handler on it that could return. The stack is known to reach that far down, and the kernel maps what is missing.
    unsafe {
        std::arch::asm!(
            "mov rdi, rsp",
            "sub rdi, rcx",
            "rep stosb",
            inout("rcx") NEAR => _,
            inout("eax") 0 => _,
            out("rdi") _,
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above; the stack pointer is a multiple of 16 always.
    unsafe {
        std::arch::asm!(
            "mov {place}, sp",
            "sub {end}, {place}, {length}",
            "2:",
            "stp xzr, xzr, [{place}, #-16]!",
            "cmp {place}, {end}",
            "b.hi 2b",
            length = in(reg) NEAR,
            place = out(reg) _,
            end = out(reg) _,
        );
    }
}

fn page_size() -> usize {
    // SAFETY: asks for a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.unsigned_abs() as usize
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
        // musl tells how far the first thread's stack reaches now, not how far it may grow.
        #[cfg(target_env = "musl")]
        if libc::getpid() == libc::gettid() {
            let mut limit: libc::rlimit = std::mem::zeroed();
            let limited =
                libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
            return (found && limited).then(|| (bottom.addr() + size).saturating_sub(limit.rlim_cur as usize));
        }
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

    /// How many bytes of a pattern the kernel finds on the stack within some distance below this call.
    #[inline(never)]
    fn remains(pattern: u8, distance: usize) -> usize {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; distance];
        let here = std::hint::black_box(&raw const pattern).addr();
        std::fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, (here - distance) as u64).unwrap();
        bytes.iter().filter(|byte| **byte == pattern).count()
    }

    #[inline(never)]
    fn fill(pattern: u8, depth: usize) -> usize {
        let filled = std::hint::black_box([pattern; 4096]);
        if depth == 0 { usize::from(filled[7]) } else { fill(pattern, depth - 1) + usize::from(filled[9]) }
    }

    #[test]
    fn nothing_is_left_on_a_wiped_stack() {
        const PATTERN: u8 = 0xa7;
        let stack = Stack::find();
        // Near, and farther than is overwritten.
        for pages in [10, 60] {
            let distance = pages * 4096;
            fill(PATTERN, pages + 2);
            assert!(remains(PATTERN, distance) > distance / 2);
            assert!(wipe_stack(stack));
            // Single bytes are also those of what runs since.
            assert!(remains(PATTERN, distance) < 64, "{}", remains(PATTERN, distance));
        }
        assert!(!wipe_stack(Stack { bottom: None }));
    }

    #[test]
    fn the_stack_is_usable_afterwards() {
        let before = deep(64);
        release_unused(Stack::find());
        assert_eq!(deep(64), before);
    }
}
