//! The JSON format: one object per line, the same in both directions, loss-free.
//!
//! `{"partition":0,"offset":7,"timestamp":1700000000000,"key":"k","value":"v",
//! "headers":[{"key":"h","value":"x"}]}`: bytes that are UTF-8 are a string, others are
//! `{"base64":"…"}`, none is `null`. Read, every field may be absent but `value`; `headers` may
//! also be an object, `offset` and `topic` are skipped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{Header, LineRecord};

/// Reads one object; the error names the field.
pub(super) fn read(line: &[u8]) -> Result<LineRecord, String> {
    let object: Map<String, Value> =
        serde_json::from_slice(line).map_err(|e| format!("not a JSON object: {e}"))?;
    let mut record = LineRecord::default();
    let mut has_value = false;
    for (name, value) in &object {
        match name.as_str() {
            "key" => record.key = bytes(name, value)?,
            "value" => {
                record.value = bytes(name, value)?;
                has_value = true;
            }
            "headers" => record.headers = headers(value)?,
            "partition" => record.partition = number(name, value)?,
            "timestamp" => record.timestamp_ms = number(name, value)?,
            "offset" | "topic" => {}
            _ => return Err(format!("unknown field {name:?}")),
        }
    }
    // A tombstone deletes data: it has to be written down as "value":null.
    if has_value { Ok(record) } else { Err("no field \"value\"".to_owned()) }
}

/// Writes one object, without a line feed.
pub(super) fn write(record: &LineRecord, out: &mut Vec<u8>) {
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|(name, value)| json!({ "key": name, "value": text(value.as_deref()) }))
        .collect();
    let fields = [
        ("partition", json!(record.partition)),
        ("offset", json!(record.offset)),
        ("timestamp", json!(record.timestamp_ms)),
        ("key", text(record.key.as_deref())),
        ("value", text(record.value.as_deref())),
        ("headers", Value::from(headers)),
    ];
    for (i, (name, value)) in fields.iter().enumerate() {
        let opening = if i == 0 { '{' } else { ',' };
        out.extend_from_slice(format!("{opening}\"{name}\":{value}").as_bytes());
    }
    out.push(b'}');
}

fn number<T: TryFrom<i64>>(name: &str, value: &Value) -> Result<Option<T>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_i64().and_then(|n| T::try_from(n).ok());
    number.map(Some).ok_or_else(|| format!("field {name:?} is not a whole number in range"))
}

fn bytes(name: &str, value: &Value) -> Result<Option<Vec<u8>>, String> {
    match value {
        Value::Null => return Ok(None),
        Value::String(text) => return Ok(Some(text.clone().into_bytes())),
        Value::Object(object) if object.len() == 1 => {
            if let Some(Value::String(text)) = object.get("base64") {
                let bytes = STANDARD.decode(text).map_err(|e| format!("field {name:?}: {e}"))?;
                return Ok(Some(bytes));
            }
        }
        _ => {}
    }
    Err(format!("field {name:?} is neither a string, null nor {{\"base64\":\"…\"}}"))
}

fn headers(value: &Value) -> Result<Vec<Header>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Object(object) => object
            .iter()
            .map(|(name, value)| Ok((name.clone(), bytes("headers", value)?)))
            .collect(),
        Value::Array(list) => list
            .iter()
            .map(|header| {
                let name = header.get("key").and_then(Value::as_str);
                let name = name.ok_or("a header has no string \"key\"")?;
                let value = header.get("value").unwrap_or(&Value::Null);
                Ok((name.to_owned(), bytes("headers", value)?))
            })
            .collect(),
        _ => Err("field \"headers\" is neither a list nor an object".to_owned()),
    }
}

fn text(bytes: Option<&[u8]>) -> Value {
    match bytes.map(std::str::from_utf8) {
        None => Value::Null,
        Some(Ok(text)) => Value::from(text),
        Some(Err(_)) => json!({ "base64": STANDARD.encode(bytes.unwrap_or_default()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(record: &LineRecord) -> String {
        let mut out = Vec::new();
        write(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_comes_back_as_it_was_printed() {
        let record = LineRecord {
            partition: Some(1),
            offset: Some(7),
            timestamp_ms: Some(1_700_000_000_000),
            key: Some(vec![0xff, 0]),
            value: Some("line\n\"é\"".into()),
            headers: vec![("h".to_owned(), Some(b"x".to_vec())), ("h".to_owned(), None)],
        };
        let line = r#"{"partition":1,"offset":7,"timestamp":1700000000000,"key":{"base64":"/wA="},"value":"line\n\"é\"","headers":[{"key":"h","value":"x"},{"key":"h","value":null}]}"#;
        assert_eq!(print(&record), line);
        assert_eq!(read(line.as_bytes()).unwrap(), LineRecord { offset: None, ..record });
    }

    #[test]
    fn only_the_value_is_needed() {
        let record = read(br#"{"value":null,"headers":{"a":"b"}}"#).unwrap();
        let headers = vec![("a".to_owned(), Some(b"b".to_vec()))];
        assert_eq!(record, LineRecord { headers, ..LineRecord::default() });
    }

    #[test]
    fn errors_name_the_field() {
        for (line, expected) in [
            ("[1]", "not a JSON object"),
            ("{\"key\":\"k\"}", "no field \"value\""),
            ("{\"value\":\"v\",\"kye\":\"k\"}", "unknown field \"kye\""),
            ("{\"value\":1}", "field \"value\" is neither"),
            ("{\"value\":\"v\",\"partition\":3000000000}", "field \"partition\" is not"),
            ("{\"value\":{\"base64\":\"?\"}}", "field \"value\": "),
            ("{\"value\":\"v\",\"headers\":[{\"value\":\"x\"}]}", "a header has no string"),
        ] {
            let error = read(line.as_bytes()).unwrap_err();
            assert!(error.starts_with(expected), "{line}: {error}");
        }
    }
}
