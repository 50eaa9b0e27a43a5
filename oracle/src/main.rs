//! Compares every message that Ottla shares with an independent implementation of the protocol,
//! and writes that implementation's bytes to `crates/protocol/tests/golden`; see README.md.

mod debug;
#[path = "../../crates/protocol/tests/it/fill.rs"]
mod fill;
mod list;
#[path = "../../crates/protocol/tests/it/values.rs"]
mod values;

use std::fmt::{Debug, Write};
use std::path::Path;
use std::process::ExitCode;

use bytes::{Bytes, BytesMut};
use ottla_protocol::{AnyMessage, Encoder, message_named};

use list::{with_0_15, with_0_18, with_common};
use values::Values;

/// One message of another implementation.
struct Other {
    name: &'static str,
    min: i16,
    max: i16,
    default: fn(i16) -> Option<Vec<u8>>,
    /// Reads the bytes, writes them again, and shows what was read.
    rewrite: fn(&[u8], i16) -> Result<(Vec<u8>, String), String>,
}

/// Makes the table of one other implementation. Its versions have no common trait.
macro_rules! table {
    ($kafka:ident, $($message:ident)*) => {{
        use $kafka::messages;
        use $kafka::protocol::{Decodable, Encodable, Message};

        fn default<M: Default + Encodable>(version: i16) -> Option<Vec<u8>> {
            let mut bytes = BytesMut::new();
            M::default().encode(&mut bytes, version).ok()?;
            Some(bytes.to_vec())
        }

        fn rewrite<M: Decodable + Encodable + Debug>(
            bytes: &[u8],
            version: i16,
        ) -> Result<(Vec<u8>, String), String> {
            let mut input = Bytes::copy_from_slice(bytes);
            let message = M::decode(&mut input, version).map_err(|e| e.to_string())?;
            if !input.is_empty() {
                return Err(format!("{} bytes left", input.len()));
            }
            let mut output = BytesMut::new();
            message.encode(&mut output, version).map_err(|e| e.to_string())?;
            Ok((output.to_vec(), format!("{message:?}")))
        }

        vec![$(Other {
            name: stringify!($message),
            min: messages::$message::VERSIONS.min,
            max: messages::$message::VERSIONS.max,
            default: default::<messages::$message>,
            rewrite: rewrite::<messages::$message>,
        }),*]
    }};
}

/// Fields that only the other side has, by message and the start of their (smoothed) names: none has
/// bytes in a version that both have.
const THEIRS_ALONE: &[(&str, &str)] = &[
    // Of version 6, which Kafka calls unstable.
    ("InitProducerIdRequest", ".enable2pc"),
    ("InitProducerIdRequest", ".keeppreparedtxn"),
    ("InitProducerIdResponse", ".ongoingtxnproducer"),
    // Of version 0, an early access that was withdrawn.
    ("ShareFetchRequest", ".topics.0.partitions.0.partitionmaxbytes"),
    ("ShareFetchRequest", ".topics.1.partitions.0.partitionmaxbytes"),
];

/// Fields that have another name here since Kafka renamed them: message, theirs, ours.
const RENAMED: &[(&str, &str, &str)] = &[("VoteRequest", ".candidate", ".replica")];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("ours") {
        print_ours();
        return ExitCode::SUCCESS;
    }
    let mut equal = true;
    for (crate_version, others) in [("0.15.1", with_0_15!(table)), ("0.18.0", with_0_18!(table))] {
        equal &= compare_all(crate_version, &others);
    }
    if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints `Message version filled` of all our messages, for the check that is not in Rust.
fn print_ours() {
    for case in fill::CASES {
        let versions = message_named(case.name).expect("the lists are generated together").versions;
        for version in versions.min..=versions.max {
            let filled = (case.fill)(&mut Values::counted(), version);
            let bytes = bytes_of(&*filled, version).expect("filled messages can be written");
            println!("{} {version} {}", case.name, hex(&bytes));
        }
    }
}

/// Compares all and writes the golden file if all are equal; whether they are.
fn compare_all(crate_version: &str, others: &[Other]) -> bool {
    let mut golden = String::new();
    let (mut lines, mut failures) = (0, 0);
    for other in others {
        let ours = message_named(other.name).expect("the list names our messages").versions;
        for version in ours.min.max(other.min)..=ours.max.min(other.max) {
            match compare(other, version) {
                Ok(line) => golden.push_str(&line),
                Err(e) => {
                    println!("{crate_version}: {} v{version}: {e}", other.name);
                    failures += 1;
                }
            }
            lines += 1;
        }
    }
    println!("{crate_version}: {} of {lines} messages and versions are equal", lines - failures);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/protocol/tests/golden");
    if failures == 0 {
        std::fs::write(dir.join(format!("{crate_version}.txt")), golden).expect("writable");
    }
    failures == 0
}

/// Compares one message in one version; gives its golden line.
fn compare(other: &Other, version: i16) -> Result<String, String> {
    let case = fill::CASES.iter().find(|case| case.name == other.name).ok_or("no such case")?;
    let filled = (case.fill)(&mut Values::counted(), version);
    let ours = bytes_of(&*filled, version)?;
    let (theirs, text) = (other.rewrite)(&ours, version)?;
    same_bytes("filled", &ours, &theirs)?;
    same_fields(other.name, &format!("{filled:?}"), &text)?;

    let default = match (other.default)(version) {
        Some(theirs) => {
            same_bytes("default", &bytes_of(&*(case.default)(), version)?, &theirs)?;
            hex(&theirs)
        }
        None => "-".to_owned(),
    };
    Ok(format!("{} {version} {default} {}\n", other.name, hex(&theirs)))
}

fn bytes_of(message: &dyn AnyMessage, version: i16) -> Result<Vec<u8>, String> {
    let mut e = Encoder::default();
    message.encode(&mut e, version).map_err(|e| e.to_string())?;
    Ok(e.buf)
}

fn same_bytes(what: &str, ours: &[u8], theirs: &[u8]) -> Result<(), String> {
    if ours == theirs {
        return Ok(());
    }
    Err(format!("{what}\n  ours   {}\n  theirs {}", hex(ours), hex(theirs)))
}

/// Each field they know must have the same value here. We may know more fields, of other versions;
/// equal bytes show that those have no part in this one.
fn same_fields(message: &str, ours: &str, theirs: &str) -> Result<(), String> {
    let (ours, theirs) = (debug::leaves(ours), debug::leaves(theirs));
    for (path, theirs) in &theirs {
        let alone = |(name, start): &(_, _)| *name == message && path.starts_with(start);
        if path.contains("unknowntaggedfields") || THEIRS_ALONE.iter().any(alone) {
            continue;
        }
        let mut our_path = path.clone();
        for (_, theirs, ours) in RENAMED.iter().filter(|(name, ..)| *name == message) {
            our_path = our_path.replace(theirs, ours);
        }
        match ours.get(&our_path) {
            Some(ours) if ours == theirs => {}
            ours => return Err(format!("{path}: ours {ours:?}, theirs {theirs:?}")),
        }
    }
    Ok(())
}

/// Hexadecimal digits after an `x`, so that nothing can be seen too.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("x".to_owned(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
