//! What stands in the configs of users, clients and addresses: SCRAM credentials and quotas.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Malformed, malformed};

/// A user's SCRAM credential, the value of `SCRAM-SHA-256` or `SCRAM-SHA-512` in the user's config.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramCredential {
    /// The salt.
    pub salt: Vec<u8>,
    /// What the server compares with.
    pub stored_key: Vec<u8>,
    /// What the server proves itself with.
    pub server_key: Vec<u8>,
    /// How often the password was hashed.
    pub iterations: i32,
}

impl std::fmt::Debug for ScramCredential {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScramCredential")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl ScramCredential {
    /// Kafka's text.
    #[must_use]
    pub fn encode(&self) -> String {
        let Self { salt, stored_key, server_key, iterations } = self;
        let [salt, stored_key, server_key] =
            [salt, stored_key, server_key].map(|bytes| STANDARD.encode(bytes));
        format!(
            "salt={salt},stored_key={stored_key},server_key={server_key},iterations={iterations}"
        )
    }

    /// Reads the text, its parts in any order.
    pub fn decode(text: &str) -> Result<Self, Malformed> {
        // The text is a secret: no error repeats it.
        let fail = |part: &str| malformed("a SCRAM credential")(part);
        let part = |name: &str| {
            let value = |part: &str| Some(part.strip_prefix(name)?.strip_prefix('=')?.to_owned());
            text.split(',').find_map(value).ok_or_else(|| fail(name))
        };
        let bytes = |name: &str| STANDARD.decode(part(name)?).map_err(|_| fail(name));
        Ok(Self {
            salt: bytes("salt")?,
            stored_key: bytes("stored_key")?,
            server_key: bytes("server_key")?,
            iterations: part("iterations")?.parse().map_err(|_| fail("iterations"))?,
        })
    }
}

/// The quotas that Kafka keeps as whole numbers; all others have a fraction.
const WHOLE_QUOTAS: [&str; 3] =
    ["consumer_byte_rate", "producer_byte_rate", "connection_creation_rate"];

/// Kafka's text of a quota.
#[must_use]
pub fn encode_quota(key: &str, value: f64) -> String {
    if WHOLE_QUOTAS.contains(&key) { format!("{value:.0}") } else { java_double(value) }
}

/// A number as Java's `Double.toString` has it: in powers of ten from 10⁷ on and below 10⁻³, always
/// with a digit behind the point.
fn java_double(value: f64) -> String {
    let plain = value == 0.0 || (1e-3..1e7).contains(&value.abs());
    if plain || !value.is_finite() {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, power)) if !digits.contains('.') => format!("{digits}.0E{power}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_written_as_java_does() {
        for (value, text) in [
            (0.0, "0.0"),
            (12.5, "12.5"),
            (200.0, "200.0"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (10_000_000.25, "1.000000025E7"),
            (0.001, "0.001"),
            (0.000_25, "2.5E-4"),
        ] {
            assert_eq!(encode_quota("request_percentage", value), text);
        }
        assert_eq!(encode_quota("consumer_byte_rate", 20_000_000.0), "20000000");
    }
}
