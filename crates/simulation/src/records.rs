//! Record batches of the workload.

use ottla_record::{BatchBuilder, BatchOptions, ProducerEpoch, ProducerId, Sequence, Timestamp};

use crate::event::Value;

/// When all records were made: long before any clock that was set back.
const CREATED_MS: i64 = 1_600_000_000_000;

/// Who sends a batch with sequences.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) sequence: i32,
}

/// A batch with these values, each of which takes so many bytes.
pub(crate) fn encode(values: &[Value], bytes: usize, sender: Option<Sender>) -> Vec<u8> {
    let mut options = BatchOptions::default();
    if let Some(Sender { id, epoch, sequence }) = sender {
        options.producer_id = id;
        options.producer_epoch = epoch;
        options.base_sequence = Sequence(sequence);
    }
    let mut builder = BatchBuilder::new(options);
    for value in values {
        let mut record = Vec::with_capacity(bytes);
        record.extend_from_slice(&value.producer.to_be_bytes());
        record.extend_from_slice(&value.number.to_be_bytes());
        record.resize(bytes.max(record.len()), filling(*value));
        builder.append(Timestamp(CREATED_MS), None, Some(&record), &[]);
    }
    builder.build()
}

fn filling(value: Value) -> u8 {
    (value.producer ^ value.number) as u8
}

/// The values in record batches, with their offsets. An error says what is wrong with them.
pub(crate) fn decode(records: &[u8]) -> Result<Vec<(i64, Value)>, String> {
    let mut found = Vec::new();
    for batch in ottla_record::batches(records) {
        let batch = batch.map_err(|error| error.to_string())?;
        batch.verify_crc().map_err(|error| error.to_string())?;
        let mut unpacked = Vec::new();
        let records = batch.records(&mut unpacked, 1 << 20).map_err(|error| error.to_string())?;
        for record in records {
            let record = record.map_err(|error| error.to_string())?;
            let bytes = record.value.unwrap_or_default();
            let (head, rest) =
                bytes.split_first_chunk::<8>().ok_or("a record of 7 bytes or less")?;
            let [producer, number] = [&head[..4], &head[4..]]
                .map(|half| half.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte)));
            let value = Value { producer, number };
            if rest.iter().any(|&byte| byte != filling(value)) {
                return Err(format!("{value} at {} is not what was sent", record.offset.0));
            }
            found.push((record.offset.0, value));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_seen() {
        let values = [Value { producer: 3, number: 1 }, Value { producer: 3, number: 2 }];
        let mut batch = encode(&values, 100, None);
        assert_eq!(decode(&batch), Ok(vec![(0, values[0]), (1, values[1])]));
        let last = batch.len() - 20;
        batch[last] ^= 1;
        assert!(decode(&batch).is_err());
    }
}
