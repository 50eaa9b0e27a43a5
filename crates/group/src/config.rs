//! The settings that the rules of groups depend on.

/// Settings of groups. The names are those of the broker's config keys.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`: the shortest session timeout that a member may ask for.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`: the longest session timeout that a member may ask for.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits
    /// for more members; it waits on while members arrive.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: the most members of one group.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`: the longest metadata that may accompany a committed offset.
    pub offset_metadata_max_bytes: usize,
    /// The most member ids of one group that were handed out and not yet joined with (KIP-394).
    pub max_pending_members: usize,
    /// The most groups of one coordinator partition that joins and commits may bring to life.
    pub max_groups: usize,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            offset_metadata_max_bytes: 4_096,
            max_pending_members: 100_000,
            max_groups: 1_000_000,
        }
    }
}
