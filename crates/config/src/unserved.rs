//! Keys of Kafka that are recognised and not served: a user hears what happens instead.

/// What becomes of a setting that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It says what happens anyway: nothing to tell.
    Fine,
    /// It has no effect: a warning.
    NoEffect,
    /// To go on would do something else than was asked for, and harm: an error.
    Refused,
}

/// One key, or one family of keys, that is recognised and not served.
#[derive(Clone, Copy, Debug)]
pub struct Unserved {
    /// The key; with `*` at its end: all keys that start so.
    pub name: &'static str,
    /// What happens instead, in one line.
    pub note: &'static str,
    /// What becomes of a value.
    pub judge: fn(&str) -> Verdict,
}

impl Unserved {
    /// A key that has no effect, whatever its value.
    pub const fn ignored(name: &'static str, note: &'static str) -> Self {
        Self { name, note, judge: |_| Verdict::NoEffect }
    }

    /// A key whose value decides.
    pub const fn judged(
        name: &'static str,
        judge: fn(&str) -> Verdict,
        note: &'static str,
    ) -> Self {
        Self { name, note, judge }
    }

    /// A key that may not be set, except to nothing.
    pub const fn refused(name: &'static str, note: &'static str) -> Self {
        let judge = |value: &str| match value.trim() {
            "" => Verdict::Fine,
            _ => Verdict::Refused,
        };
        Self { name, note, judge }
    }

    /// Whether this line is about `key`.
    pub fn covers(&self, key: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => key == self.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_covers_its_key_or_its_family() {
        let family = Unserved::ignored("ssl.*", "");
        assert!(family.covers("ssl.keystore.location") && !family.covers("sasl.mechanism"));
        let one = Unserved::refused("zookeeper.connect", "");
        assert!(one.covers("zookeeper.connect") && !one.covers("zookeeper.connection.timeout.ms"));
        assert_eq!((one.judge)(" "), Verdict::Fine);
        assert_eq!((one.judge)("localhost:2181"), Verdict::Refused);
        assert_eq!((family.judge)("x"), Verdict::NoEffect);
    }
}
