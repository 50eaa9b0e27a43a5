//! Bytes that are no message: refused, without a panic and without memory that they do not pay for.

use std::fs;
use std::path::Path;

use ottla_protocol::{DecodeErrorKind, Decoder};

use crate::values::Values;
use crate::{bytes_of, every_version, fuzzing, text_of};

#[test]
fn every_prefix_is_refused() {
    for (case, info, version) in every_version() {
        let message = (case.fill)(&mut Values::counted(), version);
        let bytes = bytes_of(&*message, version).expect("filled messages can be written");
        for len in 0..bytes.len() {
            let read = text_of(info, version, &bytes[..len]);
            assert!(read.is_err(), "{} v{version}, {len} of {} bytes", case.name, bytes.len());
        }
        let longer = [&bytes[..], &[0]].concat();
        let kind = text_of(info, version, &longer).map_err(|e| e.kind);
        assert_eq!(kind, Err(DecodeErrorKind::TrailingBytes), "{} v{version}", case.name);
    }
}

/// The largest lengths there are, at every place of every message. Were a count believed, the
/// reservation alone would end the process.
#[test]
fn huge_lengths_are_harmless() {
    let ends = every_version()
        .filter(|(_, info, version)| [info.versions.min, info.versions.max].contains(version));
    for (case, info, version) in ends {
        let message = (case.fill)(&mut Values::counted(), version);
        let bytes = bytes_of(&*message, version).expect("filled messages can be written");
        for huge in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0x80; 6]] {
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                let end = (at + huge.len()).min(bytes.len());
                damaged[at..end].copy_from_slice(&huge[..end - at]);
                // Most are refused; some are another value of the same shape. None may panic.
                let mut d = Decoder::new(&damaged);
                if (info.decode)(&mut d, version).is_ok() {
                    assert!(d.position() <= damaged.len());
                }
            }
        }
    }
}

/// One byte changed: what still is a message can be written and comes back.
#[test]
fn damaged_messages_come_back_or_are_refused() {
    let mut read = 0;
    for (case, info, version) in every_version() {
        let mut values = Values::drawn(version as u64);
        let message = (case.fill)(&mut values, version);
        let bytes = bytes_of(&*message, version).expect("filled messages can be written");
        for _ in 0..32.min(bytes.len() * 4) {
            let mut damaged = bytes.clone();
            let at = values.number() as usize % bytes.len();
            damaged[at] ^= 1 << (values.number() % 8);
            let mut d = Decoder::new(&damaged);
            let Ok(message) = (info.decode)(&mut d, version) else { continue };
            let again = bytes_of(&*message, version)
                .unwrap_or_else(|e| panic!("{e}: {} v{version} {damaged:02x?}", case.name));
            assert_eq!(text_of(info, version, &again), Ok(format!("{message:?}")));
            read += 1;
        }
    }
    assert!(read > 1000, "only {read} damaged messages could be read");
}

fn corpus(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&dir).expect("the corpus is in the repository") {
        let path = entry.expect("readable").path();
        // A panic does not say which input it was; captured output does.
        eprintln!("{}", path.display());
        run(&fs::read(&path).expect("readable"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", dir.display());
}

#[test]
fn corpus_of_requests() {
    corpus("request", fuzzing::request);
}

#[test]
fn corpus_of_responses() {
    corpus("response", fuzzing::response);
}

#[test]
fn corpus_of_coordinator_records() {
    corpus("coordinator_record", fuzzing::coordinator_record);
}
