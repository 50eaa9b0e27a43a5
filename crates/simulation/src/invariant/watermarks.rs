//! A partition's high watermark never goes back, and nothing is read above it.
//!
//! Its start may: a deletion that nobody was told of may be undone by a crash, though readers have seen
//! it. [`super::kept`] sees to those that were acknowledged.

use std::collections::BTreeMap;

use super::Invariant;
use crate::event::{Event, Place};

#[derive(Default)]
pub(crate) struct Watermarks {
    /// As they were last told.
    known: BTreeMap<Place, i64>,
}

impl Invariant for Watermarks {
    fn see(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::HighWatermark { place, high_watermark } => {
                match self.known.insert(place, high_watermark) {
                    Some(before) if high_watermark < before => Err(format!(
                        "{place} has high watermark {high_watermark}, and had {before}"
                    )),
                    _ => Ok(()),
                }
            }
            Event::Read { place, offset, .. } => match self.known.get(&place) {
                Some(&high_watermark) if offset >= high_watermark => Err(format!(
                    "{place} showed {offset}, above its high watermark {high_watermark}"
                )),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
