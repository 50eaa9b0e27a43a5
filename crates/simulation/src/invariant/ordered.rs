//! What a producer sent with sequences to a partition stands there in the order of its numbers.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::event::{Event, Place, Value, Wish};

#[derive(Default)]
pub(crate) struct Ordered {
    sequenced: BTreeSet<u32>,
}

impl Invariant for Ordered {
    fn see(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Asked { value, wish: Wish::Sequenced, .. } => {
                self.sequenced.insert(value.producer);
                Ok(())
            }
            Event::ReadWhole { place, ref records, .. } => self.compare(place, records),
            _ => Ok(()),
        }
    }
}

impl Ordered {
    fn compare(&self, place: Place, records: &[(i64, Value)]) -> Result<(), String> {
        let mut last: BTreeMap<u32, (i64, Value)> = BTreeMap::new();
        for &(offset, value) in records {
            if !self.sequenced.contains(&value.producer) {
                continue;
            }
            if let Some((before, earlier)) = last.insert(value.producer, (offset, value))
                && earlier.number >= value.number
            {
                return Err(format!("{place} has {earlier} at {before}, and {value} at {offset}"));
            }
        }
        Ok(())
    }
}
