//! Pooled byte buffers. An idle connection holds none.

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

/// Buffers of one worker. A lease takes one, dropping the buffer brings it back.
#[derive(Clone, Debug)]
pub struct BufferPool {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl BufferPool {
    /// The size of a fresh buffer: room for several of a producer's usual requests, so that one
    /// call to the system reads them all.
    pub const INITIAL_BYTES: usize = 64 * 1024;
    /// A buffer that grew beyond this is freed instead of kept.
    const KEPT_BYTES_MAX: usize = 1024 * 1024;
    /// Buffers kept beyond this number are freed.
    const KEPT_MAX: usize = 8;

    /// An empty pool.
    #[must_use]
    pub fn new() -> Self {
        Self { free: Arc::default() }
    }

    /// Takes a buffer that is empty.
    #[must_use]
    pub fn lease(&self) -> Buffer {
        let bytes = self.free.lock().pop();
        Buffer {
            bytes: bytes.unwrap_or_else(|| vec![0; Self::INITIAL_BYTES]),
            start: 0,
            filled: 0,
            pool: self.clone(),
        }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        if bytes.len() > Self::KEPT_BYTES_MAX {
            return;
        }
        let mut free = self.free.lock();
        if free.len() < Self::KEPT_MAX {
            free.push(bytes);
        }
    }
}

impl Default for BufferPool {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes read so far, and room for more. Dereferences to the bytes read.
#[derive(Debug)]
pub struct Buffer {
    /// Always initialised to its full length, so that reading into it needs no `unsafe`.
    bytes: Vec<u8>,
    /// Bytes before it were consumed; it moves back to the front when room is needed.
    start: usize,
    filled: usize,
    pool: BufferPool,
}

impl Buffer {
    /// The room behind the bytes read.
    pub fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Counts `n` bytes, just written to [`Buffer::spare`], as read.
    pub fn advance(&mut self, n: usize) {
        self.filled = (self.filled + n).min(self.bytes.len());
    }

    /// Makes room for `len` bytes in all, those that were read among them.
    pub fn reserve_total(&mut self, len: usize) {
        if self.bytes.len() - self.start >= len {
            return;
        }
        if self.bytes.len() >= len {
            self.bytes.copy_within(self.start..self.filled, 0);
        } else {
            // A fresh zeroed allocation costs less than growing: only what was read is copied.
            let mut grown = vec![0; len];
            grown[..self.filled - self.start].copy_from_slice(self);
            self.bytes = grown;
        }
        self.filled -= self.start;
        self.start = 0;
    }

    /// Drops the first `n` bytes.
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.filled);
        if self.start == self.filled {
            (self.start, self.filled) = (0, 0);
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_read_while_growing_and_consuming() {
        let pool = BufferPool::new();
        let mut buffer = pool.lease();
        buffer.spare()[..5].copy_from_slice(b"hello");
        buffer.advance(5);
        buffer.reserve_total(100_000);
        assert_eq!(&*buffer, b"hello");
        assert!(buffer.spare().len() >= 100_000 - 5);
        buffer.consume(2);
        assert_eq!(&*buffer, b"llo");
        buffer.reserve_total(100_000);
        assert_eq!(&*buffer, b"llo");
        assert!(buffer.spare().len() >= 100_000 - 3);
        buffer.consume(3);
        assert!(buffer.is_empty());
        assert_eq!(buffer.spare().len(), 100_000);
    }

    #[test]
    fn a_returned_buffer_is_leased_again_and_a_huge_one_is_freed() {
        let pool = BufferPool::new();
        let mut buffer = pool.lease();
        buffer.reserve_total(90_000);
        drop(buffer);
        assert_eq!(pool.lease().spare().len(), 90_000);
        let mut huge = pool.lease();
        huge.reserve_total(BufferPool::KEPT_BYTES_MAX + 1);
        drop(huge);
        assert!(pool.lease().spare().len() <= BufferPool::KEPT_BYTES_MAX);
    }
}
