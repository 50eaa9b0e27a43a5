//! Bodies that cannot be read: counts, lengths and varints that lie, null where there is none.

use ottla_protocol::{ApiKey, Encoder, ErrorCode};

use super::case::{Case, Gets, Sent};
use super::stage::{Stage, TARGET};

/// The largest count there is, in a body that is not flexible.
const MANY: i32 = i32::MAX;
/// And in one that is: a compact count is one more.
const COMPACT_MANY: u32 = u32::MAX;

pub(super) fn cases(_: &Stage) -> Vec<Case> {
    let mut cases = produce();
    cases.extend(fetch());
    cases.extend(metadata());
    cases.extend(create_topics());
    cases
}

fn closed(name: &'static str, api: ApiKey, version: i16, write: impl FnOnce(&mut Encoder)) -> Case {
    let name = format!("{} v{version}: {name}", api.name());
    Case::closed(name, Sent::body(api, version, write))
}

/// A Produce request up to its array of topics.
fn produce_start(e: &mut Encoder, flexible: bool) {
    e.opt_string(flexible, true, None, "transactional_id").expect("null");
    e.i16(1);
    e.i32(1000);
}

/// The same, up to the records of one partition.
fn produce_up_to_records(e: &mut Encoder, flexible: bool) {
    produce_start(e, flexible);
    count(e, flexible, 1);
    e.string(flexible, TARGET, "name").expect("short");
    count(e, flexible, 1);
    e.i32(0);
}

fn count(e: &mut Encoder, flexible: bool, count: u32) {
    if flexible { e.uvarint(count + 1) } else { e.i32(count as i32) }
}

fn produce() -> Vec<Case> {
    let api = ApiKey::Produce;
    vec![
        closed("no body", api, 3, |_| {}),
        closed("2³¹−1 topics", api, 3, |e| {
            produce_start(e, false);
            e.i32(MANY);
        }),
        closed("null for the topics", api, 3, |e| {
            produce_start(e, false);
            e.i32(-1);
        }),
        closed("2³¹−1 partitions", api, 3, |e| {
            produce_start(e, false);
            e.i32(1);
            e.string(false, TARGET, "name").expect("short");
            e.i32(MANY);
        }),
        closed("records of 2³¹−1 bytes", api, 3, |e| {
            produce_up_to_records(e, false);
            e.i32(MANY);
        }),
        closed("records that end before their length", api, 3, |e| {
            produce_up_to_records(e, false);
            e.i32(100);
            e.buf.extend_from_slice(&[0; 99]);
        }),
        closed("2³²−2 topics", api, 9, |e| {
            produce_start(e, true);
            e.uvarint(COMPACT_MANY);
        }),
        closed("a count that is no varint", api, 9, |e| {
            produce_start(e, true);
            e.buf.extend_from_slice(&[0xff; 6]);
        }),
        closed("null for a topic's name", api, 9, |e| {
            produce_start(e, true);
            e.uvarint(2);
            e.uvarint(0);
            e.uvarint(1);
            e.buf.extend_from_slice(&[0, 0]);
        }),
        closed("records of 2³²−2 bytes", api, 9, |e| {
            produce_up_to_records(e, true);
            e.uvarint(COMPACT_MANY);
        }),
        closed("2³²−1 tagged fields", api, 9, |e| {
            produce_start(e, true);
            e.uvarint(1);
            e.uvarint(u32::MAX);
        })
        .but_kafka(Gets::Codes(Vec::new()), "there the count is −1, which is none"),
        closed("a tagged field of 2³²−1 bytes", api, 9, |e| {
            produce_start(e, true);
            e.uvarint(1);
            e.uvarint(1);
            e.uvarint(77);
            e.uvarint(u32::MAX);
        }),
    ]
}

/// A Fetch request up to its array of topics.
fn fetch_start(e: &mut Encoder, version: i16) {
    e.i32(-1);
    e.i32(0);
    e.i32(1);
    e.i32(1000);
    e.i8(0);
    if version >= 7 {
        e.i32(0);
        e.i32(-1);
    }
}

fn fetch() -> Vec<Case> {
    let api = ApiKey::Fetch;
    vec![
        closed("2³¹−1 topics", api, 4, |e| {
            fetch_start(e, 4);
            e.i32(MANY);
        }),
        closed("2³¹−1 partitions", api, 4, |e| {
            fetch_start(e, 4);
            e.i32(1);
            e.string(false, TARGET, "topic").expect("short");
            e.i32(MANY);
        }),
        closed("2³²−2 topics", api, 12, |e| {
            fetch_start(e, 12);
            e.uvarint(COMPACT_MANY);
        }),
        closed("null for a topic's name", api, 4, |e| {
            fetch_start(e, 4);
            e.i32(1);
            e.i16(-1);
            e.i32(0);
        }),
        closed("2³¹−1 forgotten topics", api, 7, |e| {
            fetch_start(e, 7);
            e.i32(0);
            e.i32(MANY);
        }),
        closed("half a topic id", api, 13, |e| {
            fetch_start(e, 13);
            e.uvarint(2);
            e.buf.extend_from_slice(&[1; 8]);
        }),
    ]
}

fn metadata() -> Vec<Case> {
    let api = ApiKey::Metadata;
    let no_text = Sent::body(api, 1, |e| {
        e.i32(1);
        e.i16(2);
        e.buf.extend_from_slice(&[0xff, 0xfe]);
    });
    vec![
        closed("2³¹−1 topics", api, 1, |e| e.i32(MANY)),
        closed("2³²−2 topics", api, 12, |e| e.uvarint(COMPACT_MANY)),
        closed("null for a topic's name", api, 1, |e| {
            e.i32(1);
            e.i16(-1);
        }),
        closed("a name that ends before its length", api, 1, |e| {
            e.i32(1);
            e.i16(100);
            e.buf.extend_from_slice(b"short");
        }),
        Case::new(
            "Metadata v1: a name that is not UTF-8",
            no_text,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
        ),
    ]
}

fn create_topics() -> Vec<Case> {
    let api = ApiKey::CreateTopics;
    let start = |e: &mut Encoder, flexible: bool| {
        count(e, flexible, 1);
        e.string(flexible, "never", "name").expect("short");
        e.i32(1);
        e.i16(1);
    };
    vec![
        closed("2³¹−1 topics", api, 2, |e| e.i32(MANY)),
        closed("2³¹−1 assignments", api, 2, |e| {
            start(e, false);
            e.i32(MANY);
        }),
        closed("2³¹−1 configs", api, 2, |e| {
            start(e, false);
            e.i32(0);
            e.i32(MANY);
        }),
        closed("2³²−2 topics", api, 5, |e| e.uvarint(COMPACT_MANY)),
        closed("2³²−2 assignments", api, 5, |e| {
            start(e, true);
            e.uvarint(COMPACT_MANY);
        }),
        closed("null for a config's name", api, 2, |e| {
            start(e, false);
            e.i32(0);
            e.i32(1);
            e.i16(-1);
            e.i16(-1);
            e.i32(1000);
            e.bool(false);
        }),
    ]
}
