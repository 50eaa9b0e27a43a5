//! kcat, which speaks delimiters and format strings instead of the client contract.
//!
//! Owns: the way there and back. What kcat cannot say is in [`crate::client`]. Must not know:
//! suites.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::Outcome;
use crate::client::{Place, limited};
use crate::records::{Record, encode};

/// Neither occurs in a record of the set.
const KEY_END: &[u8] = b"<=key=>";
const MESSAGE_END: &[u8] = b"<=end=>";

/// Lengths before contents, so that any bytes can be told apart; -1 is null.
const FORMAT: &str = r"%p %o %T %K %S\n%k%s\n%h\n";

/// Sends the records, a run of kcat for each stretch of records that one command line can say.
pub(crate) fn write(
    bootstrap: &str,
    topic: &str,
    records: &[Record],
    work: &Path,
) -> Outcome<Vec<Place>> {
    let mut places = Vec::with_capacity(records.len());
    for stretch in records.chunk_by(same_command_line) {
        let input = work.join("kcat.input");
        fs::write(&input, stretch.iter().flat_map(message).collect::<Vec<u8>>())?;
        let mut kcat = limited(&Command::new("kcat"));
        kcat.args(["-P", "-vvv", "-b", bootstrap, "-t", topic, "-X", "acks=all"]);
        kcat.args(["-z", stretch[0].codec, "-p", &stretch[0].partition.to_string()]);
        kcat.arg("-K").arg(OsString::from_vec(KEY_END.to_vec()));
        kcat.arg("-D").arg(OsString::from_vec(MESSAGE_END.to_vec()));
        for (name, value) in &stretch[0].headers {
            let mut header = OsString::from(name);
            if let Some(value) = value {
                header.push("=");
                header.push(std::ffi::OsStr::from_bytes(value));
            }
            kcat.arg("-H").arg(header);
        }
        if empty_is_null(&stretch[0]) {
            kcat.arg("-Z");
        }
        let output = kcat.stdin(File::open(&input)?).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        let before = places.len();
        places.extend(told.lines().filter_map(place));
        if !output.status.success() || places.len() - before != stretch.len() {
            return Err(format!("kcat -P: {}\n{told}", output.status).into());
        }
    }
    Ok(places)
}

/// Reads all of `topics`, and calls `each` with what a client of the contract would have printed.
pub(crate) fn read(
    bootstrap: &str,
    topics: &[String],
    each: &mut impl FnMut(Value) -> Outcome<()>,
) -> Outcome<()> {
    for topic in topics {
        let mut kcat = limited(&Command::new("kcat"));
        kcat.args(["-C", "-e", "-q", "-b", bootstrap, "-t", topic, "-o", "beginning"]);
        let mut child = kcat.args(["-f", FORMAT]).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("kcat has no stdout")?);
        while let Some(line) = message_read(topic, &mut output)? {
            each(line)?;
        }
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("kcat -C: {status}").into());
        }
    }
    Ok(())
}

/// Headers, codec and partition are options; -Z makes every empty key and value null.
fn same_command_line(a: &Record, b: &Record) -> bool {
    a.codec == b.codec
        && a.partition == b.partition
        && a.headers == b.headers
        && empty_is_null(a) == empty_is_null(b)
}

fn empty_is_null(record: &Record) -> bool {
    record.value.is_none()
}

fn message(record: &Record) -> Vec<u8> {
    let mut message = Vec::new();
    if let Some(key) = &record.key {
        message.extend(key);
    }
    // Without the delimiter the key is null, and without anything at all there is no message.
    if record.key.is_some() || record.value.is_none() {
        message.extend(KEY_END);
    }
    message.extend(record.value.iter().flatten());
    message.extend(MESSAGE_END);
    message
}

/// `% Message delivered to partition 0 (offset 4) on broker 1`
fn place(line: &str) -> Option<Place> {
    let (partition, rest) =
        line.split_once("delivered to partition ")?.1.split_once(" (offset ")?;
    let (offset, _) = rest.split_once(')')?;
    Some(Place { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
}

/// One message in [`FORMAT`], or nothing at the end.
fn message_read(topic: &str, input: &mut impl BufRead) -> Outcome<Option<Value>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let numbers: Vec<i64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let &[partition, offset, timestamp, key_length, value_length] = numbers.as_slice() else {
        return Err(format!("kcat printed {line:?}").into());
    };
    let key = field(input, key_length)?;
    let value = field(input, value_length)?;
    let mut rest = Vec::new();
    input.read_until(b'\n', &mut rest)?;
    rest.clear();
    input.read_until(b'\n', &mut rest)?;
    Ok(Some(json!({
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "key": encode(&key),
        "value": encode(&value),
        "headers": headers(rest.trim_ascii_end())?,
        "timestamp": timestamp,
    })))
}

/// A field of `length` bytes; -1 is null.
fn field(input: &mut impl Read, length: i64) -> Outcome<Option<Vec<u8>>> {
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// `name=value,name=NULL`: sound for this set, in which no value has a comma, a line end or `NULL`.
fn headers(text: &[u8]) -> Outcome<Vec<Value>> {
    let pairs = text.split(|&byte| byte == b',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let end = pair.iter().position(|&byte| byte == b'=').ok_or("a header without '='")?;
            let value = Some(&pair[end + 1..]).filter(|&value| value != b"NULL");
            Ok(json!([std::str::from_utf8(&pair[..end])?, encode(&value.map(<[u8]>::to_vec))]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kcat_prints_of_a_delivery() {
        let line = "% Message delivered to partition 2 (offset 41) on broker 1";
        assert_eq!(place(line), Some(Place { partition: 2, offset: 41 }));
        assert_eq!(place("% Setting producer input buffer max size"), None);
    }

    #[test]
    fn lengths_keep_null_empty_and_line_ends_apart() -> Outcome<()> {
        let printed: &[u8] = b"0 7 17 -1 3\na\nb\nh=1,n=NULL,e=\n1 0 18 0 -1\n\n\n";
        let mut input = printed;
        let one = message_read("t", &mut input)?.ok_or("one message")?;
        assert_eq!(
            one,
            json!({
                "topic": "t", "partition": 0, "offset": 7, "timestamp": 17,
                "key": null, "value": "YQpi", "headers": [["h", "MQ=="], ["n", null], ["e", ""]],
            })
        );
        let other = message_read("t", &mut input)?.ok_or("another")?;
        assert_eq!((&other["key"], &other["value"]), (&json!(""), &Value::Null));
        assert_eq!(message_read("t", &mut input)?, None);
        Ok(())
    }
}
