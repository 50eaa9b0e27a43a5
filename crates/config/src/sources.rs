//! The places that settings come from, merged into one map that knows where each value stands.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::{ConfigError, Key, Lookup, Origin, Properties, Value, Warning};

/// What every variable of the environment that sets a key starts with.
const ENVIRONMENT_PREFIX: &str = "OTTLA_";

/// The environment variable that sets `key`: `OTTLA_`, then the key in capitals with `_` for each
/// character that is not a letter or digit. `log.retention.ms` is `OTTLA_LOG_RETENTION_MS`.
pub fn environment_name(key: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    ENVIRONMENT_PREFIX.chars().chain(key.chars().map(upper)).collect()
}

/// A value as it was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The text of the value.
    pub value: String,
    /// Where it stands.
    pub origin: Origin,
}

/// The origin without the value, which may be secret.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)
    }
}

/// The places to read from. What is added later wins over what was added earlier: add files first,
/// then the environment, then the command line.
#[derive(Debug, Default)]
pub struct Sources {
    settings: Vec<(Name, Setting)>,
    warnings: Vec<Warning>,
    errors: Vec<ConfigError>,
}

/// What is known of a setting's key before the known keys are.
#[derive(Debug)]
enum Name {
    Key(String),
    /// A variable's name, which does not tell dots from underscores.
    Variable(String),
}

impl Sources {
    /// No settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the text of a `.properties` file; `path` is what messages call it.
    pub fn properties(mut self, path: &str, text: &str) -> Self {
        let path: Arc<str> = path.into();
        let origin = |line| Origin::File { path: path.clone(), line };
        let parsed = Properties::parse(text);
        let mut lines: HashMap<String, usize> = HashMap::new();
        for property in parsed.entries {
            let origin = origin(property.line);
            if let Some(earlier) = lines.insert(property.key.clone(), property.line) {
                let key = property.key.clone();
                self.warnings.push(Warning::Duplicate { key, earlier, origin: origin.clone() });
            }
            let setting = Setting { value: property.value, origin };
            self.settings.push((Name::Key(property.key), setting));
        }
        self.errors.extend(
            parsed
                .malformed
                .into_iter()
                .map(|(line, reason)| ConfigError::Malformed { reason, origin: origin(line) }),
        );
        self
    }

    /// Adds the variables of an environment that start with `OTTLA_`. The caller leaves out those
    /// that have another meaning for it.
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        for (name, value) in variables {
            if name.starts_with(ENVIRONMENT_PREFIX) {
                let origin = Origin::Environment(name.clone());
                self.settings.push((Name::Variable(name), Setting { value, origin }));
            }
        }
        self
    }

    /// Adds `key=value` arguments of a command line (`--override` of Kafka's start script).
    pub fn command_line<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        for argument in arguments {
            match argument.split_once('=') {
                Some((key, value)) => {
                    let setting = Setting { value: value.into(), origin: Origin::CommandLine };
                    self.settings.push((Name::Key(key.trim().into()), setting));
                }
                None => self.errors.push(ConfigError::Malformed {
                    reason: format!("{argument} is not of the form key=value"),
                    origin: Origin::CommandLine,
                }),
            }
        }
        self
    }

    /// Merges everything. `names` are the known keys, to which the variables of the environment
    /// are matched; a variable that matches none becomes the key in small letters with dots.
    pub fn merge<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Settings {
        let by_variable: HashMap<String, &str> =
            names.into_iter().map(|name| (environment_name(name), name)).collect();
        let mut by_key = BTreeMap::new();
        for (name, setting) in self.settings {
            let key = match name {
                Name::Key(key) => key,
                Name::Variable(variable) => match by_variable.get(&variable) {
                    Some(key) => key.to_string(),
                    None => {
                        variable[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase().replace('_', ".")
                    }
                },
            };
            by_key.insert(key, setting);
        }
        Settings { by_key, warnings: self.warnings, errors: self.errors }
    }
}

/// What was set, by key, and what was strange on the way.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    by_key: BTreeMap<String, Setting>,
    /// Duplicates.
    pub warnings: Vec<Warning>,
    /// Text that cannot be read.
    pub errors: Vec<ConfigError>,
}

impl Settings {
    /// The setting of a key.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.by_key.get(key)
    }

    /// Sets a key in place of what was set before.
    pub fn insert(&mut self, key: &str, setting: Setting) {
        self.by_key.insert(key.to_string(), setting);
    }

    /// The settings by key, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.by_key.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// The texts by key, as [`Layers`](crate::Layers) take them.
    pub fn texts(&self) -> BTreeMap<String, String> {
        self.by_key.iter().map(|(key, setting)| (key.clone(), setting.value.clone())).collect()
    }

    /// Where the value of `key` stands.
    pub fn origin(&self, key: &str) -> Origin {
        self.get(key).map_or(Origin::Default, |setting| setting.origin.clone())
    }
}

impl Lookup for Settings {
    fn lookup(&self, key: &Key) -> Result<Option<Value>, ConfigError> {
        self.get(key.name).map(|setting| key.parse(&setting.value, &setting.origin)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn the_last_place_wins_and_every_value_knows_its_place() {
        let settings = Sources::new()
            .properties("a.properties", "x.y=1\nb=1\nc=1\nd=1\nx.y=2")
            .properties("b.properties", "b=3")
            .environment([
                variable("OTTLA_X_Y", "4"),
                variable("OTTLA_NO_SUCH_KEY", "5"),
                variable("PATH", "/bin"),
            ])
            .command_line(["c=6=7"])
            .merge(["x.y", "b", "c"]);
        let shown: Vec<_> = settings
            .iter()
            .map(|(key, setting)| format!("{key}={} {}", setting.value, setting.origin))
            .collect();
        assert_eq!(
            shown,
            [
                "b=3 b.properties:1",
                "c=6=7 command line",
                "d=1 a.properties:4",
                "no.such.key=5 environment OTTLA_NO_SUCH_KEY",
                "x.y=4 environment OTTLA_X_Y",
            ]
        );
        assert_eq!(settings.origin("unset"), Origin::Default);
        assert_eq!(format!("{:?}", settings.get("d")), "Some(a.properties:4)");
        let warnings: Vec<_> = settings.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            ["x.y is set twice, the value of line 1 does not count (a.properties:5)"]
        );
    }

    #[test]
    fn unreadable_text_is_an_error_with_its_place() {
        let settings =
            Sources::new().properties("a.properties", "a=\\u00").command_line(["b"]).merge([]);
        let errors: Vec<_> = settings.errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "Malformed \\uXXXX encoding (a.properties:1)",
                "b is not of the form key=value (command line)"
            ]
        );
    }
}
