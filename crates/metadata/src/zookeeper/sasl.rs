//! SASL's mechanism DIGEST-MD5 (RFC 2831), on the client's side and as ZooKeeper uses it.
//!
//! The server sends a challenge; the client responds with a hash that only who knows the password can
//! tell; the server shows by another hash that it knows the password too. Bytes go in, bytes come out.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};

/// What ZooKeeper's clients and servers call the service, wherever the server is.
const DIGEST_URI: &str = "zookeeper/zk-sasl-md5";

/// What a server sends is shorter (RFC 2831, 2.1.1).
const TOKEN_BYTES_MAX: usize = 2048;

/// What may stand between the parts of a list.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Whom a client shows to be by SASL: a user that the ensemble's servers know with this password.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslLogin {
    /// The name of the user, which nodes then belong to as `sasl:NAME`.
    pub username: String,
    /// The secret of both sides. It is never sent.
    pub password: String,
}

impl fmt::Debug for SaslLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslLogin").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Why what a server sent is not answered, or not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SaslError {
    /// It is not a list of directives, or too long for one.
    Malformed,
    /// A directive that has to be there once is not there, or twice.
    NotOnce(&'static str),
    /// A directive asks for something else than what ZooKeeper's servers ask for.
    Unsupported(&'static str),
    /// It does not prove that it knows the password.
    NotProved,
}

impl fmt::Display for SaslError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("it is not a list of directives"),
            Self::NotOnce(name) => write!(f, "it has to have one {name}"),
            Self::Unsupported(name) => write!(f, "its {name} is not the one of ZooKeeper"),
            Self::NotProved => f.write_str("it does not show that it knows the password"),
        }
    }
}

/// What a server that knows the password answers to a response.
#[derive(Debug)]
#[must_use]
pub(super) struct Proof(String);

/// Answers a challenge. `random` is the client's part of what makes each exchange another one.
pub(super) fn respond(
    login: &SaslLogin,
    random: [u8; 16],
    challenge: &[u8],
) -> Result<(Vec<u8>, Proof), SaslError> {
    let challenge = Challenge::read(challenge)?;
    let cnonce = BASE64.encode(random);
    let authzid = Some(&*login.username);
    let exchange = Exchange { login, challenge: &challenge, cnonce: &cnonce, authzid };
    Ok((exchange.response(DIGEST_URI), Proof(exchange.hash("", DIGEST_URI))))
}

impl Proof {
    /// Accepts the server's last token, or not.
    pub(super) fn verify(self, token: &[u8]) -> Result<(), SaslError> {
        match Directives::read(token)?.at_most_once("rspauth")? {
            Some(shown) if shown == self.0 => Ok(()),
            _ => Err(SaslError::NotProved),
        }
    }
}

/// What a server asks with.
#[derive(Debug)]
struct Challenge {
    /// The users that are meant; empty if it does not say.
    realm: String,
    nonce: String,
}

impl Challenge {
    fn read(token: &[u8]) -> Result<Self, SaslError> {
        let directives = Directives::read(token)?;
        for (name, only) in [("algorithm", "md5-sess"), ("charset", "utf-8")] {
            if !directives.once(name)?.eq_ignore_ascii_case(only) {
                return Err(SaslError::Unsupported(name));
            }
        }
        // Without it, nothing but authentication is offered.
        if let Some(offered) = directives.at_most_once("qop")?
            && !offered.split(',').any(|qop| qop.trim_matches(SPACE) == "auth")
        {
            return Err(SaslError::Unsupported("qop"));
        }
        // With several, the client would have to choose among users of the same name.
        let realm = directives.at_most_once("realm")?.unwrap_or_default().to_owned();
        Ok(Self { realm, nonce: directives.once("nonce")?.to_owned() })
    }
}

/// All that is hashed.
struct Exchange<'a> {
    login: &'a SaslLogin,
    challenge: &'a Challenge,
    cnonce: &'a str,
    /// As whom the user wants to act. ZooKeeper's clients say it, and ask for nobody else.
    authzid: Option<&'a str>,
}

