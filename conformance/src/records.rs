//! The records that every client sends: all shapes that Kafka's record format knows.
//!
//! Owns: the set, and its JSON. Must not know: clients, brokers.

use serde_json::{Value, json};

use crate::noise::Noise;

/// In the order of their numbers in a batch's attributes.
pub(crate) const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Every topic has partitions 0, 1 and 2.
pub(crate) const PARTITIONS: usize = 3;

/// What stays below `message.max.bytes` of 1 MiB, and below librdkafka's default of 1,000,000.
const LARGEST: usize = 900 * 1024;

/// A name and a value, which may be null.
pub(crate) type Header = (&'static str, Option<Vec<u8>>);

/// A record to be sent.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) codec: &'static str,
    pub(crate) partition: usize,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<Header>,
    /// Milliseconds since the Unix epoch.
    pub(crate) timestamp: i64,
}

impl Record {
    /// A line of a client's input.
    pub(crate) fn to_json(&self) -> Value {
        let headers: Vec<Value> =
            self.headers.iter().map(|(name, value)| json!([name, encode(value)])).collect();
        json!({
            "codec": self.codec,
            "partition": self.partition,
            "key": encode(&self.key),
            "value": encode(&self.value),
            "headers": headers,
            "timestamp": self.timestamp,
        })
    }

    /// What a reader must print of this record when it lies at `offset` of `topic`.
    pub(crate) fn as_read(&self, topic: &str, offset: i64) -> Value {
        let mut line = self.to_json();
        line["topic"] = json!(topic);
        line["offset"] = json!(offset);
        if let Some(fields) = line.as_object_mut() {
            fields.remove("codec");
        }
        line
    }
}

/// The set, codec after codec. Timestamps are a second apart and end at `now`: older ones than the
/// topic's retention would have the broker delete what was just written.
pub(crate) fn records(now: i64) -> Vec<Record> {
    let mut noise = Noise(0x6f74_746c_6100_0001);
    let mut set = Vec::new();
    for codec in CODECS {
        let shapes = small_shapes(codec).into_iter().chain(sizes(codec, &mut noise));
        for (index, (key, value, headers)) in shapes.enumerate() {
            let partition = index % PARTITIONS;
            set.push(Record { codec, partition, key, value, headers, timestamp: 0 });
        }
    }
    for (age, record) in (0..).zip(set.iter_mut().rev()) {
        record.timestamp = now - 1000 * age;
    }
    set
}

type Shape = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

/// Nulls, empty fields, headers, and bytes that are no text.
fn small_shapes(codec: &str) -> Vec<Shape> {
    let some = |text: &str| Some(format!("{text} {codec}").into_bytes());
    let empty = || Some(Vec::new());
    let plain = |key, value| (key, value, Vec::new());
    let header = |name, value: &str| (name, Some(value.as_bytes().to_vec()));
    vec![
        plain(some("key"), some("value")),
        plain(None, some("null key")),
        plain(empty(), some("empty key")),
        plain(some("null value"), None),
        plain(some("empty value"), empty()),
        plain(None, None),
        plain(empty(), empty()),
        plain(None, empty()),
        plain(empty(), None),
        plain(some("ключ 鍵 🔑"), some("значение 値 🧾")),
        plain(Some((0..=255).collect()), Some((0..=255).rev().collect())),
        (some("one header"), some("value"), vec![header("name", "value")]),
        (some("empty header"), some("value"), vec![header("before", "1"), header("empty", "")]),
        (some("null header"), some("value"), vec![header("before", "1"), ("null", None)]),
        (some("same name"), some("value"), vec![header("n", "1"), header("n", "2")]),
        (some("unicode"), some("value"), vec![header("имя-名-🏷", "значение-値-🧾")]),
        (some("binary"), some("value"), vec![("bytes", Some(vec![0x80, 0xff, 0x01, 0xc3]))]),
        (None, None, vec![header("alone", "x")]),
        (some("many"), some("value"), HEADER_NAMES.map(|name| header(name, name)).to_vec()),
    ]
}

const HEADER_NAMES: [&str; 16] = [
    "h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8", "h9", "ha", "hb", "hc", "hd", "he", "hf",
];

/// From one byte to 900 KiB, each once as text that shrinks well and once as noise that does not.
fn sizes(codec: &str, noise: &mut Noise) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for size in [1, 2, 63, 64, 127, 128, 1000, 8191, 16_384, 100_000, LARGEST] {
        let key = |what: &str| Some(format!("{codec} {what} {size}").into_bytes());
        let sentence = format!("{codec} wrote {size} bytes of this. ");
        let text = sentence.bytes().cycle().take(size).collect();
        shapes.push((key("text"), Some(text), Vec::new()));
        shapes.push((key("noise"), Some(noise.bytes(size)), Vec::new()));
    }
    shapes
}

/// Base64 with padding; null stays null.
pub(crate) fn encode(data: &Option<Vec<u8>>) -> Value {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let Some(data) = data else { return Value::Null };
    let mut text = String::with_capacity(data.len().div_ceil(3) * 4);
    for chunk in data.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for digit in 0..4 {
            let six_bits = (group >> (18 - 6 * digit)) & 63;
            let is_padding = digit > chunk.len();
            text.push(if is_padding { '=' } else { char::from(ALPHABET[six_bits as usize]) });
        }
    }
    Value::String(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(encode(&Some(plain.into())), json!(encoded));
        }
        assert_eq!(encode(&None), Value::Null);
        assert_eq!(encode(&Some(vec![0xfb, 0xff])), json!("+/8="));
    }

    #[test]
    fn the_set_is_the_same_in_every_run_and_ends_now() {
        let (one, other) = (records(5_000_000), records(5_000_000));
        assert!(one == other);
        assert_eq!(one.last().map(|record| record.timestamp), Some(5_000_000));
        assert!(one.iter().any(|record| record.value.as_ref().is_some_and(|v| v.len() == LARGEST)));
    }
}
