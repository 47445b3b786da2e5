//! The allocator of programs that are built with musl, whose own asks the kernel for every few pages and serves threads one by one.
//!
//! Doug Lea's, under one lock: a client is done before another one has begun, and forks share its pages.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

/// The smallest that a processor has.
const PAGE: usize = 4096;

static HEAP: Mutex<Dlmalloc<Pages>> = Mutex::new(Dlmalloc::new_with_allocator(Pages::new()));

/// The one heap of the program.
#[derive(Debug)]
pub(crate) struct Heap;

fn lock() -> MutexGuard<'static, Dlmalloc<Pages>> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

// SAFETY: Dlmalloc keeps the contract of `GlobalAlloc` for whoever calls it alone, which the lock sees to; nothing here panics.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise about `layout` is the one asked for.
        unsafe { lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller says that `memory` came from here with this layout.
        unsafe { lock().free(memory, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above, and `size` is not zero.
        unsafe { lock().realloc(memory, layout.size(), layout.align(), size) }
    }
}

/// Gives the pages within free pieces back to the system. They stay where they are, and are zero when they are used again. See madvise(2).
///
/// The allocator itself gives back only what lies at its end. So every free piece, the largest first, is taken from it, emptied, and given back.
pub(crate) fn release() {
    let heap = &mut *lock();
    heap.allocator().may_grow.set(false);
    let mut taken: *mut Piece = ptr::null_mut();
    let mut most = heap.allocator().held.get();
    while let Some((memory, size)) = largest_free(heap, most) {
        let piece = memory.cast::<Piece>();
        // SAFETY: the memory is ours, aligned for a `Piece` and larger than one; from the next page on nobody has anything in it.
        unsafe {
            piece.write(Piece { before: taken, size });
            let start = memory.add(size_of::<Piece>());
            let start = start.add(start.align_offset(PAGE));
            let length = (memory.addr() + size).saturating_sub(start.addr()) & !(PAGE - 1);
            libc::madvise(start.cast(), length, libc::MADV_DONTNEED);
        }
        (taken, most) = (piece, size);
    }
    while !taken.is_null() {
        // SAFETY: it was written above, and is given back once, by the size it was taken with.
        unsafe {
            let Piece { before, size } = taken.read();
            heap.free(taken.cast(), size, align_of::<Piece>());
            taken = before;
        }
    }
    heap.allocator().may_grow.set(true);
}

/// A free piece on its way through [`release`]; this stands at its beginning.
struct Piece {
    before: *mut Piece,
    size: usize,
}

/// Takes the largest free piece of at most `most` bytes, and of at least two pages: in a smaller one no page is whole.
fn largest_free(heap: &mut Dlmalloc<Pages>, most: usize) -> Option<(*mut u8, usize)> {
    let (mut there, mut too_large) = (1, most / PAGE + 1);
    while too_large - there > 1 {
        let pages = there.midpoint(too_large);
        // SAFETY: the size is not zero, and what is taken is given back at once, by the size it was taken with.
        let found = unsafe {
            let memory = heap.malloc(pages * PAGE, align_of::<Piece>());
            if !memory.is_null() {
                heap.free(memory, pages * PAGE, align_of::<Piece>());
            }
            !memory.is_null()
        };
        if found { there = pages } else { too_large = pages }
    }
    let size = there * PAGE;
    // SAFETY: the size is not zero.
    let memory = if there > 1 { unsafe { heap.malloc(size, align_of::<Piece>()) } } else { ptr::null_mut() };
    (!memory.is_null()).then_some((memory, size))
}

/// Where the heap has its memory from.
struct Pages {
    /// How many bytes it has got.
    held: Cell<usize>,
    /// Whether it gets more.
    may_grow: Cell<bool>,
}

impl Pages {
    const fn new() -> Self {
        Self { held: Cell::new(0), may_grow: Cell::new(true) }
    }
}

// SAFETY: what is given is new private memory of the size that is told, and what is taken back is unmapped; nothing here panics.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if !self.may_grow.get() {
            return (ptr::null_mut(), 0, 0);
        }
        let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, where the kernel likes it.
        let memory = unsafe { libc::mmap(ptr::null_mut(), size, rights, kind, -1, 0) };
        if memory == libc::MAP_FAILED {
            return (ptr::null_mut(), 0, 0);
        }
        self.held.set(self.held.get() + size);
        (memory.cast(), size, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, memory: *mut u8, old: usize, new: usize) -> bool {
        self.free(memory.wrapping_add(new), old - new)
    }

    fn free(&self, memory: *mut u8, size: usize) -> bool {
        // SAFETY: the heap says that nothing is in this part of what it got.
        let gone = unsafe { libc::munmap(memory.cast(), size) } == 0;
        if gone {
            self.held.set(self.held.get().saturating_sub(size));
        }
        gone
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The resident part of the pages that lie wholly within.
    fn resident(memory: &[u8]) -> usize {
        let start = memory.as_ptr().addr().next_multiple_of(PAGE);
        let pages = (memory.as_ptr().addr() + memory.len() - start) / PAGE;
        let mut map = vec![0u8; pages];
        let start = ptr::without_provenance_mut(start);
        // SAFETY: the kernel writes a byte for each page.
        assert_eq!(unsafe { libc::mincore(start, pages * PAGE, map.as_mut_ptr()) }, 0);
        map.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn free_pieces_lose_their_pages_and_used_ones_keep_their_content() {
        let piece = |number: usize| vec![u8::try_from(number).unwrap(); 20 * PAGE + 16];
        let mut pieces: Vec<_> = (1..100).map(piece).collect();
        // Others' threads may take what is free at any time: of many some stay free.
        let freed: Vec<_> = pieces.iter().skip(1).step_by(2).map(|piece| &raw const piece[..]).collect();
        let mut number = 0;
        pieces.retain(|_| {
            number += 1;
            number % 2 == 1
        });
        release();
        // SAFETY: the memory is free, but mapped; only its address is used.
        let kept = freed.iter().filter(|piece| resident(unsafe { &***piece }) > 5).count();
        assert!(kept < 10, "{kept} of {} pieces", freed.len());
        for piece in &pieces {
            assert!(piece.iter().all(|byte| *byte == piece[0]) && piece[0] % 2 == 1);
        }
        let again: Vec<_> = (1..100).map(piece).collect();
        assert!(again.iter().zip(1..).all(|(piece, number)| piece.iter().all(|byte| usize::from(*byte) == number)));
    }

    #[test]
    fn memory_that_is_asked_for_empty_is_empty_after_a_release() {
        drop(vec![7u8; 300 * PAGE]);
        release();
        assert!(vec![0u8; 300 * PAGE].iter().all(|byte| *byte == 0));
    }
}