impl Exchange<'_> {
    fn response(&self, uri: &str) -> Vec<u8> {
        let Self { login, challenge, cnonce, authzid } = self;
        let mut out = format!("charset=utf-8,username={}", quoted(&login.username));
        if !challenge.realm.is_empty() {
            out += &format!(",realm={}", quoted(&challenge.realm));
        }
        out += &format!(
            ",nonce={},nc=00000001,cnonce={},digest-uri={},response={},qop=auth",
            quoted(&challenge.nonce),
            quoted(cnonce),
            quoted(uri),
            self.hash("AUTHENTICATE", uri)
        );
        if let Some(authzid) = authzid {
            out += &format!(",authzid={}", quoted(authzid));
        }
        out.into_bytes()
    }

    /// The hash that the client sends (`AUTHENTICATE`), or that of the server, which is about nothing.
    fn hash(&self, about: &str, uri: &str) -> String {
        let Self { login, challenge, cnonce, authzid } = self;
        let SaslLogin { username, password } = login;
        let nonce = &challenge.nonce;
        let mut secret = Md5::new();
        for (at, part) in [username, &challenge.realm, password].into_iter().enumerate() {
            if at > 0 {
                secret.update(b":");
            }
            secret.update(latin_1(part));
        }
        let mut session = Md5::new_with_prefix(secret.finalize());
        session.update(format!(":{nonce}:{cnonce}"));
        if let Some(authzid) = authzid {
            session.update(format!(":{authzid}"));
        }
        let session = hex(session);
        let about = hex(Md5::new_with_prefix(format!("{about}:{uri}")));
        hex(Md5::new_with_prefix(format!("{session}:{nonce}:00000001:{cnonce}:auth:{about}")))
    }
}

/// Name and value of each part of a list, in which values are words, or quoted.
struct Directives(Vec<(String, String)>);

impl Directives {
    fn read(token: &[u8]) -> Result<Self, SaslError> {
        let text = std::str::from_utf8(token).map_err(|_| SaslError::Malformed)?;
        if text.len() > TOKEN_BYTES_MAX {
            return Err(SaslError::Malformed);
        }
        let (mut all, mut rest) = (Vec::new(), text.trim_matches(SPACE));
        while !rest.is_empty() {
            // Parts may be empty.
            if let Some(after) = rest.strip_prefix(',') {
                rest = after.trim_start_matches(SPACE);
                continue;
            }
            let (name, value) = rest.split_once('=').ok_or(SaslError::Malformed)?;
            let name = word(name.trim_end_matches(SPACE))?;
            let value = value.trim_start_matches(SPACE);
            let (value, after) = match value.strip_prefix('"') {
                Some(value) => unquoted(value)?,
                None => {
                    let end = value.find(SPACE).into_iter().chain(value.find(',')).min();
                    let (value, after) = value.split_at(end.unwrap_or(value.len()));
                    (word(value)?.to_owned(), after)
                }
            };
            all.push((name.to_owned(), value));
            rest = after.trim_start_matches(SPACE);
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(SaslError::Malformed);
            }
        }
        Ok(Self(all))
    }

    /// The value of what may be left out.
    fn at_most_once(&self, name: &'static str) -> Result<Option<&str>, SaslError> {
        let is_it = |(its, _): &&(String, String)| its.eq_ignore_ascii_case(name);
        let mut found = self.0.iter().filter(is_it);
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(SaslError::NotOnce(name)),
            (first, None) => Ok(first.map(|(_, value)| &**value)),
        }
    }

    fn once(&self, name: &'static str) -> Result<&str, SaslError> {
        self.at_most_once(name)?.ok_or(SaslError::NotOnce(name))
    }
}

/// A part that stands without quotes.
fn word(text: &str) -> Result<&str, SaslError> {
    let is_part = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_part) { Err(SaslError::Malformed) } else { Ok(text) }
}

