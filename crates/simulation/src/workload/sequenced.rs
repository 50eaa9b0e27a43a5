//! An idempotent producer with several batches in flight, which sends again what is not acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_fake::Dice;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::InitProducerIdRequest;
use ottla_record::{ProducerEpoch, ProducerId};
use ottla_runtime::{Spawner, time};

use super::places;
use super::produce::{is_passing, produce};
use crate::event::{Event, Place, Value, Wish};
use crate::records::{self, Sender};
use crate::stage::{Caller, Stage};

/// `max.in.flight.requests.per.connection`, as far as a broker remembers.
const IN_FLIGHT_MAX: u64 = 5;

pub(crate) struct Client {
    stage: Arc<Stage>,
    caller: Caller,
    dice: Dice,
    producer: u32,
    number: u32,
    /// The next sequence by partition.
    sequences: BTreeMap<Place, i32>,
}

/// A batch that is not acknowledged yet.
struct Batch {
    values: Vec<Value>,
    bytes: Vec<u8>,
    is_acknowledged: bool,
}

impl Client {
    pub(crate) fn new(stage: &Arc<Stage>, producer: u32) -> Self {
        let (caller, dice) = (Caller::new(stage), stage.dice());
        let (stage, sequences) = (Arc::clone(stage), BTreeMap::new());
        Self { stage, caller, dice, producer, number: 0, sequences }
    }

    pub(crate) async fn run(mut self) {
        let Some((id, epoch)) = self.init().await else { return };
        let places = places();
        while !self.stage.is_calm() {
            time::sleep(Duration::from_millis(self.dice.roll(400))).await;
            let place = places[self.dice.roll(places.len() as u64) as usize];
            let batches = self.draw(place, id, epoch);
            self.send(place, batches).await;
        }
    }

    /// Asks for a producer id until there is one, or all is calm: nothing was sent then.
    async fn init(&mut self) -> Option<(ProducerId, ProducerEpoch)> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            ..Default::default()
        };
        loop {
            let given = self.caller.ask(4, &request, |response| {
                (response.error_code == 0)
                    .then_some((response.producer_id, response.producer_epoch))
            });
            if let Some(Some((id, epoch))) = given.await {
                self.stage.tell(Event::ProducerId { id, epoch });
                return Some((ProducerId(id), ProducerEpoch(epoch)));
            }
            if self.stage.is_calm() {
                return None;
            }
            time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn draw(&mut self, place: Place, id: ProducerId, epoch: ProducerEpoch) -> Vec<Batch> {
        let count = 1 + self.dice.roll(IN_FLIGHT_MAX);
        let sequence = self.sequences.entry(place).or_default();
        let mut batches = Vec::new();
        for _ in 0..count {
            let many = 1 + self.dice.roll(3) as u32;
            let producer = self.producer;
            let values: Vec<_> = (self.number..self.number + many)
                .map(|number| Value { producer, number })
                .collect();
            let sender = Sender { id, epoch, sequence: *sequence };
            let size = 8 + self.dice.roll(300) as usize;
            let bytes = records::encode(&values, size, Some(sender));
            for &value in &values {
                self.stage.tell(Event::Asked { place, value, wish: Wish::Sequenced });
            }
            batches.push(Batch { values, bytes, is_acknowledged: false });
            self.number += many;
            *sequence += many as i32;
        }
        batches
    }

    /// Sends batches in their order until all are acknowledged.
    async fn send(&mut self, place: Place, mut batches: Vec<Batch>) {
        while batches.iter().any(|batch| !batch.is_acknowledged) {
            let Some(connection) = self.caller.connection().await else { continue };
            let open: Vec<_> = batches.iter_mut().filter(|batch| !batch.is_acknowledged).collect();
            let spawner = Spawner::current();
            let calls = open.iter().map(|batch| {
                spawner.spawn(produce(connection.clone(), place, -1, batch.bytes.clone()))
            });
            let calls: Vec<_> = calls.collect();
            let mut is_first_open = true;
            for (batch, call) in open.into_iter().zip(calls) {
                let answer = call.await;
                self.take(place, batch, answer, is_first_open);
                is_first_open &= batch.is_acknowledged;
            }
            if !is_first_open {
                // What is still under way on this connection would come between.
                self.caller.hang_up();
                time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn take(
        &self,
        place: Place,
        batch: &mut Batch,
        answer: Option<Result<i64, ErrorCode>>,
        is_first_open: bool,
    ) {
        match answer {
            Some(Ok(base)) => {
                batch.is_acknowledged = true;
                for (offset, &value) in (base..).zip(&batch.values) {
                    self.stage.tell(Event::Acknowledged { place, value, offset });
                }
            }
            // One before it was not appended.
            Some(Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)) if !is_first_open => {}
            Some(Err(code)) if !is_passing(code) => {
                let first = batch.values[0];
                let what =
                    format!("{place}: the batch that begins with {first} is refused: {code}");
                self.stage.complain("a sequence that follows is taken", what);
                batch.is_acknowledged = true;
            }
            Some(Err(_)) | None => {}
        }
    }
}
