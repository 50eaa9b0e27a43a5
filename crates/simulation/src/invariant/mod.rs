//! What must hold, whatever happens: a file for each.

mod committed_offsets;
mod kept;
mod only_asked;
mod ordered;
mod producer_ids;
mod same;
mod watermarks;

#[cfg(test)]
mod tests;

use crate::event::Event;

/// Something that must always hold of what clients are told.
pub(crate) trait Invariant: Send {
    /// Looks at what happened next. An error says what is wrong.
    fn see(&mut self, event: &Event) -> Result<(), String>;
}

/// All of them.
pub(crate) fn all() -> Vec<(&'static str, Box<dyn Invariant>)> {
    vec![
        ("acknowledged is kept", Box::<kept::Kept>::default()),
        ("only what was asked is there, once", Box::<only_asked::OnlyAsked>::default()),
        ("same offset, same record", Box::<same::Same>::default()),
        ("sequences keep their order", Box::<ordered::Ordered>::default()),
        ("watermarks never go back", Box::<watermarks::Watermarks>::default()),
        ("committed offsets are kept", Box::<committed_offsets::CommittedOffsets>::default()),
        ("a producer id is given once", Box::<producer_ids::ProducerIds>::default()),
    ]
}
