//! What was acknowledged is there at its offset, unless somebody asked for its deletion; and what was
//! deleted is not.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::event::{Event, Place, Value};

#[derive(Default)]
pub(crate) struct Kept {
    acknowledged: BTreeMap<(Place, i64), Value>,
    /// Where partitions may begin at most, and at least.
    asked: BTreeMap<Place, i64>,
    deleted: BTreeMap<Place, i64>,
}

impl Invariant for Kept {
    fn see(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Acknowledged { place, value, offset } => {
                match self.acknowledged.insert((place, offset), value) {
                    Some(other) if other != value => Err(format!(
                        "{place}: {value} and {other} were acknowledged with offset {offset}"
                    )),
                    _ => Ok(()),
                }
            }
            Event::DeletionAsked { place, before } => {
                let asked = self.asked.entry(place).or_insert(before);
                *asked = before.max(*asked);
                Ok(())
            }
            Event::Deleted { place, start } => {
                let deleted = self.deleted.entry(place).or_insert(start);
                *deleted = start.max(*deleted);
                Ok(())
            }
            Event::ReadWhole { place, start, ref records } => self.compare(place, start, records),
            _ => Ok(()),
        }
    }
}

impl Kept {
    fn compare(&self, place: Place, start: i64, records: &[(i64, Value)]) -> Result<(), String> {
        let allowed = self.asked.get(&place).copied().unwrap_or(0);
        let deleted = self.deleted.get(&place).copied().unwrap_or(0);
        if start < deleted {
            return Err(format!("{place} begins at {start}, and was cut at {deleted}"));
        }
        if start > allowed {
            return Err(format!(
                "{place} begins at {start}, and nothing from {allowed} on was to be deleted"
            ));
        }
        let found: BTreeSet<_> = records.iter().copied().collect();
        let here = self.acknowledged.range((place, start)..=(place, i64::MAX));
        let lost: Vec<String> = here
            .filter(|&(&(_, offset), &value)| !found.contains(&(offset, value)))
            .map(|((_, offset), value)| format!("{value} at {offset}"))
            .collect();
        match &lost[..] {
            [] => Ok(()),
            lost => Err(format!("{place} has lost {}", lost.join(", "))),
        }
    }
}
