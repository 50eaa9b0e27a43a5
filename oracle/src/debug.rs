//! Compares `Debug` texts, to find values that sit in the wrong field with the right bytes.

use std::collections::BTreeMap;

use ottla_record::Uuid;

/// One token of a `Debug` text.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    /// The content of `"…"`, unescaped.
    Text(Vec<u8>),
    /// The content of `b"…"`.
    Bytes(Vec<u8>),
    Mark(u8),
}

fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b' ' => at += 1,
            b'"' => {
                let (text, end) = quoted(bytes, at + 1);
                // The `b` of bytes was taken for a word.
                if tokens.last() == Some(&Token::Word("b".to_owned())) {
                    tokens.pop();
                    tokens.push(Token::Bytes(text));
                } else {
                    tokens.push(Token::Text(text));
                }
                at = end;
            }
            mark @ (b'{' | b'}' | b'(' | b')' | b'[' | b']' | b',' | b':') => {
                tokens.push(Token::Mark(mark));
                at += 1;
            }
            _ => {
                let part = |b: &u8| b.is_ascii_alphanumeric() || b"_-.+#".contains(b);
                let len = bytes[at..].iter().take_while(|b| part(b)).count().max(1);
                tokens.push(Token::Word(text[at..at + len].to_owned()));
                at += len;
            }
        }
    }
    tokens
}

/// Reads a quoted text to its closing quote; gives the place after it.
fn quoted(bytes: &[u8], mut at: usize) -> (Vec<u8>, usize) {
    let mut text = Vec::new();
    loop {
        match (bytes[at], bytes.get(at + 1)) {
            (b'"', _) => return (text, at + 1),
            (b'\\', Some(b'x')) => {
                let hex = str::from_utf8(&bytes[at + 2..at + 4]).expect("two digits");
                text.push(u8::from_str_radix(hex, 16).expect("hex"));
                at += 4;
            }
            (b'\\', Some(escaped)) => {
                text.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'0' => 0,
                    other => *other,
                });
                at += 2;
            }
            (byte, _) => {
                text.push(byte);
                at += 1;
            }
        }
    }
}

/// The leaves of a value by their path, such as `topics.0.name`. Wrappers (`Some`, newtypes) and
/// struct names vanish, as do underscores in field names; bytes become lists of numbers, ids Kafka's text.
pub(crate) fn leaves(text: &str) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    let tokens = tokens(text);
    let end = value(&tokens, 0, "", &mut leaves);
    assert_eq!(end, tokens.len(), "{text}");
    leaves
}

fn value(tokens: &[Token], at: usize, path: &str, leaves: &mut BTreeMap<String, String>) -> usize {
    match (&tokens[at], tokens.get(at + 1)) {
        (Token::Word(_), Some(Token::Mark(b'{'))) => fields(tokens, at + 2, path, leaves),
        (Token::Mark(b'{'), _) => fields(tokens, at + 1, path, leaves),
        // `Some(x)`, `TopicName(x)`, `Bytes(x)`
        (Token::Word(_), Some(Token::Mark(b'('))) => {
            let end = value(tokens, at + 2, path, leaves);
            assert_eq!(tokens[end], Token::Mark(b')'), "{path}");
            end + 1
        }
        (Token::Mark(b'['), _) => {
            let mut at = at + 1;
            let mut index = 0;
            while tokens[at] != Token::Mark(b']') {
                at = value(tokens, at, &format!("{path}.{index}"), leaves);
                index += 1;
                if tokens[at] == Token::Mark(b',') {
                    at += 1;
                }
            }
            leaves.insert(format!("{path}.len"), index.to_string());
            at + 1
        }
        (Token::Text(text), _) => {
            leaves.insert(path.to_owned(), String::from_utf8_lossy(text).into_owned());
            at + 1
        }
        (Token::Bytes(bytes), _) => {
            for (index, byte) in bytes.iter().enumerate() {
                leaves.insert(format!("{path}.{index}"), byte.to_string());
            }
            leaves.insert(format!("{path}.len"), bytes.len().to_string());
            at + 1
        }
        (Token::Word(word), _) => {
            leaves.insert(path.to_owned(), uuid(word).unwrap_or_else(|| word.clone()));
            at + 1
        }
        (Token::Mark(mark), _) => panic!("{path}: unexpected {}", char::from(*mark)),
    }
}

/// Kafka's text of an id that is written in the usual hexadecimal way.
fn uuid(word: &str) -> Option<String> {
    let groups: Vec<usize> = word.split('-').map(str::len).collect();
    if groups != [8, 4, 4, 4, 12] {
        return None;
    }
    let id = u128::from_str_radix(&word.replace('-', ""), 16).ok()?;
    Some(Uuid(id.to_be_bytes()).to_string())
}

fn fields(
    tokens: &[Token],
    mut at: usize,
    path: &str,
    leaves: &mut BTreeMap<String, String>,
) -> usize {
    while tokens[at] != Token::Mark(b'}') {
        let Token::Word(name) = &tokens[at] else { panic!("{path}: {:?}", tokens[at]) };
        assert_eq!(tokens[at + 1], Token::Mark(b':'), "{path}.{name}");
        let path = format!("{path}.{}", name.replace('_', ""));
        at = value(tokens, at + 2, &path, leaves);
        if tokens[at] == Token::Mark(b',') {
            at += 1;
        }
    }
    at + 1
}
