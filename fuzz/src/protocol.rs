//! Decoding whatever comes, and writing what could be read: the same message must come back.

use ottla_protocol::{
    AnyMessage, ApiKey, Coordinator, DecodeError, Decoder, Encoder, decode_any_key,
    decode_any_request, decode_any_response, decode_any_value,
};

/// The input is a request frame.
pub fn request(input: &[u8]) {
    if let Ok((header, body)) = decode_any_request(input) {
        let mut e = Encoder::default();
        header.encode(&mut e).expect("what was read can be written");
        body.encode(&mut e, header.api_version).expect("what was read can be written");
        let again = decode_any_request(&e.buf).map(|(header, body)| (header, text(&*body)));
        assert_eq!(again, Ok((header, text(&*body))));
    }
}

/// The input is an api key and version, then the response frame.
pub fn response(input: &[u8]) {
    let mut d = Decoder::new(input);
    let (Ok(api_key), Ok(version)) = (d.i16("api key"), d.i16("version")) else { return };
    let Some(api_key) = ApiKey::from_i16(api_key) else { return };
    if let Ok((correlation_id, body)) = decode_any_response(api_key, version, &input[4..]) {
        let mut e = Encoder::default();
        e.i32(correlation_id);
        if api_key.response_header_version(version) > 0 {
            e.begin_tags();
        }
        body.encode(&mut e, version).expect("what was read can be written");
        let again = decode_any_response(api_key, version, &e.buf);
        let again = again.map(|(correlation_id, body)| (correlation_id, text(&*body)));
        assert_eq!(again, Ok((correlation_id, text(&*body))));
    }
}

/// The input is a coordinator's number and the length of a key, then the key, then the value.
pub fn coordinator_record(input: &[u8]) {
    let Some((&[coordinator, key_len], rest)) = input.split_first_chunk() else { return };
    let coordinator = match coordinator {
        0 => Coordinator::Group,
        1 => Coordinator::Transaction,
        _ => Coordinator::Share,
    };
    let (key, value) = rest.split_at(rest.len().min(key_len.into()));
    if let Some(record_type) = comes_back(0, key, |key| decode_any_key(coordinator, key)) {
        comes_back(1, value, |value| decode_any_value(coordinator, record_type, value));
    }
}

/// Reads a message after its two-byte prefix, writes and reads it again; gives the prefix. Keys
/// have version 0, values the version of their prefix, of which `scale` decides.
fn comes_back<'a>(
    scale: i16,
    input: &'a [u8],
    read: impl for<'b> Fn(&'b [u8]) -> Result<(i16, Box<dyn AnyMessage + 'b>), DecodeError>,
) -> Option<i16> {
    let (prefix, message) = read(input).ok()?;
    let mut e = Encoder::default();
    e.i16(prefix);
    message.encode(&mut e, prefix * scale).expect("what was read can be written");
    let again = read(&e.buf).map(|(prefix, message)| (prefix, text(&*message)));
    assert_eq!(again, Ok((prefix, text(&*message))));
    Some(prefix)
}

fn text(message: &dyn AnyMessage) -> String {
    format!("{message:?}")
}
