//! Emits `Encode` of one struct.

use std::fmt::Write;

use super::rust::{Emitter, condition, default_value, has_word, is_option};
use super::schema::{Field, Type, Versions};

impl Emitter<'_> {
    pub(super) fn encode(&self) -> Result<String, String> {
        let mut body = String::new();
        let name = &self.s.name;
        if self.is_top() {
            body.push_str("crate::encode::check_version::<Self>(version)?;\n");
        }
        let flexible = self.declare_flexible(&mut body);
        for field in &self.s.fields {
            let present = condition(Some(field.versions), self.within);
            let write = match field.tag {
                // The tag section below writes it; here is only the version that has no place.
                Some(_) => String::new(),
                None => self.write_field(field, &flexible),
            };
            match (present.as_str(), field.ignorable) {
                ("true", _) => body.push_str(&write),
                (_, true) if write.is_empty() => {}
                (present, true) => {
                    let _ = writeln!(body, "if {present} {{ {write} }}");
                }
                (present, false) => {
                    let error = format!(
                        "return Err(crate::encode::not_in_version(version, {}));",
                        self.field_id(field)
                    );
                    let set = is_set(field)?;
                    let _ = if write.is_empty() {
                        let absent = negate(present);
                        writeln!(body, "if {absent} && {set} {{ {error} }}")
                    } else {
                        writeln!(body, "if {present} {{ {write} }} else if {set} {{ {error} }}")
                    };
                }
            }
        }
        let tags = self.write_tags()?;
        match flexible.as_str() {
            "false" => {}
            "true" => body.push_str(&tags),
            condition => {
                let _ = writeln!(body, "if {condition} {{ {tags} }}");
            }
        }
        body.push_str("Ok(())");
        let e = if has_word(&body, "e") { "e" } else { "_e" };
        let version = if has_word(&body, "version") { "version" } else { "_version" };
        let elided = if self.lifetime().is_empty() { "" } else { "<'_>" };
        Ok(format!(
            "impl Encode for {name}{elided} {{\n\
             fn encode(&self, {e}: &mut Encoder, {version}: i16) -> Result<(), EncodeError> {{ {body} }}\n}}\n\n"
        ))
    }

    fn write_tags(&self) -> Result<String, String> {
        let tagged = self.tagged();
        if tagged.is_empty() {
            return Ok("e.begin_tags();\n".to_owned());
        }
        let mut out = String::from("let tags = e.begin_tags();\n");
        let flexible_within = Versions {
            min: self.within.min.max(self.message.flexible_from.unwrap_or(i16::MAX)),
            max: self.within.max,
        };
        for (tag, field) in tagged {
            let set = is_set(field)?;
            let when = match condition(Some(field.versions), flexible_within).as_str() {
                "true" => set,
                present => format!("{present} && {set}"),
            };
            let write = self.write_field(field, "true");
            let id = self.field_id(field);
            let _ = writeln!(
                out,
                "if {when} {{ e.tagged(tags, {tag}, {id}, |e| {{ {write} Ok(()) }})?; }}"
            );
        }
        Ok(out)
    }

    /// Statements that write the field where it is present.
    fn write_field(&self, field: &Field, flexible: &str) -> String {
        let id = self.field_id(field);
        let value = format!("self.{}", field.name);
        if !is_option(field) {
            return match &field.ty {
                Type::String | Type::Bytes => {
                    self.write(&field.ty, flexible, &id, &format!("&{value}"))
                }
                _ => self.write(&field.ty, flexible, &id, &value),
            } + ";\n";
        }
        let nullable = self.nullable(field);
        (match &field.ty {
            Type::String => {
                format!("e.opt_string({flexible}, {nullable}, {value}.as_deref(), {id})?")
            }
            Type::Bytes => {
                format!("e.opt_bytes({flexible}, {nullable}, {value}.as_deref(), {id})?")
            }
            Type::Records => {
                format!("e.opt_records({flexible}, {nullable}, {value}.as_ref(), {id})?")
            }
            Type::Struct(_) => format!(
                "e.opt_struct({nullable}, {value}.as_ref(), {id}, |e, x| x.encode(e, version))?"
            ),
            Type::Array(element) => {
                let write = self.write_element(element, flexible, &id);
                format!("e.opt_array({flexible}, {nullable}, {value}.as_deref(), {id}, {write})?")
            }
            Type::Fixed(..) | Type::Uuid => unreachable!("a nullable {} has no form", field.name),
        }) + ";\n"
    }

    fn write(&self, ty: &Type, flexible: &str, id: &str, value: &str) -> String {
        match ty {
            Type::Fixed(name, _) => format!("e.{name}({value})"),
            Type::Uuid => format!("e.uuid({value})"),
            Type::String => format!("e.string({flexible}, {value}, {id})?"),
            Type::Bytes => format!("e.bytes({flexible}, {value}, {id})?"),
            Type::Struct(_) => format!("{value}.encode(e, version)?"),
            Type::Array(element) => {
                let write = self.write_element(element, flexible, id);
                format!("e.array({flexible}, &{value}, {id}, {write})?")
            }
            Type::Records => unreachable!("records are an Option"),
        }
    }

    fn write_element(&self, element: &Type, flexible: &str, id: &str) -> String {
        match element {
            Type::Fixed(..) | Type::Uuid => {
                format!("|e, x| {{ {}; Ok(()) }}", self.write(element, flexible, id, "*x"))
            }
            _ => {
                let write = self.write(element, flexible, id, "x");
                format!("|e, x| {}", write.trim_end_matches('?'))
            }
        }
    }
}

/// A condition for "the field differs from its default".
fn is_set(field: &Field) -> Result<String, String> {
    let value = format!("self.{}", field.name);
    let default = default_value(field)?;
    if default == "None" {
        return Ok(format!("{value}.is_some()"));
    }
    Ok(match (&field.ty, is_option(field)) {
        (Type::String, true) => format!("{value}.as_deref() != Some(\"\")"),
        (Type::Bytes, true) => format!("{value}.as_deref() != Some(&[])"),
        (Type::Array(_), true) => format!("{value}.as_ref().is_none_or(|x| !x.is_empty())"),
        (Type::Struct(_), true) => format!("{value} != {default}"),
        (Type::String | Type::Bytes | Type::Array(_), false) => format!("!{value}.is_empty()"),
        (Type::Uuid, _) => format!("!{value}.is_zero()"),
        (Type::Fixed("bool", _), _) if default == "false" => value,
        (Type::Fixed("bool", _), _) => format!("!{value}"),
        _ => format!("{value} != {default}"),
    })
}

/// The opposite of what [`condition`] gives.
fn negate(condition: &str) -> String {
    if let Some(from) = condition.strip_prefix("version >= ") {
        format!("version < {from}")
    } else if let Some(to) = condition.strip_prefix("version <= ") {
        format!("version > {to}")
    } else if let Some(only) = condition.strip_prefix("version == ") {
        format!("version != {only}")
    } else {
        format!("!{condition}")
    }
}
