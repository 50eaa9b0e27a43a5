//! A login as Java's JAAS has it, in the form of Kafka's `sasl.jaas.config`:
//! `module required option="value" …;`.

use std::iter::Peekable;
use std::str::Chars;

use ottla_metadata::SaslLogin;

/// ZooKeeper's login with a user and a password.
const DIGEST: &str = "org.apache.zookeeper.server.auth.DigestLoginModule";

/// All logins of an entry have to succeed, or one: with one login it is the same.
const FLAGS: [&str; 4] = ["required", "requisite", "sufficient", "optional"];

/// Reads the login of a client of ZooKeeper. The error is the reason alone, without anything secret.
pub(super) fn zookeeper_login(text: &str) -> Result<SaslLogin, String> {
    let Entry { module, options } = Entry::read(text)?;
    if module.ends_with("Krb5LoginModule") {
        return Err(format!("Kerberos is not served: the login module can only be {DIGEST}"));
    }
    if module != DIGEST {
        return Err(format!("the login module {module} is not served: it can only be {DIGEST}"));
    }
    let (mut username, mut password) = (None, None);
    for (name, value) in options {
        let place = match &*name {
            "username" => &mut username,
            "password" => &mut password,
            _ => return Err("options other than username and password are not read".to_owned()),
        };
        if place.replace(value).is_some() {
            return Err(format!("{name} is there twice"));
        }
    }
    match (username, password) {
        (Some(username), Some(password)) if !username.is_empty() => {
            Ok(SaslLogin { username, password })
        }
        (Some(_), Some(_)) => Err("username is empty".to_owned()),
        (None, _) => Err("it has no username".to_owned()),
        (_, None) => Err("it has no password".to_owned()),
    }
}

/// A login module and what it is told.
struct Entry {
    module: String,
    options: Vec<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Sign(char),
}

impl Entry {
    fn read(text: &str) -> Result<Self, String> {
        let mut tokens = Tokens(text.chars().peekable());
        let Some(Token::Word(module)) = tokens.next()? else {
            return Err("it has to begin with the name of a login module".to_owned());
        };
        match tokens.next()? {
            Some(Token::Word(flag)) if FLAGS.contains(&&*flag.to_ascii_lowercase()) => {}
            Some(Token::Sign('{')) => {
                return Err(
                    "only what stands between the braces of a section belongs here".to_owned()
                );
            }
            _ => return Err("`required` has to follow the name of the login module".to_owned()),
        }
        let mut options = Vec::new();
        loop {
            let name = match tokens.next()? {
                Some(Token::Word(name)) => name,
                Some(Token::Sign(';')) => break,
                None => return Err("it does not end with a semicolon".to_owned()),
                Some(_) => return Err("an option has to be of the form name=\"value\"".to_owned()),
            };
            match (tokens.next()?, tokens.next()?) {
                (Some(Token::Sign('=')), Some(Token::Word(value) | Token::Quoted(value))) => {
                    options.push((name, value));
                }
                _ => return Err("an option has to be of the form name=\"value\"".to_owned()),
            }
        }
        match tokens.next()? {
            None => Ok(Self { module, options }),
            Some(_) => {
                Err("only one login is read, and something follows its semicolon".to_owned())
            }
        }
    }
}

struct Tokens<'a>(Peekable<Chars<'a>>);

