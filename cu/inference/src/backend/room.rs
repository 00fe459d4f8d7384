//! Memory for weights in large pages: streaming a model through small ones costs up to half of the bandwidth.
//!
//! Not here: what is stored. Invariant: what was put is never changed and lives as long as anybody holds it.
#![allow(
    unsafe_code,
    reason = "memory aligned to large pages, which no safe container gives"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// A large page.
const PAGE_BYTES: usize = 2 << 20;
/// The largest chunk that several values share.
const CHUNK_BYTES_MAX: usize = 32 << 20;
/// Values begin on a line.
const LINE: usize = 64;

/// A place to put weights.
#[derive(Debug, Default)]
pub struct Room(Mutex<Filling>);

/// The chunk being filled.
#[derive(Debug, Default)]
struct Filling {
    chunk: Option<Arc<Chunk>>,
    used: usize,
    total: usize,
}

#[derive(Debug)]
struct Chunk {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the bytes are written by `Room::put` alone, each once, before anybody holds them; from then on only read.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

/// Values put into a room.
#[derive(Debug, Clone)]
pub struct Held<T> {
    /// `None` for no values.
    chunk: Option<Arc<Chunk>>,
    from: usize,
    count: usize,
    values: PhantomData<T>,
}

impl Chunk {
    fn new(bytes: usize) -> Chunk {
        let size = bytes.next_multiple_of(PAGE_BYTES);
        let layout = Layout::from_size_align(size, PAGE_BYTES).expect("a matrix is far below isize::MAX");
        // SAFETY: the layout has a size.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        #[cfg(target_os = "linux")]
        // SAFETY: the range is ours, and the advice changes no contents. Without large pages it is merely slower.
        let _ =
            unsafe { rustix::mm::madvise(start.as_ptr().cast(), size, rustix::mm::Advice::LinuxHugepage) };
        Chunk { start, layout }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; nobody holds the chunk any more.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

impl Room {
    /// Puts values there.
    pub fn put<T: Copy + Send + Sync + 'static>(&self, values: &[T]) -> Held<T> {
        assert!(align_of::<T>() <= LINE);
        let bytes = size_of_val(values);
        let (mut chunk, mut from) = (None, 0);
        if bytes > 0 {
            let mut filling = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let place = filling.place(bytes);
            // SAFETY: the chunk has `bytes` bytes from there on, which were given to nobody, on a line's border.
            unsafe {
                let start = place.0.start.as_ptr().add(place.1);
                std::ptr::copy_nonoverlapping(values.as_ptr(), start.cast(), values.len());
            }
            (chunk, from) = (Some(place.0), place.1);
        }
        Held {
            chunk,
            from,
            count: values.len(),
            values: PhantomData,
        }
    }
}

impl Filling {
    /// Room for so many bytes: the chunk, and where in it. Chunks grow with what there is, so that little is wasted.
    fn place(&mut self, bytes: usize) -> (Arc<Chunk>, usize) {
        let fits = |chunk: &&Arc<Chunk>| self.used + bytes <= chunk.layout.size();
        let chunk = match self.chunk.as_ref().filter(fits) {
            Some(chunk) => Arc::clone(chunk),
            None => {
                let chunk = Arc::new(Chunk::new(bytes.max(self.total.min(CHUNK_BYTES_MAX))));
                self.total += chunk.layout.size();
                self.used = 0;
                self.chunk = Some(Arc::clone(&chunk));
                chunk
            }
        };
        let from = self.used;
        self.used = (from + bytes).next_multiple_of(LINE);
        (chunk, from)
    }
}

impl<T> Deref for Held<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.chunk {
            // SAFETY: `put` wrote `count` values there; they are never changed and the chunk is held.
            Some(chunk) => unsafe {
                std::slice::from_raw_parts(chunk.start.as_ptr().add(self.from).cast(), self.count)
            },
            None => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_stays_after_the_room_is_gone() {
        let room = Room::default();
        let held: Vec<Held<u64>> = (0..40)
            .map(|n| room.put(&vec![n; 1 + 5000 * n as usize]))
            .collect();
        let none = room.put::<i16>(&[]);
        drop(room);
        assert!(none.is_empty());
        for (n, held) in held.iter().enumerate() {
            assert_eq!(held.len(), 1 + 5000 * n);
            assert!(
                held.iter().all(|value| *value == n as u64) && (held.as_ptr() as usize).is_multiple_of(LINE)
            );
        }
    }
}
