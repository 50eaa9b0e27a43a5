//! Whoever reads an offset again finds what was read there before.

use std::collections::BTreeMap;

use super::Invariant;
use crate::event::{Event, Place, Value};

#[derive(Default)]
pub(crate) struct Same {
    read: BTreeMap<(Place, i64), Value>,
}

impl Invariant for Same {
    fn see(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Read { place, offset, value } => {
                match self.read.insert((place, offset), value) {
                    Some(before) if before != value => {
                        Err(format!("{place} has {value} at {offset}, and had {before} there"))
                    }
                    _ => Ok(()),
                }
            }
            Event::ReadWhole { place, start, ref records } => {
                let found: BTreeMap<_, _> = records.iter().copied().collect();
                let known = self.read.range((place, start)..=(place, i64::MAX));
                for (&(_, offset), before) in known {
                    match found.get(&offset) {
                        Some(value) if value == before => {}
                        Some(value) => {
                            return Err(format!(
                                "{place} has {value} at {offset}, and had {before} there"
                            ));
                        }
                        None => {
                            return Err(format!(
                                "{place} had {before} at {offset}, and has nothing"
                            ));
                        }
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
