//! Our bytes against those of other implementations, committed by the `oracle` workspace.

use std::fmt::Write;

use crate::values::Values;
use crate::{bytes_of, fill, text_of};

/// Checks each line `Message version default filled`, in hex after an `x`; `-`
/// is a default that cannot be written.
fn compare(golden: &str, at_least: usize) {
    let mut lines = 0;
    for line in golden.lines() {
        let [name, version, default, filled] =
            line.split(' ').collect::<Vec<_>>().try_into().expect("four columns");
        let version: i16 = version.parse().expect("a version");
        let case = fill::CASES.iter().find(|case| case.name == name).expect("a message");
        let message = (case.fill)(&mut Values::counted(), version);
        let bytes = bytes_of(&*message, version).expect("filled messages can be written");
        assert_eq!(hex(&bytes), filled, "{name} v{version}, written");
        let info = ottla_protocol::message_named(name).expect("a message");
        assert_eq!(
            text_of(info, version, &unhex(filled)),
            Ok(format!("{message:?}")),
            "{name} v{version}, read"
        );
        if default != "-" {
            let bytes = bytes_of(&*(case.default)(), version).expect("others can write it");
            assert_eq!(hex(&bytes), default, "{name} v{version}, default");
        }
        lines += 1;
    }
    assert!(lines >= at_least, "only {lines} lines");
}

#[test]
fn as_kafka_3_9() {
    compare(include_str!("../golden/0.15.1.txt"), 624);
}

#[test]
fn as_kafka_4_1() {
    compare(include_str!("../golden/0.18.0.txt"), 589);
}

#[test]
fn as_kafka_4_2() {
    compare(include_str!("../golden/kio-0.6.5.txt"), 30);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("x".to_owned(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (1..text.len()).step_by(2).map(byte).collect()
}
