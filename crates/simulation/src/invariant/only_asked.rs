//! A record that is read was asked for, was not damaged on its way, and is there once.

use std::collections::BTreeMap;

use super::Invariant;
use crate::event::{Event, Place, Value, Wish};

#[derive(Default)]
pub(crate) struct OnlyAsked {
    asked: BTreeMap<Value, (Place, Wish)>,
    found: BTreeMap<Value, i64>,
}

impl Invariant for OnlyAsked {
    fn see(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::Asked { place, value, wish } => {
                self.asked.insert(value, (place, wish));
                Ok(())
            }
            Event::Read { place, offset, value } => self.find(place, offset, value),
            Event::ReadWhole { place, ref records, .. } => {
                records.iter().try_for_each(|&(offset, value)| self.find(place, offset, value))
            }
            _ => Ok(()),
        }
    }
}

impl OnlyAsked {
    fn find(&mut self, place: Place, offset: i64, value: Value) -> Result<(), String> {
        match self.asked.get(&value) {
            Some(&(asked, Wish::Plain | Wish::Sequenced)) if asked == place => {}
            Some((_, Wish::Refused)) => {
                return Err(format!("{place} has {value} at {offset}, which was damaged"));
            }
            Some((asked, _)) => {
                return Err(format!("{place} has {value} at {offset}, which was for {asked}"));
            }
            None => return Err(format!("{place} has {value} at {offset}, which nobody sent")),
        }
        match self.found.insert(value, offset) {
            Some(other) if other != offset => {
                Err(format!("{place} has {value} twice: at {other} and at {offset}"))
            }
            _ => Ok(()),
        }
    }
}
