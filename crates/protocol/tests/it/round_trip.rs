//! What is written is what is read. Values are compared by their `Debug` text, which shows every
//! field, since their types are not known here.

use ottla_protocol::messages::MESSAGES;

use crate::values::Values;
use crate::{bytes_of, every_version, fill, text_of};

#[test]
fn the_list_of_cases_is_complete() {
    let cases: Vec<&str> = fill::CASES.iter().map(|case| case.name).collect();
    let messages: Vec<&str> = MESSAGES.iter().map(|info| info.name).collect();
    assert_eq!(cases, messages);
}

#[test]
fn filled_messages_come_back() {
    for (case, info, version) in every_version() {
        for seed in 0..24 {
            let mut values = if seed == 0 { Values::counted() } else { Values::drawn(seed) };
            let message = (case.fill)(&mut values, version);
            let at = format!("{} v{version} seed {seed}: {message:?}", case.name);
            let bytes = bytes_of(&*message, version).unwrap_or_else(|e| panic!("{e} in {at}"));
            let read = text_of(info, version, &bytes).unwrap_or_else(|e| panic!("{e} in {at}"));
            assert_eq!(read, format!("{message:?}"), "{at}");
        }
    }
}

#[test]
fn default_messages_come_back() {
    let mut written = 0;
    for (case, info, version) in every_version() {
        let message = (case.default)();
        // Some defaults are null, which a version need not know.
        let Ok(bytes) = bytes_of(&*message, version) else { continue };
        assert_eq!(
            text_of(info, version, &bytes),
            Ok(format!("{message:?}")),
            "{} v{version}",
            case.name
        );
        written += 1;
    }
    assert!(written * 10 >= every_version().count() * 9, "only {written} defaults can be written");
}

#[test]
fn versions_beyond_the_range_are_refused() {
    for case in fill::CASES {
        let info = ottla_protocol::message_named(case.name).expect("it is in the list");
        for version in [info.versions.min - 1, info.versions.max + 1, i16::MIN, i16::MAX] {
            let refused = format!("{}: unsupported version {version}", case.name);
            let written = bytes_of(&*(case.default)(), version).map_err(|e| e.to_string());
            assert_eq!(written, Err(refused.clone()));
            let read = text_of(info, version, &[0; 64]).map_err(|e| e.to_string());
            assert_eq!(read, Err(refused));
        }
    }
}
