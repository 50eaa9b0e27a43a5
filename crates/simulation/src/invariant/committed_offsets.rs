//! A committed offset is the last that was acknowledged, or one that was asked for since. (Groups of
//! the workload commit rising offsets, one commit at a time.)

use std::collections::BTreeMap;

use super::Invariant;
use crate::event::{Event, Place};

#[derive(Default)]
pub(crate) struct CommittedOffsets {
    /// The last that was acknowledged or seen, and the last that was asked for.
    known: BTreeMap<(u32, Place), (i64, i64)>,
}

impl Invariant for CommittedOffsets {
    fn see(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::CommitAsked { group, place, offset } => {
                self.known.entry((group, place)).or_insert((-1, -1)).1 = offset;
                Ok(())
            }
            Event::Committed { group, place, offset } => {
                self.known.entry((group, place)).or_insert((-1, -1)).0 = offset;
                Ok(())
            }
            Event::CommitRead { group, place, offset } => {
                let (least, most) = *self.known.get(&(group, place)).unwrap_or(&(-1, -1));
                if offset < least || offset > most {
                    return Err(format!(
                        "group {group} has {offset} for {place}: {least} was the last that was \
                         acknowledged, {most} the last that was asked for"
                    ));
                }
                // Whoever has read it has it as if it had been acknowledged.
                self.known.insert((group, place), (offset, most));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