/// The value that ends with the next quote, and what is behind that.
fn unquoted(text: &str) -> Result<(String, &str), SaslError> {
    let (mut value, mut rest) = (String::new(), text.chars());
    loop {
        match rest.next().ok_or(SaslError::Malformed)? {
            '"' => return Ok((value, rest.as_str())),
            '\\' => value.push(rest.next().ok_or(SaslError::Malformed)?),
            other => value.push(other),
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What of a user is hashed is in ISO 8859-1, if that has all its characters.
fn latin_1(text: &str) -> Vec<u8> {
    let latin: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    latin.unwrap_or_else(|| text.as_bytes().to_vec())
}

fn hex(hash: Md5) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(username: &str, password: &str) -> SaslLogin {
        SaslLogin { username: username.to_owned(), password: password.to_owned() }
    }

    /// The exchange of RFC 2831, section 4.
    #[test]
    fn the_exchange_of_the_rfc() {
        let challenge = br#"realm="elwood.innosoft.com",nonce="OA6MG9tEQGm2hh",qop="auth",algorithm=md5-sess,charset=utf-8"#;
        let exchange = Exchange {
            login: &login("chris", "secret"),
            challenge: &Challenge::read(challenge).unwrap(),
            cnonce: "OA6MHXh6VqTrRk",
            authzid: None,
        };
        let uri = "imap/elwood.innosoft.com";
        assert_eq!(
            String::from_utf8(exchange.response(uri)).unwrap(),
            "charset=utf-8,username=\"chris\",realm=\"elwood.innosoft.com\",\
             nonce=\"OA6MG9tEQGm2hh\",nc=00000001,cnonce=\"OA6MHXh6VqTrRk\",\
             digest-uri=\"imap/elwood.innosoft.com\",\
             response=d388dad90d4bbd760a152321f2143af7,qop=auth"
        );
        let proof = Proof(exchange.hash("", uri));
        assert_eq!(proof.verify(b"rspauth=ea40f60335c427b5527b84dbabcdfffd"), Ok(()));
    }

    /// What Java's client and server, with which those of ZooKeeper are made, said to each other.
    #[test]
    fn the_exchange_of_java() {
        for (username, password, nonce, cnonce, response, rspauth) in [
            (
                "kafka",
                "secret",
                "FskWY6haAi1brX6+KqTKzAYWkAeTT7+/MsZwD53t",
                "8X9byqYdvdTbKmoKQrlj51+HxfBEjkPeHRysRaTr",
                "0ab7b50c02853f3d20dca87b765a0d31",
                "29f89e12bab2c8fae8f0f8704af9b89f",
            ),
            // Not in ISO 8859-1.
            (
                "kafka",
                "пароль",
                "PYdv2TCZz/mftHpU10scwH502e3bsM4EaDyZ1TBF",
                "ujoUrgw6JRz2ifHe+Uhn+QpovOXxS8TEi8o4LTcX",
                "5243fae8efcc6be0712b62ee8a18287c",
                "d95513686682a3e6658e30fd2d527e36",
            ),
            // One is, and the other is not.
            (
                "Jürg",
                "pä€",
                "DZrs0alxJF4HkbpFV5vCS0OXht+1xnfgVPJ/EKSX",
                "OaEc2A1EBFKjlaYFv/5DpWzNH7mrmjzxREpb3tY1",
                "a4033ba776efa181024061b55fb57c78",
                "c8172b51f5f2d24a084e40c235b17dfe",
            ),
        ] {
            let challenge =
                format!(r#"realm="zk-sasl-md5",nonce="{nonce}",charset=utf-8,algorithm=md5-sess"#);
            let login = login(username, password);
            let challenge = Challenge::read(challenge.as_bytes()).unwrap();
            let authzid = Some(username);
            let exchange = Exchange { login: &login, challenge: &challenge, cnonce, authzid };
            // Java tells its size of buffers too, which are for encryption.
            assert_eq!(
                String::from_utf8(exchange.response(DIGEST_URI)).unwrap(),
                format!(
                    "charset=utf-8,username=\"{username}\",realm=\"zk-sasl-md5\",\
                     nonce=\"{nonce}\",nc=00000001,cnonce=\"{cnonce}\",\
                     digest-uri=\"zookeeper/zk-sasl-md5\",response={response},qop=auth,\
                     authzid=\"{username}\""
                )
            );
            let proof = Proof(exchange.hash("", DIGEST_URI));
            assert_eq!(proof.verify(format!("rspauth={rspauth}").as_bytes()), Ok(()));
        }
    }

    const CHALLENGE: &str =
        r#"realm="zk-sasl-md5",nonce="n",charset=utf-8,algorithm=md5-sess,qop="auth""#;

    fn refused(challenge: &str) -> Option<SaslError> {
        respond(&login("kafka", "secret"), [0; 16], challenge.as_bytes()).err()
    }

    #[test]
    fn challenges_are_read_strictly() {
        assert_eq!(refused(CHALLENGE), None);
        assert_eq!(refused(&format!(" ,, {} ,\t", CHALLENGE.replace(',', " , "))), None);
        assert_eq!(refused(&CHALLENGE.replace("qop=\"auth\"", "QOP=\"auth-int, auth\"")), None);
        assert_eq!(
            refused(&CHALLENGE.replace(",qop=\"auth\"", ",cipher=\"rc4\",stale=true")),
            None
        );
        for (from, to, error) in [
            ("nonce=\"n\",", "", SaslError::NotOnce("nonce")),
            ("nonce=\"n\"", "nonce=\"n\",nonce=\"m\"", SaslError::NotOnce("nonce")),
            ("charset=utf-8,", "", SaslError::NotOnce("charset")),
            ("algorithm=md5-sess,", "", SaslError::NotOnce("algorithm")),
            ("realm=", "realm=\"other\",realm=", SaslError::NotOnce("realm")),
            ("md5-sess", "md5", SaslError::Unsupported("algorithm")),
            ("utf-8", "latin1", SaslError::Unsupported("charset")),
            ("\"auth\"", "\"auth-conf\"", SaslError::Unsupported("qop")),
            ("\"n\"", "\"n", SaslError::Malformed),
            ("\"n\"", "\"n\\", SaslError::Malformed),
            ("\"n\"", "\"n\"m", SaslError::Malformed),
            ("\"n\"", "", SaslError::Malformed),
            ("nonce=", "", SaslError::Malformed),
            ("nonce=", "=", SaslError::Malformed),
            ("nonce=", "no nce=", SaslError::Malformed),
            ("=utf-8", "=utf/8", SaslError::Malformed),
        ] {
            let challenge = CHALLENGE.replace(from, to);
            assert_eq!(refused(&challenge), Some(error), "{challenge}");
        }
        let long = format!("{CHALLENGE},x=\"{}\"", "x".repeat(TOKEN_BYTES_MAX));
        assert_eq!(refused(&long), Some(SaslError::Malformed));
        let bytes = [CHALLENGE.as_bytes(), b",x=\"\xff\""].concat();
        let read = respond(&login("kafka", "secret"), [0; 16], &bytes);
        assert_eq!(read.err(), Some(SaslError::Malformed));
        assert_eq!(refused("rspauth=0"), Some(SaslError::NotOnce("algorithm")), "the wrong order");
    }

    #[test]
    fn a_server_has_to_know_the_password() {
        let proof = || Proof("0123".to_owned());
        assert_eq!(proof().verify(b"rspauth=0123"), Ok(()));
        assert_eq!(proof().verify(b" rspauth = \"0123\" , x=y"), Ok(()));
        for (token, error) in [
            ("rspauth=0124", SaslError::NotProved),
            ("rspauth=\"\"", SaslError::NotProved),
            ("", SaslError::NotProved),
            (CHALLENGE, SaslError::NotProved),
            ("rspauth=0123,rspauth=0124", SaslError::NotOnce("rspauth")),
            ("rspauth", SaslError::Malformed),
        ] {
            assert_eq!(proof().verify(token.as_bytes()), Err(error), "{token}");
        }
    }

    #[test]
    fn what_would_end_a_value_is_escaped() {
        let hostile = r#"a"\b"#;
        assert_eq!(quoted(hostile), r#""a\"\\b""#);
        let challenge = CHALLENGE.replace("\"n\"", &quoted(hostile));
        assert_eq!(Challenge::read(challenge.as_bytes()).unwrap().nonce, hostile);
        let (response, _) = respond(&login(hostile, ""), [0; 16], challenge.as_bytes()).unwrap();
        let directives = Directives::read(&response).unwrap();
        for name in ["username", "nonce", "authzid"] {
            assert_eq!(directives.once(name), Ok(hostile));
        }
    }

    #[test]
    fn the_password_is_not_printed() {
        assert_eq!(
            format!("{:?}", login("kafka", "secret")),
            "SaslLogin { username: \"kafka\", .. }"
        );
    }
}
