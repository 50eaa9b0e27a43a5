//! Corruption is found, and no bytes whatever make the crate panic or take more than they may.

use ottla_record::legacy::LegacyEntry;
use ottla_record::{
    BatchError, Codec, DecompressError, Depth, RecordBatch, Timestamp, TimestampPolicy,
    TimestampType, ValidationOptions, batches, compress, decompress, validate,
};

use crate::{LIMIT, golden, records, seal, small_batch};

/// SplitMix64: the same numbers for the same seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// Flips, overwrites, removes, doubles or cuts off some bytes.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let (at, byte) = (self.below(bytes.len()), self.next() as u8);
            let end = (at + self.below(16)).min(bytes.len());
            match self.below(6) {
                0 => bytes[at] ^= 1 << (byte & 7),
                1 => bytes[at] = byte,
                2 => bytes[at..end].fill(byte),
                3 => drop(bytes.drain(at..end)),
                4 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
                _ => bytes.truncate(at),
            }
        }
    }
}

fn options(depth: Depth) -> ValidationOptions {
    ValidationOptions {
        max_message_bytes: usize::MAX,
        timestamps: TimestampPolicy {
            timestamp_type: TimestampType::CreateTime,
            before_max_ms: 1000,
            after_max_ms: 1000,
        },
        now: Timestamp(1_700_000_000_000),
        key_required: true,
        depth,
        max_decompressed_bytes: LIMIT,
    }
}

/// Does to the bytes all that a broker or a client may do to bytes it received.
fn exercise(bytes: &[u8]) {
    for batch in batches(bytes).flatten() {
        let _ = format!("{batch:?}");
        let _ = batch.last_sequence();
        let _ = records(&batch);
        let _ = batch.recompress(Codec::None, None, LIMIT);
    }
    for depth in [Depth::Header, Depth::Records] {
        if let Err(error) = validate(bytes, &options(depth)) {
            assert!(!error.to_string().is_empty());
        }
    }
    if let Ok((entry, _)) = LegacyEntry::parse(bytes) {
        let _ = entry.verify_crc();
        let _ = entry.visit_records(LIMIT, |_| {});
    }
}

#[test]
fn mutated_batches_do_no_harm() {
    let golden = golden::files("");
    for seed in 0..1200 {
        let mut numbers = Numbers(seed);
        let (name, bytes) = &golden[numbers.below(golden.len())];
        let mut bytes = bytes.clone();
        numbers.mutate(&mut bytes);
        // A checksum put right lets the harm through to the records.
        if bytes.len() >= 61 && numbers.below(2) == 0 {
            seal(&mut bytes);
        }
        let outcome = std::panic::catch_unwind(|| exercise(&bytes));
        assert!(outcome.is_ok(), "panic with seed {seed}, made of {name}");
    }
}

#[test]
fn every_corrupt_byte_is_found() {
    for codec in Codec::ALL {
        let batch = small_batch(codec);
        // The base offset and the leader epoch are the leader's to assign and have no checksum.
        for at in (8..12).chain(16..batch.len()) {
            for flip in 1..=255 {
                let mut corrupt = batch.clone();
                corrupt[at] ^= flip;
                let found = match RecordBatch::parse(&corrupt) {
                    Err(_) => true,
                    Ok((batch, _)) => batch.verify_crc().is_err(),
                };
                assert!(found, "{codec}: byte {at} ^ {flip:#x}");
            }
        }
    }
}

#[test]
fn every_truncation_is_told_from_corruption() {
    for (name, bytes) in golden::files("-v2-") {
        for end in 0..bytes.len().min(4000) {
            let found = RecordBatch::parse(&bytes[..end]);
            assert!(
                matches!(found, Err(BatchError::Truncated { needed, got })
                    if got == end && needed > end && needed <= bytes.len()),
                "{name} cut to {end}: {found:?}"
            );
        }
    }
}

#[test]
fn a_cut_payload_is_corrupt_in_every_codec() {
    let input: Vec<u8> = (0..200_000u32).map(|i| ((i / 7) ^ (i >> 11)) as u8).collect();
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut packed = Vec::new();
        compress(codec, None, &input, &mut packed);
        for end in (0..packed.len()).rev().take(40).chain((0..packed.len()).step_by(97)) {
            let mut out = Vec::new();
            let result = decompress(codec, &packed[..end], LIMIT, &mut out);
            // Snappy's framing has no end of its own: between two blocks it may just stop.
            let whole = result == Ok(()) && out == input;
            assert!(!whole, "{codec} cut to {end} of {}", packed.len());
            if codec != Codec::Snappy {
                assert_eq!(result, Err(DecompressError::Corrupt { codec }), "cut to {end}");
            }
        }
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let zeros = vec![0; 16 << 20];
    for codec in Codec::ALL {
        let mut packed = Vec::new();
        compress(codec, None, &zeros, &mut packed);
        let mut out = Vec::new();
        let result = decompress(codec, &packed, LIMIT, &mut out);
        assert_eq!(result, Err(DecompressError::TooLarge { limit: LIMIT }), "{codec}");
        assert!(out.capacity() <= 4 * LIMIT, "{codec} took {} bytes", out.capacity());
    }
}

#[test]
fn snappy_takes_no_memory_on_a_claim() {
    // A block that claims to hold 2³²−1 bytes, without and with framing.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    let framed = [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x06", &claim[..]].concat();
    for packed in [&claim[..], &framed] {
        let mut out = Vec::new();
        let result = decompress(Codec::Snappy, packed, usize::MAX, &mut out);
        assert_eq!(result, Err(DecompressError::Corrupt { codec: Codec::Snappy }));
        assert_eq!(out.capacity(), 0);
    }
}

#[test]
fn lz4_frames_that_kafka_cannot_read_are_refused() {
    let mut packed = Vec::new();
    compress(Codec::Lz4, None, b"linked", &mut packed);
    assert_eq!(packed[4] & 0b0010_0000, 0b0010_0000, "independent blocks");
    packed[4] &= !0b0010_0000;
    let result = decompress(Codec::Lz4, &packed, LIMIT, &mut Vec::new());
    assert_eq!(result, Err(DecompressError::Corrupt { codec: Codec::Lz4 }));
}

#[test]
fn a_context_survives_a_stream_that_was_given_up() {
    let zeros = vec![0; 1 << 20];
    let mut packed = Vec::new();
    compress(Codec::Zstd, None, &zeros, &mut packed);
    for _ in 0..3 {
        assert!(decompress(Codec::Zstd, &packed, 100, &mut Vec::new()).is_err());
        assert!(
            decompress(Codec::Zstd, &packed[..packed.len() - 1], LIMIT, &mut Vec::new()).is_err()
        );
        assert!(decompress(Codec::Zstd, b"not zstd", LIMIT, &mut Vec::new()).is_err());
        let mut out = Vec::new();
        assert_eq!(decompress(Codec::Zstd, &packed, LIMIT, &mut out), Ok(()));
        assert_eq!(out, zeros);
    }
}
