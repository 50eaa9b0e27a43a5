//! All messages in all versions.

mod fill;
#[allow(unreachable_pub, reason = "in the fuzz workspace it is a library's")]
#[path = "../../../../fuzz/src/protocol.rs"]
mod fuzzing;
mod golden;
mod hostile;
mod round_trip;
mod values;
mod wire;

use ottla_protocol::{AnyMessage, Decoder, EncodeError, Encoder, MessageInfo, message_named};

use crate::values::Case;

/// Every message of the generated list, beside the crate's own row, in each of its versions.
fn every_version() -> impl Iterator<Item = (&'static Case, &'static MessageInfo, i16)> {
    fill::CASES.iter().flat_map(|case| {
        let info = message_named(case.name).expect("the lists are generated together");
        (info.versions.min..=info.versions.max).map(move |version| (case, info, version))
    })
}

fn bytes_of(message: &dyn AnyMessage, version: i16) -> Result<Vec<u8>, EncodeError> {
    let mut e = Encoder::default();
    message.encode(&mut e, version)?;
    assert!(e.splices.is_empty());
    Ok(e.buf)
}

/// Reads `bytes` as exactly this message, and shows it.
fn text_of(
    info: &MessageInfo,
    version: i16,
    bytes: &[u8],
) -> Result<String, ottla_protocol::DecodeError> {
    let mut d = Decoder::new(bytes);
    let message = (info.decode)(&mut d, version)?;
    d.finish()?;
    Ok(format!("{message:?}"))
}
