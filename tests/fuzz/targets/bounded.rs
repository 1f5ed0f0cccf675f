//! The demand on every parser: no allocation beyond the input's size times a constant. It decides when to
//! stop a run that breaks it; it does not depend on what is parsed.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, Once,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Counts what is held, and ends the process where that is too much. libFuzzer's own memory is not Rust's
/// and does not count.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(usize::MAX);

impl Counting {
    fn more(bytes: usize) {
        let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let most = MOST.load(Ordering::Relaxed);
        if held > most {
            MOST.store(usize::MAX, Ordering::Relaxed);
            eprintln!("an allocation of {bytes} bytes makes {held} where {most} are the most");
            std::process::abort();
        }
    }
}

// SAFETY: every call is handed to the system's allocator as it came; counting touches no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::more(layout.size());
        // SAFETY: the caller promises a layout of more than no bytes, which is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller promises that the pointer came from this allocator with this layout; the system made it.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::more(layout.size());
        // SAFETY: the caller promises a layout of more than no bytes, which is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() {
            Self::more(size - layout.size());
        } else {
            HELD.fetch_sub(layout.size() - size, Ordering::Relaxed);
        }
        // SAFETY: the caller promises that the pointer came from this allocator with this layout, and a size that is
        // not 0; the system made it.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `parse`, which may hold `factor` bytes for each byte of `input` and `floor` bytes more.
pub fn bounded<T>(input: &[u8], factor: usize, floor: usize, parse: impl FnOnce() -> T) -> T {
    // A panic that the program catches is no finding, and is told by nobody; one that it does not is told
    // when it arrives here.
    static LAST: Mutex<String> = Mutex::new(String::new());
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        panic::set_hook(Box::new(|info| {
            if let Ok(mut last) = LAST.lock() {
                *last = info.to_string();
            }
        }))
    });
    let most = HELD.load(Ordering::Relaxed) + factor * input.len() + floor;
    MOST.store(most, Ordering::Relaxed);
    let parsed = panic::catch_unwind(AssertUnwindSafe(parse));
    MOST.store(usize::MAX, Ordering::Relaxed);
    parsed.unwrap_or_else(|_| {
        if let Ok(last) = LAST.lock() {
            eprintln!("{last}");
        }
        std::process::abort();
    })
}
