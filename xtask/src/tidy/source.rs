//! Rust text, as far as tidy reads it: what is code, where functions begin and end.
//!
//! A lexer for comments and literals and a counter of braces: no parser. It is exact for what
//! rustfmt leaves behind, macros included, since braces balance there too.

/// A function with a body.
#[derive(Debug, PartialEq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// From the line of `fn` to the line of the closing brace; attributes and docs do not count.
    pub(crate) lines: usize,
}

/// `text` with comments and literals blanked, and whatever is not ASCII. Offsets and lines stay.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = String::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        for &byte in &bytes[at..end.unwrap_or(at + 1)] {
            let keep = byte == b'\n' || (end.is_none() && byte.is_ascii());
            code.push(if keep { char::from(byte) } else { ' ' });
        }
        at = end.unwrap_or(at + 1);
    }
    code
}

/// `code` without the unit tests at its bottom.
pub(crate) fn production(code: &str) -> &str {
    let mut tests = code.match_indices("#[cfg(test)]\nmod ");
    let inline = |&(at, _): &(usize, &str)| {
        let rest = &code[at..];
        rest.find('{') < rest.find(';').or(Some(usize::MAX))
    };
    tests.find(inline).map_or(code, |(at, _)| &code[..at])
}

/// The functions of `code`, which is the output of [`code`].
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    words(code, "fn")
        .filter_map(|at| {
            let name: String = code[at + 2..]
                .trim_start()
                .chars()
                .take_while(|&c| c.is_ascii_alphanumeric() || c == '_')
                .collect();
            let open = body(bytes, at)?;
            let end = closing(bytes, open)?;
            let lines = 1 + bytes[at..end].iter().filter(|&&b| b == b'\n').count();
            (!name.is_empty()).then_some(Function { name, lines })
        })
        .collect()
}

/// Where `word` stands by itself: no longer identifier, though perhaps the end of a longer path.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> {
    let bytes = code.as_bytes();
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).map(|i| bytes[i]);
        let after = bytes.get(at + word.len());
        let starts = !word.starts_with(|c: char| c.is_ascii_alphabetic());
        (starts || !before.is_some_and(is_identifier))
            && (!word.ends_with(|c: char| c.is_ascii_alphanumeric())
                || !after.copied().is_some_and(is_identifier))
    })
}

/// The line number of an offset, from 1.
pub(crate) fn line(code: &str, at: usize) -> usize {
    1 + code[..at].matches('\n').count()
}

/// The brace, bracket or parenthesis that closes the one at `open`.
pub(crate) fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The opening brace of the function whose `fn` is at `at`; `None` for a declaration.
fn body(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at;
    loop {
        match bytes.get(at)? {
            b'{' => return Some(at),
            b';' | b'}' | b')' => return None,
            b'(' | b'[' => at = closing(bytes, at)?,
            _ => {}
        }
        at += 1;
    }
}

/// The end of the comment or literal that starts at `at`, if one does.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let up_to = |length: Option<usize>| Some(at + length.unwrap_or(rest.len()));
    match rest {
        [b'/', b'/', ..] => up_to(rest.iter().position(|&b| b == b'\n')),
        [b'/', b'*', ..] => up_to(block_comment(rest)),
        [b'"', ..] => up_to(quoted(rest, b'"')),
        [b'\'', b'\\', ..] => up_to(quoted(rest, b'\'')),
        [b'\'', first, ..] => {
            // A character, unless it is a lifetime: 'a, 'static.
            let width = char_width(*first);
            (rest.get(1 + width) == Some(&b'\'')).then_some(at + width + 2)
        }
        [b'r', ..] if starts_literal(bytes, at) => {
            let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
            (rest.get(1 + hashes) == Some(&b'"')).then(|| raw_end(rest, hashes) + at)
        }
        _ => None,
    }
}

/// Whether an `r` can start a raw string: alone, or after the `b` or `c` of one.
fn starts_literal(bytes: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|i| bytes[i]);
    let alone = |n: usize| !before(n).is_some_and(is_identifier);
    alone(1) || (matches!(before(1), Some(b'b' | b'c')) && alone(2))
}

/// The length of a block comment, which may hold others.
fn block_comment(rest: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at + 1 < rest.len() {
        match rest[at..at + 2] {
            [b'/', b'*'] => depth += 1,
            [b'*', b'/'] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// The length of a literal between two `quote`s, with escapes.
fn quoted(rest: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        match *rest.get(at)? {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// The length of a raw string: `r`, its hashes, a quote, up to a quote and as many hashes.
fn raw_end(rest: &[u8], hashes: usize) -> usize {
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let start = hashes + 2;
    let inside = rest[start..].windows(end.len()).position(|window| window == end);
    inside.map_or(rest.len(), |length| start + length + end.len())
}

fn char_width(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

fn is_identifier(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let cases = [
            ("a // fn {\nb", "a b"),
            ("a /* { /* } */ { */ b", "a b"),
            (r#"f("}\"{", b"{")"#, "f( , b )"),
            ("f('{', b'\\'', '\u{20ac}', 'a')", "f( , b , , )"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("r#\"a \"{\" b\"#; r#fn; br\"{\"", "; r#fn; b"),
            ("over\"{\"", "over"),
            ("\"never ends {", ""),
        ];
        for (text, expected) in cases {
            let code = code(text);
            assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), expected, "{text}");
            assert_eq!(code.len(), text.len(), "offsets stay: {text}");
        }
    }

    #[test]
    fn functions_are_counted_from_fn_to_brace() {
        let text = "
trait T {
    fn declared(&self) -> [u8; 4];
    fn provided(&self) { }
}
impl T for U {
    #[must_use]
    async fn long<const N: usize>(
        a: [u8; N],
    ) -> String
    where
        (): Sized,
    {
        // }
        let brace = '}';
        let f = |x: fn(u8)| { format!(\"}}\") };
        fn inner() {
        }
        f(a)
    }
}
macro_rules! m { ($name:ident) => { fn $name() { } } }
";
        let found = functions(&code(text));
        let expected = [("provided", 1), ("long", 13), ("inner", 2)];
        let expected = expected.map(|(name, lines)| Function { name: name.to_owned(), lines });
        assert_eq!(found, expected);
    }

    #[test]
    fn production_ends_where_the_unit_tests_begin() {
        let inline = "fn f() {}\n#[cfg(test)]\nmod tests {\n use std::fs;\n}\n";
        assert_eq!(production(inline), "fn f() {}\n");
        let file = "#[cfg(test)]\nmod tests;\nfn f() {}\n";
        assert_eq!(production(file), file);
    }

    #[test]
    fn a_word_is_not_a_part_of_another() {
        let at: Vec<usize> = words("unsafe_code unsafe{ an_unsafe", "unsafe").collect();
        assert_eq!(at, [12]);
    }
}
