//! The crate as others use it: against batches of other clients, and against every kind of harm.

mod golden;
mod harm;
mod round_trip;
mod validation;

use ottla_record::{
    BatchBuilder, BatchOptions, Codec, HEADER_BYTES, Header, RecordBatch, Timestamp, crc32c,
};

/// The most that a test batch may unpack to.
const LIMIT: usize = 1 << 20;

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
struct OwnedRecord {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    fn of(record: &ottla_record::Record<'_>) -> Self {
        Self {
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .map(|header| (header.key_text().into_owned(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        }
    }

    fn append_to(&self, builder: &mut BatchBuilder) {
        let headers: Vec<_> =
            self.headers.iter().map(|(key, value)| Header::new(key, value.as_deref())).collect();
        let (timestamp, key, value) =
            (Timestamp(self.timestamp), self.key.as_deref(), self.value.as_deref());
        let size = builder.size_with(timestamp, key, value, &headers);
        builder.append(timestamp, key, value, &headers);
        assert_eq!(builder.size_in_bytes(), size, "the size was foretold");
    }
}

fn build(options: BatchOptions, records: &[OwnedRecord]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(options);
    records.iter().for_each(|record| record.append_to(&mut builder));
    builder.build()
}

/// A plain batch of three small records.
fn small_batch(codec: Codec) -> Vec<u8> {
    let records: Vec<_> = (0..3)
        .map(|i| OwnedRecord {
            offset: i,
            timestamp: 1000 + i,
            key: Some(vec![b'k'; i as usize]),
            value: Some(b"value".repeat(i as usize)),
            headers: vec![("h".into(), None)],
        })
        .collect();
    build(BatchOptions { codec, ..BatchOptions::default() }, &records)
}

/// The one batch in `bytes`.
fn parse(bytes: &[u8]) -> RecordBatch<'_> {
    let (batch, rest) = RecordBatch::parse(bytes).expect("a batch");
    assert!(rest.is_empty());
    batch
}

/// The records by way of the iterator, which must agree with the walk about them and about what
/// is wrong with them.
fn records(batch: &RecordBatch<'_>) -> Result<Vec<OwnedRecord>, ottla_record::MalformedRecords> {
    let mut unpacked = Vec::new();
    let iterated = batch.records(&mut unpacked, LIMIT).and_then(|records| {
        records
            .map(|record| record.map(|record| OwnedRecord::of(&record)))
            .collect::<Result<_, _>>()
    });
    let mut visited = Vec::new();
    let walked = batch
        .visit_records(LIMIT, |record| visited.push(OwnedRecord::of(record)))
        .map(|()| visited);
    match (&iterated, &walked) {
        // Of a payload that is broken twice the walk may come to the other fault first.
        (Err(_), Err(_)) => {}
        _ => assert_eq!(iterated, walked),
    }
    iterated
}

/// Replaces bytes of a batch, and gives it the length and the checksum that it then has.
fn forge(batch: &[u8], at: usize, field: &[u8]) -> Vec<u8> {
    let mut forged = batch.to_vec();
    forged[at..at + field.len()].copy_from_slice(field);
    seal(&mut forged);
    forged
}

fn seal(batch: &mut [u8]) {
    assert!(batch.len() >= HEADER_BYTES);
    let length = (batch.len() - 12) as u32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
