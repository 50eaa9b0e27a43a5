//! The plain format: columns with a separator between them, bytes as they are.

use super::{Header, LineRecord};

/// What `consume` prints before the value, each followed by the separator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) timestamp: bool,
    pub(crate) partition: bool,
    pub(crate) offset: bool,
    pub(crate) headers: bool,
    pub(crate) key: bool,
}

/// The plain format of `produce` and `consume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextFormat {
    /// Between columns; for `produce`, between key and value. `None`: lines are values alone.
    pub(crate) separator: Option<Vec<u8>>,
    /// Only for `consume`.
    pub(crate) columns: Columns,
}

impl TextFormat {
    /// A line is a value, or key, separator and value if a separator is given.
    pub(super) fn read(&self, line: &[u8]) -> Result<LineRecord, String> {
        let Some(separator) = &self.separator else {
            return Ok(LineRecord { value: Some(line.to_vec()), ..LineRecord::default() });
        };
        let at = line
            .windows(separator.len())
            .position(|window| window == separator)
            .ok_or_else(|| format!("no key separator {:?}", String::from_utf8_lossy(separator)))?;
        Ok(LineRecord {
            key: Some(line[..at].to_vec()),
            value: Some(line[at + separator.len()..].to_vec()),
            ..LineRecord::default()
        })
    }

    /// Columns as Kafka's console consumer names them; an absent key or value prints as `null`.
    pub(super) fn write(&self, record: &LineRecord, out: &mut Vec<u8>) {
        let separator = self.separator.as_deref().unwrap_or(b"\t");
        let mut column = |shown: bool, text: &[u8]| {
            if shown {
                out.extend_from_slice(text);
                out.extend_from_slice(separator);
            }
        };
        let number = |name: &str, value: Option<i64>| format!("{name}:{}", value.unwrap_or(-1));
        let columns = self.columns;
        column(columns.timestamp, number("CreateTime", record.timestamp_ms).as_bytes());
        column(columns.partition, number("Partition", record.partition.map(i64::from)).as_bytes());
        column(columns.offset, number("Offset", record.offset).as_bytes());
        column(columns.headers, &headers(&record.headers));
        column(columns.key, record.key.as_deref().unwrap_or(b"null"));
        out.extend_from_slice(record.value.as_deref().unwrap_or(b"null"));
    }
}

/// `name:value,name:value`, or `NO_HEADERS`.
fn headers(headers: &[Header]) -> Vec<u8> {
    if headers.is_empty() {
        return b"NO_HEADERS".to_vec();
    }
    let list: Vec<Vec<u8>> = headers
        .iter()
        .map(|(name, value)| [name.as_bytes(), b":", value.as_deref().unwrap_or(b"null")].concat())
        .collect();
    list.join(&b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(separator: &str) -> TextFormat {
        TextFormat { separator: Some(separator.into()), columns: Columns::default() }
    }

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        let read = |line: &str| {
            let record = keyed("::").read(line.as_bytes())?;
            Ok::<_, String>((record.key.unwrap(), record.value.unwrap()))
        };
        assert_eq!(read("k::v::w"), Ok((b"k".to_vec(), b"v::w".to_vec())));
        assert_eq!(read("::v"), Ok((b"".to_vec(), b"v".to_vec())));
        assert_eq!(read("k::"), Ok((b"k".to_vec(), b"".to_vec())));
        assert_eq!(read("k:v"), Err("no key separator \"::\"".to_owned()));
    }

    #[test]
    fn without_a_separator_a_line_is_a_value_of_any_bytes() {
        let values = TextFormat { separator: None, columns: Columns::default() };
        let record = values.read(b"\xff\tx").unwrap();
        assert_eq!((record.key, record.value), (None, Some(b"\xff\tx".to_vec())));
    }

    #[test]
    fn columns_are_printed_in_the_console_consumers_order() {
        let record = LineRecord {
            partition: Some(3),
            offset: Some(42),
            timestamp_ms: Some(1_700_000_000_000),
            key: Some(b"k".to_vec()),
            value: Some(b"v".to_vec()),
            headers: vec![("a".to_owned(), Some(b"1".to_vec())), ("b".to_owned(), None)],
        };
        let all =
            Columns { timestamp: true, partition: true, offset: true, headers: true, key: true };
        let check = |columns, separator: Option<&str>, record: &LineRecord, expected: &str| {
            let mut out = Vec::new();
            let separator = separator.map(|s| s.as_bytes().to_vec());
            TextFormat { separator, columns }.write(record, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(
            all,
            None,
            &record,
            "CreateTime:1700000000000\tPartition:3\tOffset:42\ta:1,b:null\tk\tv",
        );
        check(Columns::default(), Some("|"), &record, "v");
        check(Columns { key: true, ..Columns::default() }, Some("|"), &record, "k|v");
        let empty = LineRecord::default();
        check(
            Columns { key: true, headers: true, ..Columns::default() },
            None,
            &empty,
            "NO_HEADERS\tnull\tnull",
        );
    }
}
