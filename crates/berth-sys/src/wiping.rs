//! The allocator of every program here: the system's, or with musl our own, which on request overwrites what is given back.
//!
//! A process that serves one owner after another begins to wipe before the first: then nothing of one is found in its free memory, nor in
//! that of a process forked from it, by the time it serves the next. The account says whether everything was given back. What the C library
//! allocates for itself goes past it; of that our code uses directory streams, which hold names and not content.

#[cfg(not(target_env = "musl"))]
use std::alloc::System as Inner;
use std::alloc::{GlobalAlloc, Layout};
use std::arch::asm;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

#[cfg(target_env = "musl")]
use crate::allocator::Heap as Inner;

#[global_allocator]
static ALLOCATOR: Wiping<Inner> = Wiping::over(Inner);

/// Another allocator, whose freed memory is wiped once it was told to.
#[derive(Debug)]
pub struct Wiping<A> {
    inner: A,
    wipes: AtomicBool,
    /// Bytes that were allocated since then and not yet given back; wraps, for what is older may be given back too.
    held: AtomicUsize,
    /// The most that were held at a time.
    peak: AtomicUsize,
}

/// What a process has taken of the allocator since it began to wipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Bytes that it holds, less what it held at the beginning and has given back since.
    pub held: isize,
    /// The most that it held at a time, since the beginning or the last [`forget_peak`].
    pub peak: isize,
}

/// Wipes freed memory from now on, and keeps account. Only for a process with one thread: the account is not made for more.
pub fn begin() {
    ALLOCATOR.begin();
}

/// The account at present.
#[must_use]
pub fn account() -> Account {
    ALLOCATOR.account()
}

/// Measures the peak anew.
pub fn forget_peak() {
    ALLOCATOR.forget_peak();
}

impl<A> Wiping<A> {
    const fn over(inner: A) -> Self {
        Self { inner, wipes: AtomicBool::new(false), held: AtomicUsize::new(0), peak: AtomicUsize::new(0) }
    }

    fn begin(&self) {
        self.held.store(0, Relaxed);
        self.peak.store(0, Relaxed);
        self.wipes.store(true, Relaxed);
    }

    fn account(&self) -> Account {
        let [held, peak] = [&self.held, &self.peak].map(|bytes| bytes.load(Relaxed).cast_signed());
        Account { held, peak }
    }

    fn forget_peak(&self) {
        self.peak.store(self.held.load(Relaxed), Relaxed);
    }

    fn wipes(&self) -> bool {
        self.wipes.load(Relaxed)
    }

    fn note_taken(&self, size: usize) {
        let held = self.held.load(Relaxed).wrapping_add(size);
        self.held.store(held, Relaxed);
        if held.cast_signed() > self.peak.load(Relaxed).cast_signed() {
            self.peak.store(held, Relaxed);
        }
    }

    fn note_given_back(&self, size: usize) {
        self.held.store(self.held.load(Relaxed).wrapping_sub(size), Relaxed);
    }
}

// SAFETY: every block comes from the inner allocator and goes back to it with the layout it was asked for with; `realloc` is made of the
// other two where the inner one's would leave a copy behind. Nothing here allocates or unwinds.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.wipes() {
            self.note_taken(layout.size());
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { self.inner.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if self.wipes() {
            self.note_taken(layout.size());
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.wipes() {
            self.note_given_back(layout.size());
            // SAFETY: the block is the caller's until the next line, and that long.
            unsafe { wipe(block, layout.size()) };
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { self.inner.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !self.wipes() {
            // SAFETY: the caller's promise is handed on.
            return unsafe { self.inner.realloc(block, layout, new_size) };
        }
        // The inner one may move the block and leave the old one as it is.
        // SAFETY: the caller promises that the new size, rounded up to the alignment, is no overflow.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the new block is another one, and both are at least as long as what is copied. The old one is given back once.
        unsafe {
            let new = self.alloc(new_layout);
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

/// Overwrites memory that nobody will read.
///
/// # Safety
/// `size` bytes at `block` can be written.
unsafe fn wipe(block: *mut u8, size: usize) {
    // SAFETY: the caller's promise. The empty assembly may read the block, for all the compiler knows: so it cannot leave the zeroes out.
    unsafe {
        block.write_bytes(0, size);
        asm!("/* {} */", in(reg) block, options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::alloc::System;
    use std::sync::Mutex;

    /// Remembers what was in the blocks that were given back to it.
    #[derive(Default)]
    struct Remembering(Mutex<Vec<Vec<u8>>>);

    // SAFETY: the system's allocator does the work.
    unsafe impl GlobalAlloc for Remembering {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promise is handed on.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: the block was allocated with this layout, and the tests below have written all of it.
            let content = unsafe { std::slice::from_raw_parts(block, layout.size()) }.to_vec();
            self.0.lock().unwrap().push(content);
            // SAFETY: the caller's promise is handed on.
            unsafe { System.dealloc(block, layout) }
        }
    }

    const LAYOUT: Layout = Layout::new::<[u8; 1000]>();

    impl Wiping<Remembering> {
        fn filled(&self) -> *mut u8 {
            // SAFETY: the layout is not empty, and the block as long as is written.
            unsafe {
                let block = self.alloc(LAYOUT);
                block.write_bytes(b'x', LAYOUT.size());
                block
            }
        }

        fn free(&self, block: *mut u8) {
            // SAFETY: all blocks of these tests have this layout.
            unsafe { self.dealloc(block, LAYOUT) }
        }

        fn given_back(&self) -> Vec<Vec<u8>> {
            std::mem::take(&mut *self.inner.0.lock().unwrap())
        }
    }

    #[test]
    fn what_is_freed_is_wiped_from_the_beginning_on() {
        let allocator = Wiping::over(Remembering::default());
        let (early, late) = (allocator.filled(), allocator.filled());
        allocator.free(early);
        allocator.begin();
        allocator.free(late);
        assert_eq!(allocator.given_back(), [[b'x'; 1000], [0; 1000]]);
    }

    #[test]
    fn what_moves_leaves_nothing_behind() {
        let allocator = Wiping::over(Remembering::default());
        allocator.begin();
        for new_size in [3000, 10] {
            let block = allocator.filled();
            // SAFETY: the block has this layout; the new one is given back with its own, after it was written whole.
            let kept = unsafe {
                let moved = allocator.realloc(block, LAYOUT, new_size);
                let kept = std::slice::from_raw_parts(moved, new_size.min(1000)).to_vec();
                moved.write_bytes(b'y', new_size);
                allocator.dealloc(moved, Layout::from_size_align(new_size, LAYOUT.align()).unwrap());
                kept
            };
            assert_eq!(kept, vec![b'x'; new_size.min(1000)]);
            assert_eq!(allocator.given_back(), [vec![0; 1000], vec![0; new_size]]);
        }
    }

    #[test]
    fn the_account_says_what_is_held() {
        let allocator = Wiping::over(Remembering::default());
        let older = allocator.filled();
        allocator.begin();
        let (one, other) = (allocator.filled(), allocator.filled());
        assert_eq!(allocator.account(), Account { held: 2000, peak: 2000 });
        [older, one, other].into_iter().for_each(|block| allocator.free(block));
        assert_eq!(allocator.account(), Account { held: -1000, peak: 2000 });
        allocator.forget_peak();
        assert_eq!(allocator.account(), Account { held: -1000, peak: -1000 });
    }
}
