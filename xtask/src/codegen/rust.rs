//! Emits one message: its structs with `Default` and `IntoOwned`, and what it is among messages.
//! `Decode` and `Encode` come from `reading` and `writing`.

use std::fmt::Write;

use super::schema::{Field, Kind, Message, Struct, Type, Versions, snake_case};
use super::stem;

/// The whole module of one message; a request also needs to know its response.
pub(super) fn message(message: &Message, response: Option<&Message>) -> Result<String, String> {
    let mut body = String::new();
    for s in &message.structs {
        let emitter = Emitter { message, response, s, within: s.versions.ok_or("unused struct")? };
        body.push_str(&emitter.emit()?);
    }
    let has = |needle: &str| body.contains(needle);
    let mut out = format!("//! [`{}`] and its parts.\n\n", message.name);
    if has("Cow<") {
        out.push_str("use std::borrow::Cow;\n\n");
    }
    if has("Uuid") {
        out.push_str("use ottla_record::Uuid;\n\n");
    }
    let mut imports = vec![
        "Decode",
        "DecodeError",
        "Decoder",
        "Encode",
        "EncodeError",
        "Encoder",
        "IntoOwned",
        "Message",
        "VersionRange",
    ];
    imports.extend(has("ApiKey::").then_some("ApiKey"));
    imports.extend(has("Records<").then_some("Records"));
    if has("RecordKey for") {
        imports.extend(["Coordinator", "RecordKey"]);
    }
    imports.extend(has("Request<'a> for").then_some("Request"));
    let _ = writeln!(out, "use crate::{{{}}};\n", imports.join(", "));
    Ok(out + &body)
}

/// Whether a value of this type borrows from the frame.
fn borrows(message: &Message, ty: &Type) -> bool {
    match ty {
        Type::Fixed(..) | Type::Uuid => false,
        Type::String | Type::Bytes | Type::Records => true,
        Type::Array(element) => borrows(message, element),
        Type::Struct(name) => message.find(name).fields.iter().any(|f| borrows(message, &f.ty)),
    }
}

/// `<'a>` if the struct borrows.
pub(super) fn lifetime(message: &Message, s: &Struct) -> &'static str {
    if s.fields.iter().any(|f| borrows(message, &f.ty)) { "<'a>" } else { "" }
}

/// The Rust type without regard to null, with lifetime `'a`.
fn bare_type(message: &Message, ty: &Type) -> String {
    match ty {
        Type::Fixed(name, _) => (*name).to_owned(),
        Type::Uuid => "Uuid".to_owned(),
        Type::String => "Cow<'a, str>".to_owned(),
        Type::Bytes => "Cow<'a, [u8]>".to_owned(),
        Type::Records => "Records<'a>".to_owned(),
        Type::Struct(name) => format!("{name}{}", lifetime(message, message.find(name))),
        Type::Array(element) => format!("Vec<{}>", bare_type(message, element)),
    }
}

/// Whether the field is an `Option`: nullable in some version, or records.
pub(super) fn is_option(field: &Field) -> bool {
    field.nullable.is_some() || field.ty == Type::Records
}

/// The field's default as an expression.
pub(super) fn default_value(field: &Field) -> Result<String, String> {
    let default = field.default.as_deref();
    if is_option(field) && (default == Some("null") || field.ty == Type::Records) {
        return Ok("None".to_owned());
    }
    let bare = match (&field.ty, default) {
        (Type::Fixed("bool", _), None) => "false".to_owned(),
        (Type::Fixed("bool", _), Some(value @ ("true" | "false"))) => value.to_owned(),
        (Type::Fixed("f64", _), None) => "0.0".to_owned(),
        (Type::Fixed(..), None) => "0".to_owned(),
        (Type::Fixed("i32", _), Some("-2147483648")) => "i32::MIN".to_owned(),
        (Type::Fixed("i32", _), Some("0x7fffffff")) => "i32::MAX".to_owned(),
        (Type::Fixed("i64", _), Some("9223372036854775807")) => "i64::MAX".to_owned(),
        (Type::Fixed(name, _), Some(value)) if *name != "f64" && value.parse::<i64>().is_ok() => {
            value.to_owned()
        }
        (Type::Uuid, None) => "Uuid::ZERO".to_owned(),
        (Type::String, None | Some("")) => "Cow::Borrowed(\"\")".to_owned(),
        (Type::Bytes, None) => "Cow::Borrowed(&[])".to_owned(),
        (Type::Array(_), None) => "Vec::new()".to_owned(),
        (Type::Struct(name), None) => format!("{name}::default()"),
        (ty, default) => return Err(format!("{}: default {default:?} of {ty:?}", field.name)),
    };
    Ok(if is_option(field) { format!("Some({bare})") } else { bare })
}