impl Tokens<'_> {
    fn next(&mut self) -> Result<Option<Token>, String> {
        while self.0.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = self.0.next() else { return Ok(None) };
        Ok(Some(match first {
            '"' | '\'' => Token::Quoted(self.quoted(first)?),
            first if is_part_of_word(first) => {
                let mut word = String::from(first);
                while let Some(part) = self.0.next_if(|c| is_part_of_word(*c)) {
                    word.push(part);
                }
                Token::Word(word)
            }
            sign => Token::Sign(sign),
        }))
    }

    /// The text up to the next `quote`. Escapes are those of Java's `StreamTokenizer`.
    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        loop {
            match self.0.next() {
                Some('\\') => text.push(match self.0.next() {
                    Some('a') => '\u{7}',
                    Some('b') => '\u{8}',
                    Some('f') => '\u{c}',
                    Some('n') => '\n',
                    Some('r') => '\r',
                    Some('t') => '\t',
                    Some('v') => '\u{b}',
                    Some('0'..='9') => {
                        return Err("a digit behind a backslash is not read".to_owned());
                    }
                    Some(itself) => itself,
                    None => return Err("it ends within quotes".to_owned()),
                }),
                Some(end) if end == quote => return Ok(text),
                Some('\n' | '\r') | None => return Err("it ends within quotes".to_owned()),
                Some(part) => text.push(part),
            }
        }
    }
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || ['.', '_', '-', '$'].contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(options: &str) -> Result<(String, String), String> {
        let login = zookeeper_login(&format!("{DIGEST} required {options}"))?;
        Ok((login.username, login.password))
    }

    #[test]
    fn a_login_is_read_as_java_reads_it() {
        for (options, username, password) in [
            (r#"username="kafka" password="secret";"#, "kafka", "secret"),
            ("\n  password = secret-1\n  username = 'kafka' ;\n", "kafka", "secret-1"),
            (r#"username="a;b=c" password="say \"\\hi\", 'x'";"#, "a;b=c", r#"say "\hi", 'x'"#),
            (r#"username="a" password='"\t\z\'';"#, "a", "\"\tz'"),
            (r#"username="Jürgen" password="";"#, "Jürgen", ""),
        ] {
            let read = login(options).unwrap_or_else(|error| panic!("{options}: {error}"));
            assert_eq!(read, (username.to_owned(), password.to_owned()), "{options}");
        }
        let other = format!(r#"{DIGEST} Optional username="u" password="p";"#);
        assert_eq!(zookeeper_login(&other).unwrap().username, "u");
    }

    #[test]
    fn what_is_not_one_login_is_refused_without_telling_it() {
        let good = r#"username="kafka" password="secret";"#;
        for (text, reason) in [
            (String::new(), "the name of a login module"),
            ("secret".to_owned(), "`required` has to follow"),
            (format!("Client {{ {DIGEST} required {good} }};"), "between the braces"),
            (format!("{DIGEST} {good}"), "`required` has to follow"),
            (format!("{DIGEST} required username=\"a\" password=\"secret\""), "semicolon"),
            (format!("{DIGEST} required username=\"a\" password=\"secret"), "within quotes"),
            (format!("{DIGEST} required username=\"a\" password=\"secret\\"), "within quotes"),
            (format!("{DIGEST} required username=\"a\" password=\"secret\n\";"), "within quotes"),
            (format!("{DIGEST} required password=\"\\101secret\";"), "a digit behind a backslash"),
            (format!("{DIGEST} required username \"secret\";"), "of the form name=\"value\""),
            (format!("{DIGEST} required \"secret\";"), "of the form name=\"value\""),
            (format!("{DIGEST} required password=;"), "of the form name=\"value\""),
            (format!("{DIGEST} required password=\"secret\";"), "it has no username"),
            (format!("{DIGEST} required username=\"a\";"), "it has no password"),
            (format!("{DIGEST} required username=\"\" password=\"secret\";"), "username is empty"),
            (format!("{DIGEST} required username=a {good}"), "username is there twice"),
            (format!("{DIGEST} required debug=true {good}"), "other than username and password"),
            (format!("{DIGEST} required {good} {DIGEST} required {good}"), "only one login"),
            (
                "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true;".to_owned(),
                "Kerberos is not served",
            ),
            (
                format!("org.apache.kafka.common.security.plain.PlainLoginModule required {good}"),
                "PlainLoginModule is not served: it can only be org.apache.zookeeper",
            ),
        ] {
            let told = zookeeper_login(&text).expect_err(&text);
            assert!(told.contains(reason), "{text}: {told}");
            assert!(!told.contains("secret"), "{text}: {told}");
        }
    }
}
