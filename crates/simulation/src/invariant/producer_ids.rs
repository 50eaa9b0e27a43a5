//! No two producers are given the same id and epoch.

use std::collections::BTreeSet;

use super::Invariant;
use crate::event::Event;

#[derive(Default)]
pub(crate) struct ProducerIds {
    given: BTreeSet<(i64, i16)>,
}

impl Invariant for ProducerIds {
    fn see(&mut self, event: &Event) -> Result<(), String> {
        match *event {
            Event::ProducerId { id, epoch } if !self.given.insert((id, epoch)) => {
                Err(format!("producer id {id} with epoch {epoch} was given twice"))
            }
            _ => Ok(()),
        }
    }
}
