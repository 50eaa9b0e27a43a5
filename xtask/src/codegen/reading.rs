//! Emits `Decode` of one struct.

use std::fmt::Write;

use super::rust::{Emitter, condition, default_value, has_word, is_option};
use super::schema::{Field, Message, Type, Versions};

impl Emitter<'_> {
    pub(super) fn decode(&self) -> Result<String, String> {
        let mut body = String::new();
        let name = &self.s.name;
        if self.is_top() {
            body.push_str("crate::decode::check_version::<Self>(version)?;\n");
        }
        let flexible = self.declare_flexible(&mut body);
        for field in &self.s.fields {
            let local = local(field);
            let default = default_value(field)?;
            if field.tag.is_some() {
                let _ = writeln!(body, "let mut {local} = {default};");
                continue;
            }
            let read = self.read_field(field, &flexible);
            let _ = match condition(Some(field.versions), self.within).as_str() {
                "true" => writeln!(body, "let {local} = {read}?;"),
                present => {
                    writeln!(body, "let {local} = if {present} {{ {read}? }} else {{ {default} }};")
                }
            };
        }
        let tags = self.read_tags();
        match flexible.as_str() {
            "false" => {}
            "true" => body.push_str(&tags),
            condition => {
                let _ = writeln!(body, "if {condition} {{ {tags} }}");
            }
        }
        let inits: String = (self.s.fields.iter())
            .map(|field| match local(field) {
                local if local == field.name => format!("{local},"),
                local => format!("{}: {local},", field.name),
            })
            .collect();
        let _ = write!(body, "Ok(Self {{ {inits} }})");
        let d = if has_word(&body, "d") { "d" } else { "_d" };
        let version = if has_word(&body, "version") { "version" } else { "_version" };
        Ok(format!(
            "impl<'a> Decode<'a> for {name}{} {{\n\
             fn decode({d}: &mut Decoder<'a>, {version}: i16) -> Result<Self, DecodeError> {{ {body} }}\n}}\n\n",
            self.lifetime()
        ))
    }

    fn read_tags(&self) -> String {
        let id = &self.s.name;
        let tagged = self.tagged();
        if tagged.is_empty() {
            return format!("d.skip_tags(\"{id}\")?;\n");
        }
        let mut arms = String::new();
        let flexible_within = Versions {
            min: self.within.min.max(self.message.flexible_from.unwrap_or(i16::MAX)),
            max: self.within.max,
        };
        for (tag, field) in tagged {
            let guard = match condition(Some(field.versions), flexible_within).as_str() {
                "true" => String::new(),
                present => format!(" if {present}"),
            };
            let read = self.read_field(field, "true");
            let _ = writeln!(arms, "{tag}{guard} => {} = {read}?,", local(field));
        }
        format!(
            "d.tags(\"{id}\", |d, tag| {{\nmatch tag {{ {arms} _ => return Ok(false), }}\nOk(true)\n}})?;\n"
        )
    }

    /// An expression of `Result` that reads the field where it is present.
    fn read_field(&self, field: &Field, flexible: &str) -> String {
        let id = self.field_id(field);
        if !is_option(field) {
            return self.read(field, &field.ty, flexible, &id);
        }
        let nullable = self.nullable(field);
        match &field.ty {
            Type::String => format!("d.opt_string({flexible}, {nullable}, {id})"),
            Type::Bytes => format!("d.opt_bytes({flexible}, {nullable}, {id})"),
            Type::Records => format!("d.opt_records({flexible}, {nullable}, {id})"),
            Type::Struct(name) => {
                format!("d.opt_struct({nullable}, {id}, |d| {name}::decode(d, version))")
            }
            Type::Array(element) => {
                let min_size = self.min_size_of(field, element);
                let read = self.read(field, element, flexible, &id);
                format!("d.opt_array({flexible}, {nullable}, {min_size}, {id}, |d| {read})")
            }
            Type::Fixed(..) | Type::Uuid => unreachable!("a nullable {} has no form", field.name),
        }
    }

    fn read(&self, field: &Field, ty: &Type, flexible: &str, id: &str) -> String {
        match ty {
            Type::Fixed(name, _) => format!("d.{name}({id})"),
            Type::Uuid => format!("d.uuid({id})"),
            Type::String => format!("d.string({flexible}, {id})"),
            Type::Bytes => format!("d.bytes({flexible}, {id})"),
            Type::Struct(name) => format!("{name}::decode(d, version)"),
            Type::Array(element) => {
                let min_size = self.min_size_of(field, element);
                let read = self.read(field, element, flexible, id);
                format!("d.array({flexible}, {min_size}, {id}, |d| {read})")
            }
            Type::Records => unreachable!("records are an Option"),
        }
    }

    /// The least bytes that an element of the field takes on the wire in any of its versions:
    /// never 0, or a count alone could make a decoder work.
    fn min_size_of(&self, field: &Field, element: &Type) -> usize {
        let present = field.versions.intersect(self.within).unwrap_or(self.within);
        let sizes =
            (present.min..=present.max).map(|version| min_size(self.message, element, version));
        sizes.min().filter(|size| *size > 0).expect("an element takes at least a byte")
    }
}

/// The name of the field's variable in `decode`, where some names are taken.
fn local(field: &Field) -> String {
    match field.name.as_str() {
        name @ ("d" | "tag" | "version" | "flexible") => format!("{name}_field"),
        name => name.to_owned(),
    }
}

fn min_size(message: &Message, ty: &Type, version: i16) -> usize {
    let flexible = message.flexible_from.is_some_and(|from| version >= from);
    match ty {
        Type::Fixed(_, size) => *size,
        Type::Uuid => 16,
        Type::String => {
            if flexible {
                1
            } else {
                2
            }
        }
        Type::Bytes | Type::Records | Type::Array(_) => {
            if flexible {
                1
            } else {
                4
            }
        }
        Type::Struct(name) => {
            let fields = message.find(name).fields.iter();
            let sizes =
                fields.filter(|f| f.tag.is_none() && f.versions.contains(version)).map(|f| match f
                    .ty
                {
                    Type::Struct(_) if is_option(f) => 1,
                    _ => min_size(message, &f.ty, version),
                });
            sizes.sum::<usize>() + usize::from(flexible)
        }
    }
}
