//! Reading a schema file into what the emitters need. Strict: a key or a shape that it does not
//! know is an error, so that a schema cannot say something the generated code ignores.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

/// The versions in which something exists; `max` is `i16::MAX` while open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

impl Versions {
    fn parse(text: &str) -> Result<Option<Self>, String> {
        let number = |s: &str| s.parse::<i16>().map_err(|e| format!("versions {text:?}: {e}"));
        if text == "none" {
            return Ok(None);
        }
        let (min, max) = match (text.strip_suffix('+'), text.split_once('-')) {
            (Some(min), _) => (number(min)?, i16::MAX),
            (None, Some((min, max))) => (number(min)?, number(max)?),
            (None, None) => (number(text)?, number(text)?),
        };
        Ok(Some(Self { min, max }))
    }

    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        let both = Self { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }

    fn hull(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    pub(crate) fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// What a message is for, by the schema's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
    RecordKey,
    RecordValue,
    MetadataRecord,
    Data,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    /// A fixed-size value: the Rust type, which also names the codec's method, and its size.
    Fixed(&'static str, usize),
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

#[derive(Debug)]
pub(crate) struct Field {
    /// The Rust name.
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<String>,
    pub(crate) ignorable: bool,
}

#[derive(Debug)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
    /// The versions in which anything holds one; found out by [`Message::place_structs`].
    pub(crate) versions: Option<Versions>,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The api key, or the record type of a coordinator's record.
    pub(crate) key: Option<i16>,
    /// Whose record it is, for a coordinator's record: the variant of `Coordinator`.
    pub(crate) coordinator: Option<&'static str>,
    pub(crate) versions: Versions,
    pub(crate) flexible_from: Option<i16>,
    /// The message itself, then its structs in the order of their appearance.
    pub(crate) structs: Vec<Struct>,
}

impl Message {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
        let value: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let top = Object::new(
            &value,
            &[
                "apiKey",
                "type",
                "name",
                "validVersions",
                "flexibleVersions",
                "commonStructs",
                "fields",
            ],
        )?;
        let name = top.text("name")?.to_owned();
        if path.file_stem().is_none_or(|stem| stem != name.as_str()) {
            return Err(format!("{name} is not the file's name"));
        }
        let kind = match top.text("type")? {
            "request" => Kind::Request,
            "response" => Kind::Response,
            "coordinator-key" => Kind::RecordKey,
            "coordinator-value" => Kind::RecordValue,
            "metadata" => Kind::MetadataRecord,
            "data" => Kind::Data,
            other => return Err(format!("unknown type {other}")),
        };
        let key = top.number("apiKey")?;
        if key.is_none() != (kind == Kind::Data) {
            return Err("apiKey is for everything but data".to_owned());
        }
        let dir = path.parent().and_then(Path::file_name).and_then(|dir| dir.to_str());
        let coordinator = match (kind, dir) {
            (Kind::RecordKey | Kind::RecordValue, Some("group-coordinator")) => Some("Group"),
            (Kind::RecordKey | Kind::RecordValue, Some("transaction-coordinator")) => {
                Some("Transaction")
            }
            (Kind::RecordKey | Kind::RecordValue, Some("share-coordinator")) => Some("Share"),
            (Kind::RecordKey | Kind::RecordValue, _) => return Err("whose record?".to_owned()),
            _ => None,
        };
        let versions =
            Versions::parse(top.text("validVersions")?)?.ok_or("a message without versions")?;
        let flexible_from = Versions::parse(top.text("flexibleVersions")?)?.map(|v| v.min);
        let flexible_from = flexible_from.filter(|&from| from <= versions.max);

        let mut structs = vec![Struct { name: name.clone(), fields: vec![], versions: None }];
        structs[0].fields = fields(top.list("fields")?, &mut structs)?;
        for common in top.list("commonStructs")? {
            let object = Object::new(common, &["name", "versions", "fields"])?;
            let at = structs.len();
            let name = object.text("name")?.to_owned();
            structs.push(Struct { name, fields: vec![], versions: None });
            structs[at].fields = fields(object.list("fields")?, &mut structs)?;
        }
        let mut message = Self { name, kind, key, coordinator, versions, flexible_from, structs };
        message.place_structs(0, versions)?;
        message.check()?;
        Ok(message)
    }

    /// The struct of this name, which a field of the message has as its type.
    pub(crate) fn find(&self, name: &str) -> &Struct {
        self.structs.iter().find(|s| s.name == name).expect("place_structs has looked it up")
    }

    /// Tells the struct at `at`, and those it holds, that they exist in `versions`.
    fn place_structs(&mut self, at: usize, versions: Versions) -> Result<(), String> {
        let place = &mut self.structs[at].versions;
        *place = Some(place.map_or(versions, |before| before.hull(versions)));
        let held: Vec<(String, Option<Versions>)> = (self.structs[at].fields.iter())
            .filter_map(|field| match &field.ty {
                Type::Struct(name) => Some((name.clone(), field.versions.intersect(versions))),
                Type::Array(element) => match &**element {
                    Type::Struct(name) => Some((name.clone(), field.versions.intersect(versions))),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        for (name, versions) in held {
            let found = self.structs.iter().position(|s| s.name == name);
            let at = found.ok_or_else(|| format!("no struct {name}"))?;
            let versions = versions.ok_or_else(|| format!("{name} is in no version"))?;
            self.place_structs(at, versions)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let names: BTreeSet<&str> = self.structs.iter().map(|s| s.name.as_str()).collect();
        if names.len() != self.structs.len() {
            return Err("two structs have the same name".to_owned());
        }
        for s in &self.structs {
            let within = s.versions.ok_or_else(|| format!("{} is never used", s.name))?;
            let tagged: Vec<&Field> = s.fields.iter().filter(|f| f.tag.is_some()).collect();
            if tagged.len() >= 128 || tagged.iter().any(|f| f.ty == Type::Records) {
                return Err(format!("{}: the encoder cannot write such tagged fields", s.name));
            }
            for field in &s.fields {
                if field.versions.intersect(within).is_none() {
                    return Err(format!("{}.{} is in no version", s.name, field.name));
                }
                if field.tag.is_some()
                    && self.flexible_from.is_none_or(|from| field.versions.min < from)
                {
                    return Err(format!("{}.{}: tagged but not flexible", s.name, field.name));
                }
            }
        }
        Ok(())
    }
}

fn fields(list: &[Value], structs: &mut Vec<Struct>) -> Result<Vec<Field>, String> {
    list.iter().map(|value| field(value, structs)).collect()
}

fn field(value: &Value, structs: &mut Vec<Struct>) -> Result<Field, String> {
    let object = Object::new(
        value,
        &[
            "name",
            "type",
            "versions",
            "nullableVersions",
            "taggedVersions",
            "tag",
            "default",
            "ignorable",
            "fields",
        ],
    )?;
    let name = object.text("name")?;
    let ty = parse_type(object.text("type")?);
    let own = object.list("fields")?;
    if object.0.contains_key("fields") {
        let struct_name = match &ty {
            Type::Struct(name) => name.clone(),
            Type::Array(element) => match &**element {
                Type::Struct(name) => name.clone(),
                _ => return Err(format!("{name}: fields in an array of no struct")),
            },
            _ => return Err(format!("{name}: fields in no struct")),
        };
        let at = structs.len();
        structs.push(Struct { name: struct_name, fields: vec![], versions: None });
        structs[at].fields = fields(own, structs)?;
    }
    let versions = Versions::parse(object.text("versions")?)?.ok_or("a field without versions")?;
    let tagged = object.0.contains_key("taggedVersions");
    if tagged && Versions::parse(object.text("taggedVersions")?)? != Some(versions) {
        return Err(format!("{name}: tagged in some of its versions only"));
    }
    let tag = object.number("tag")?.map(|tag| u32::try_from(tag).map_err(|e| e.to_string()));
    if tagged != tag.is_some() {
        return Err(format!("{name}: taggedVersions and tag go together"));
    }
    let nullable = match object.0.get("nullableVersions") {
        Some(_) => Versions::parse(object.text("nullableVersions")?)?,
        None => None,
    };
    Ok(Field {
        name: snake_case(name),
        ty,
        versions,
        nullable,
        tag: tag.transpose()?,
        default: match object.0.get("default") {
            Some(_) => Some(object.text("default")?.to_owned()),
            None => None,
        },
        ignorable: object.0.get("ignorable").is_some_and(|v| v == &Value::Bool(true)),
    })
}

fn parse_type(text: &str) -> Type {
    if let Some(element) = text.strip_prefix("[]") {
        return Type::Array(Box::new(parse_type(element)));
    }
    match text {
        "bool" => Type::Fixed("bool", 1),
        "int8" => Type::Fixed("i8", 1),
        "int16" => Type::Fixed("i16", 2),
        "uint16" => Type::Fixed("u16", 2),
        "int32" => Type::Fixed("i32", 4),
        "uint32" => Type::Fixed("u32", 4),
        "int64" => Type::Fixed("i64", 8),
        "float64" => Type::Fixed("f64", 8),
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        name => Type::Struct(name.to_owned()),
    }
}

/// `CamelCase` to `snake_case`, where a keyword gets a trailing underscore.
pub(crate) fn snake_case(name: &str) -> String {
    let name: Vec<char> = name.replace("KRaft", "Kraft").chars().collect();
    let mut out = String::new();
    for (i, &c) in name.iter().enumerate() {
        let starts_word = c.is_uppercase()
            && i > 0
            && (!name[i - 1].is_uppercase() || name.get(i + 1).is_some_and(|n| n.is_lowercase()));
        if starts_word {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    if matches!(out.as_str(), "type" | "match") {
        out.push('_');
    }
    out
}

/// A JSON object with no keys but those expected.
struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    fn new(value: &'a Value, known: &[&str]) -> Result<Self, String> {
        let map = value.as_object().ok_or("not an object")?;
        match map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(format!("unknown key {key}")),
            None => Ok(Self(map)),
        }
    }

    fn text(&self, key: &str) -> Result<&'a str, String> {
        self.0.get(key).and_then(Value::as_str).ok_or_else(|| format!("{key}: not a string"))
    }

    fn number(&self, key: &str) -> Result<Option<i16>, String> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        let number = value.as_i64().and_then(|n| i16::try_from(n).ok());
        number.map(Some).ok_or_else(|| format!("{key}: not an int16"))
    }

    fn list(&self, key: &str) -> Result<&'a [Value], String> {
        match self.0.get(key) {
            None => Ok(&[]),
            Some(value) => {
                value.as_array().map(Vec::as_slice).ok_or_else(|| format!("{key}: not a list"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_snake_case() {
        for (camel, snake) in [
            ("ThrottleTimeMs", "throttle_time_ms"),
            ("isKRaftController", "is_kraft_controller"),
            ("V0Host", "v0_host"),
            ("group", "group"),
            ("Type", "type_"),
            ("ISRs", "is_rs"),
            ("TopicID", "topic_id"),
        ] {
            assert_eq!(snake_case(camel), snake);
        }
    }

    #[test]
    fn versions_have_four_forms() {
        assert_eq!(Versions::parse("none"), Ok(None));
        assert_eq!(Versions::parse("3"), Ok(Some(Versions { min: 3, max: 3 })));
        assert_eq!(Versions::parse("3-5"), Ok(Some(Versions { min: 3, max: 5 })));
        assert_eq!(Versions::parse("3+"), Ok(Some(Versions { min: 3, max: i16::MAX })));
        assert!(Versions::parse("three").is_err());
    }
}
