//! When a voter acts that hears nothing.

use std::time::Duration;

/// The clockwork of a quorum; all its voters have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader lets the others hear from it.
    pub heartbeat: Duration,
    /// How long a voter waits for a leader before it looks for another, at least. It waits up to
    /// twice as long: how long is drawn anew each time, so that two seldom begin together.
    pub election: Duration,
}

impl Default for Timing {
    /// A heartbeat each 50 ms, a new leader looked for after 250 to 500 ms.
    fn default() -> Self {
        Self { heartbeat: Duration::from_millis(50), election: Duration::from_millis(250) }
    }
}

/// Draws the waits of one voter.
#[derive(Clone, Debug)]
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A wait from `least` to twice that.
    pub(super) fn wait(&mut self, least: Duration) -> Duration {
        // SplitMix64, which is few lines and parts voters well enough.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let micros = u64::try_from(least.as_micros()).unwrap_or(u64::MAX).max(1);
        least + Duration::from_micros((z ^ (z >> 31)) % micros)
    }
}
