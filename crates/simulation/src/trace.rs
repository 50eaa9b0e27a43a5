//! What happened, line by line, in the simulation's time.

use std::fmt;
use std::sync::Arc;

use ottla_runtime::time::{self, Instant};
use parking_lot::Mutex;

/// A trace that is kept, or only hashed.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    origin: Instant,
    hash: u64,
    is_printed: bool,
}

impl Trace {
    /// A trace that begins now. One that is printed goes to stderr, line by line.
    pub(crate) fn new(is_printed: bool) -> Self {
        let inner = Inner { origin: time::now(), hash: 0xcbf2_9ce4_8422_2325, is_printed };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Notes what happened.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let mut inner = self.0.lock();
        let line = format!("{:>9.3} {what}", inner.origin.elapsed().as_secs_f64());
        inner.add(line.as_bytes());
        if inner.is_printed {
            eprintln!("{line}");
        }
    }

    /// Notes what is too much to be read.
    pub(crate) fn digest(&self, number: u64) {
        self.0.lock().add(&number.to_le_bytes());
    }

    /// A number that stands for all that was noted.
    pub(crate) fn hash(&self) -> u64 {
        self.0.lock().hash
    }
}

impl Inner {
    /// FNV-1a.
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
