//! A producer without sequences, which sends everything once.

use std::sync::Arc;
use std::time::Duration;

use ottla_fake::Dice;
use ottla_runtime::time;

use super::places;
use super::produce::{produce, send};
use crate::event::{Event, Value, Wish};
use crate::records;
use crate::stage::{Caller, Stage};

pub(crate) struct Client {
    stage: Arc<Stage>,
    caller: Caller,
    dice: Dice,
    producer: u32,
    number: u32,
}

impl Client {
    pub(crate) fn new(stage: &Arc<Stage>, producer: u32) -> Self {
        let (caller, dice) = (Caller::new(stage), stage.dice());
        Self { stage: Arc::clone(stage), caller, dice, producer, number: 0 }
    }

    pub(crate) async fn run(mut self) {
        while !self.stage.is_calm() {
            time::sleep(Duration::from_millis(self.dice.roll(400))).await;
            self.send().await;
        }
    }

    async fn send(&mut self) {
        let Some(connection) = self.caller.connection().await else { return };
        let places = places();
        let place = places[self.dice.roll(places.len() as u64) as usize];
        let many = 1 + self.dice.roll(4) as u32;
        let producer = self.producer;
        let values: Vec<_> =
            (self.number..self.number + many).map(|number| Value { producer, number }).collect();
        self.number += many;
        let size = if self.dice.roll(8) == 0 { 5_000 } else { 100 };
        let mut batch = records::encode(&values, 8 + self.dice.roll(size) as usize, None);
        let wish = if self.dice.roll(8) == 0 {
            // Behind the header: the checksum tells.
            let at = batch.len() - 1 - self.dice.roll(8) as usize;
            batch[at] ^= 1 << self.dice.roll(8);
            Wish::Refused
        } else {
            Wish::Plain
        };
        for &value in &values {
            self.stage.tell(Event::Asked { place, value, wish });
        }
        let acks = self.dice.roll(3) as i16 - 1;
        if acks == 0 {
            send(&connection, place, batch).await;
            return;
        }
        match produce(connection, place, acks, batch).await {
            Some(Ok(_)) if wish == Wish::Refused => {
                let what = format!("{place}: a damaged batch, {}, was acknowledged", values[0]);
                self.stage.complain("damage is refused", what);
            }
            Some(Ok(base)) => {
                for (offset, &value) in (base..).zip(&values) {
                    self.stage.tell(Event::Acknowledged { place, value, offset });
                }
            }
            // Whatever the code: it may have been appended, and is not sent again.
            Some(Err(code)) => {
                self.stage.note(format_args!("{place}: {} refused: {code}", values[0]))
            }
            None => self.caller.hang_up(),
        }
    }
}