/// A condition on `version` that tells `some` from the rest of `within`.
pub(super) fn condition(some: Option<Versions>, within: Versions) -> String {
    let Some(some) = some.and_then(|some| some.intersect(within)) else {
        return "false".to_owned();
    };
    match (some.min > within.min, some.max < within.max) {
        (false, false) => "true".to_owned(),
        (true, false) => format!("version >= {}", some.min),
        (false, true) => format!("version <= {}", some.max),
        (true, true) if some.min == some.max => format!("version == {}", some.min),
        (true, true) => format!("({}..={}).contains(&version)", some.min, some.max),
    }
}

fn versions_text(versions: Versions) -> String {
    match versions {
        Versions { min, max: i16::MAX } => format!("{min}+"),
        Versions { min, max } if min == max => min.to_string(),
        Versions { min, max } => format!("{min}–{max}"),
    }
}

/// What is needed to emit one struct of a message.
pub(super) struct Emitter<'a> {
    pub(super) message: &'a Message,
    pub(super) response: Option<&'a Message>,
    pub(super) s: &'a Struct,
    /// The versions in which the struct is read or written.
    pub(super) within: Versions,
}

impl Emitter<'_> {
    pub(super) fn is_top(&self) -> bool {
        self.s.name == self.message.name
    }

    fn emit(&self) -> Result<String, String> {
        let mut out = self.declaration()?;
        if self.is_top() {
            out.push_str(&self.identity());
        }
        out.push_str(&self.decode()?);
        out.push_str(&self.encode()?);
        out.push_str(&self.owning());
        Ok(out)
    }

    pub(super) fn lifetime(&self) -> &'static str {
        lifetime(self.message, self.s)
    }

    fn declaration(&self) -> Result<String, String> {
        let name = &self.s.name;
        let lifetime = self.lifetime();
        let mut defaults = String::new();
        let mut natural = true;
        let mut fields = String::new();
        for field in &self.s.fields {
            let bare = bare_type(self.message, &field.ty);
            let ty = if is_option(field) { format!("Option<{bare}>") } else { bare };
            let default = default_value(field)?;
            natural &= matches!(
                default.as_str(),
                "0" | "0.0"
                    | "false"
                    | "None"
                    | "Vec::new()"
                    | "Uuid::ZERO"
                    | "Cow::Borrowed(\"\")"
            ) || default.ends_with("::default()")
                || default == "Cow::Borrowed(&[])";
            let _ = write!(defaults, "{}: {default},", field.name);
            let _ = write!(fields, "/// {}\npub {}: {ty},\n", field_doc(field), field.name);
        }
        let what = if self.is_top() {
            let flexible = match self.message.flexible_from {
                Some(from) => format!("flexible from {from}"),
                None => "never flexible".to_owned(),
            };
            format!("{name}, versions {}, {flexible}.", versions_text(self.within))
        } else {
            format!("Part of {}, versions {}.", self.message.name, versions_text(self.within))
        };
        let derive =
            if natural { "Debug, Clone, PartialEq, Default" } else { "Debug, Clone, PartialEq" };
        let mut out = format!(
            "/// {what}\n#[derive({derive})]\npub struct {name}{lifetime} {{ {fields} }}\n\n"
        );
        if !natural {
            let elided = if lifetime.is_empty() { "" } else { "<'_>" };
            let _ = write!(
                out,
                "impl Default for {name}{elided} {{ fn default() -> Self {{ Self {{ {defaults} }} }} }}\n\n"
            );
        }
        Ok(out)
    }

    /// What the message is among messages.
    fn identity(&self) -> String {
        let Message { name, versions, flexible_from, .. } = self.message;
        let own_lifetime = self.lifetime();
        let elided = if own_lifetime.is_empty() { "" } else { "<'_>" };
        let mut out = format!(
            "impl Message for {name}{elided} {{\n\
             const NAME: &'static str = \"{name}\";\n\
             const VERSIONS: VersionRange = VersionRange {{ min: {}, max: {} }};\n\
             const FLEXIBLE_FROM: Option<i16> = {flexible_from:?};\n}}\n\n",
            versions.min, versions.max,
        );
        let record = self.message.key.zip(self.message.coordinator);
        match (self.message.kind, record, self.response) {
            (Kind::Request, _, Some(response)) => {
                let api = stem(name);
                let module = snake_case(&response.name);
                let borrows = !lifetime(response, &response.structs[0]).is_empty();
                let response_lifetime = if borrows { "<'r>" } else { "" };
                let response = &response.name;
                let _ = write!(
                    out,
                    "impl<'a> Request<'a> for {name}{own_lifetime} {{\n\
                     const API_KEY: ApiKey = ApiKey::{api};\n\
                     type Response<'r> = super::{module}::{response}{response_lifetime};\n}}\n\n"
                );
            }
            (Kind::RecordKey, Some((record_type, coordinator)), _) => {
                let _ = write!(
                    out,
                    "impl RecordKey for {name}{elided} {{\n\
                     const COORDINATOR: Coordinator = Coordinator::{coordinator};\n\
                     const RECORD_TYPE: i16 = {record_type};\n}}\n\n"
                );
            }
            _ => {}
        }
        out
    }

    /// The expression for "this version is flexible".
    fn flexible(&self) -> String {
        let from = self.message.flexible_from.map(|min| Versions { min, max: i16::MAX });
        condition(from, self.within)
    }

    /// Declares `flexible` if it depends on the version, and gives the expression for it.
    pub(super) fn declare_flexible(&self, body: &mut String) -> String {
        let flexible = self.flexible();
        if !flexible.starts_with("version") {
            return flexible;
        }
        let needed = self.s.fields.iter().any(|f| uses_flexible(&f.ty));
        if !needed {
            return flexible;
        }
        let _ = writeln!(body, "let flexible = {flexible};");
        "flexible".to_owned()
    }

    pub(super) fn field_id(&self, field: &Field) -> String {
        format!("\"{}.{}\"", self.s.name, field.name)
    }

    pub(super) fn nullable(&self, field: &Field) -> String {
        let present = field.versions.intersect(self.within).unwrap_or(self.within);
        condition(field.nullable, present)
    }

    pub(super) fn tagged(&self) -> Vec<(u32, &Field)> {
        let mut tagged: Vec<(u32, &Field)> =
            self.s.fields.iter().filter_map(|f| Some((f.tag?, f))).collect();
        tagged.sort_by_key(|(tag, _)| *tag);
        tagged
    }

    fn owning(&self) -> String {
        let name = &self.s.name;
        let (elided, fixed) =
            if self.lifetime().is_empty() { ("", "") } else { ("<'_>", "<'static>") };
        let body = if fixed.is_empty() {
            "self".to_owned()
        } else {
            let inits: String = (self.s.fields.iter())
                .map(|f| match borrows(self.message, &f.ty) {
                    true => format!("{0}: IntoOwned::into_owned(self.{0}),", f.name),
                    false => format!("{0}: self.{0},", f.name),
                })
                .collect();
            format!("{name} {{ {inits} }}")
        };
        format!(
            "impl IntoOwned for {name}{elided} {{\n\
             type Owned = {name}{fixed};\n\n\
             fn into_owned(self) -> Self::Owned {{ {body} }}\n}}\n\n"
        )
    }
}

fn field_doc(field: &Field) -> String {
    let mut doc = format!("Versions {}", versions_text(field.versions));
    if let Some(tag) = field.tag {
        let _ = write!(doc, ", tag {tag}");
    }
    if let Some(nullable) = field.nullable {
        let _ = write!(doc, ", nullable in {}", versions_text(nullable));
    }
    if let Some(default) = &field.default {
        let _ = match default.as_str() {
            "" => write!(doc, ", default empty"),
            default => write!(doc, ", default {default}"),
        };
    }
    if field.ignorable {
        doc.push_str(", left out of versions without it");
    }
    doc + "."
}

fn uses_flexible(ty: &Type) -> bool {
    !matches!(ty, Type::Fixed(..) | Type::Uuid | Type::Struct(_))
}

/// Whether `text` has `word` as an identifier of its own, not as part of one or as a field.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(|c| part(c) || c == '.' || c == '"') && !after.is_some_and(part)
    })
}
