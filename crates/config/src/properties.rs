//! `.properties` text, by the rules of `java.util.Properties.load`.
//!
//! Unlike Java's map this keeps the order, the lines and the duplicates, and it reads UTF-8 where
//! Java reads ISO 8859-1 (`\uXXXX` means the same to both).

use std::iter::Peekable;
use std::str::Chars;

/// One `key = value` of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The key, without escapes.
    pub key: String,
    /// The value, without escapes; blanks at its end are part of it, as in Java.
    pub value: String,
    /// The line on which it starts, from 1.
    pub line: usize,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The properties in the order of the file, duplicates included.
    pub entries: Vec<Property>,
    /// Lines that cannot be read, with the reason.
    pub malformed: Vec<(usize, String)>,
}

impl Properties {
    /// Reads a whole file. Never fails: what cannot be read is listed in `malformed`.
    pub fn parse(text: &str) -> Self {
        let mut properties = Self::default();
        for (line, logical) in logical_lines(text) {
            match property(&logical) {
                Ok((key, value)) => properties.entries.push(Property { key, value, line }),
                Err(reason) => properties.malformed.push((line, reason)),
            }
        }
        properties
    }
}

/// Java's blanks within a line.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// The lines that hold a property, each joined with the lines that continue it, with the number of
/// its first line. Blank lines and comments are left out; a continuation is never a comment.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut logical = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, natural) in natural_lines(text).enumerate() {
        let natural = natural.trim_start_matches(is_blank);
        if open.is_none() && (natural.is_empty() || natural.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = natural.len() - natural.trim_end_matches('\\').len();
        let continued = backslashes % 2 == 1;
        let content = if continued { &natural[..natural.len() - 1] } else { natural };
        let (_, line) = open.get_or_insert_with(|| (index + 1, String::new()));
        line.push_str(content);
        if !continued {
            logical.extend(open.take());
        }
    }
    logical.extend(open);
    logical.retain(|(_, line)| !line.is_empty());
    logical
}

/// Splits at `\n`, `\r` and `\r\n`.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// Splits a logical line at the first unescaped `=`, `:` or blank.
fn property(line: &str) -> Result<(String, String), String> {
    let mut chars = line.chars().peekable();
    let key = unescape(&mut chars, |c| is_blank(c) || c == '=' || c == ':')?;
    skip_blanks(&mut chars);
    if chars.next_if(|c| matches!(c, '=' | ':')).is_some() {
        skip_blanks(&mut chars);
    }
    let value = unescape(&mut chars, |_| false)?;
    Ok((key, value))
}

fn skip_blanks(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| is_blank(*c)).is_some() {}
}

/// Reads up to an unescaped character for which `ends` is true, which is left unread.
fn unescape(
    chars: &mut Peekable<Chars<'_>>,
    ends: impl Fn(char) -> bool,
) -> Result<String, String> {
    let mut text = String::new();
    while let Some(c) = chars.next_if(|c| !ends(*c)) {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('f') => text.push('\u{c}'),
            Some('u') => text.push(unicode_escape(chars)?),
            Some(other) => text.push(other),
            None => {}
        }
    }
    Ok(text)
}

/// Reads the `XXXX` of `\uXXXX`, and the second half where two escapes make one character.
fn unicode_escape(chars: &mut Peekable<Chars<'_>>) -> Result<char, String> {
    let mut units = vec![utf16_unit(chars)?];
    if (0xd800..0xdc00).contains(&units[0]) {
        let mut ahead = chars.clone();
        if ahead.next() == Some('\\') && ahead.next() == Some('u') {
            units.push(utf16_unit(&mut ahead)?);
            *chars = ahead;
        }
    }
    String::from_utf16(&units)
        .ok()
        .and_then(|text| text.chars().next())
        .ok_or_else(|| "A \\uXXXX escape is half of a character".to_string())
}

fn utf16_unit(chars: &mut Peekable<Chars<'_>>) -> Result<u16, String> {
    let mut unit = 0;
    for _ in 0..4 {
        let digit = chars.next().and_then(|c| c.to_digit(16));
        unit = unit * 16 + digit.ok_or("Malformed \\uXXXX encoding")? as u16;
    }
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let parsed = Properties::parse(text);
        assert_eq!(parsed.malformed, [], "{text:?}");
        parsed.entries.into_iter().map(|entry| (entry.key, entry.value)).collect()
    }

    /// The expected pairs are what `java.util.Properties` (OpenJDK 17) gives for the text.
    #[test]
    fn text_is_read_as_java_reads_it() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("a=1", &[("a", "1")]),
            ("a:1\nb 2\nc\t=\t3", &[("a", "1"), ("b", "2"), ("c", "3")]),
            ("a = = b", &[("a", "= b")]),
            ("a  :  b : c", &[("a", "b : c")]),
            ("a b = c", &[("a", "b = c")]),
            ("  \u{c} a=1  ", &[("a", "1  ")]),
            ("# c=1\n  ! d=2\na#b=1", &[("a#b", "1")]),
            ("# comment \\\na=1", &[("a", "1")]),
            ("a\nb=\nc:", &[("a", ""), ("b", ""), ("c", "")]),
            ("a=1\\\n   2\\\n\t3", &[("a", "123")]),
            ("a=1\\\n#2", &[("a", "1#2")]),
            ("a=1\\\\\nb=2", &[("a", "1\\"), ("b", "2")]),
            ("a=1\\\\\\\nb=2", &[("a", "1\\b=2")]),
            ("a=1\\\n\nb=2", &[("a", "1"), ("b", "2")]),
            ("a=1\\", &[("a", "1")]),
            ("a\\ b\\=c\\:d=1", &[("a b=c:d", "1")]),
            ("a=\\t\\n\\r\\f\\q\\\"", &[("a", "\t\n\r\u{c}q\"")]),
            ("a=\\u0041\\u00e9\\ud83d\\ude00", &[("a", "Aé😀")]),
            ("a=1\r\nb=2\rc=3\r\n", &[("a", "1"), ("b", "2"), ("c", "3")]),
            ("\\u0061\\u003d=1", &[("a=", "1")]),
            ("=1\n: 2", &[("", "1"), ("", "2")]),
            ("fruits  apple, banana, \\\n        pear", &[("fruits", "apple, banana, pear")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            assert_eq!(pairs(text), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_are_those_where_properties_start() {
        let lines: Vec<_> = Properties::parse("# x\n\na=1\\\n  2\nb=3\r\n\r\n\na=4")
            .entries
            .into_iter()
            .map(|entry| (entry.key, entry.line))
            .collect();
        assert_eq!(lines, [("a".into(), 3), ("b".into(), 5), ("a".into(), 8)]);
    }

    #[test]
    fn a_bad_escape_spoils_only_its_own_line() {
        for text in ["x=\\u00g0", "x=\\u12", "x=\\ud83d", "x=\\ud83d\\u0041", "x=\\ude00"] {
            let parsed = Properties::parse(&format!("a=1\n{text}\nb=2"));
            assert_eq!(parsed.entries.len(), 2, "{text}");
            assert_eq!(parsed.malformed.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2]);
        }
    }

    /// Writes `text` so that it reads back as itself.
    fn escape(text: &str) -> String {
        let mut units = [0; 2];
        text.chars()
            .flat_map(|c| {
                c.encode_utf16(&mut units).iter().map(|u| format!("\\u{u:04x}")).collect::<Vec<_>>()
            })
            .collect()
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[\\\\\\\\u=:# \t\r\n\u{c}a-f0-9é😀]{0,60}") {
            Properties::parse(&text);
        }

        #[test]
        fn any_text_at_all_is_read_without_panic(text in ".*") {
            Properties::parse(&text);
        }

        #[test]
        fn escaped_pairs_read_back(key in ".{1,8}", value in ".{0,8}") {
            let text = format!("{}={}", escape(&key), escape(&value));
            prop_assert_eq!(pairs(&text), vec![(key, value)]);
        }
    }
}
