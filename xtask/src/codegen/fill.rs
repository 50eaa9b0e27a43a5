//! Emits the tests' values: for every struct an `impl Fill`, which gives each field that a version
//! has a value and leaves the others at their defaults, and the list of all messages.

use std::fmt::Write;

use super::rust::{condition, default_value, is_option};
use super::schema::{Message, snake_case};

/// `tests/it/fill.rs`.
pub(super) fn file(messages: &[Message]) -> Result<String, String> {
    let mut out = String::from(
        "use ottla_protocol::messages::*;\n\nuse crate::values::{Case, Fill};\n\n\
         /// Every message, in the order of names.\npub(crate) const CASES: &[Case] = &[\n",
    );
    for message in messages {
        let name = &message.name;
        let _ = writeln!(
            out,
            "Case {{ name: \"{name}\", fill: |values, version| Box::new({name}::fill(values, version)), \
             default: || Box::new({name}::default()) }},"
        );
    }
    out.push_str("];\n\n");
    for message in messages {
        let module = snake_case(&message.name);
        let _ = writeln!(out, "mod {module} {{\n{}}}\n", self::module(message)?);
    }
    Ok(out)
}

fn module(message: &Message) -> Result<String, String> {
    let mut impls = String::new();
    for s in &message.structs {
        let within = s.versions.ok_or("unused struct")?;
        let mut fields = String::new();
        for field in &s.fields {
            let present = field.versions.intersect(within).unwrap_or(within);
            let value = if is_option(field) {
                format!("values.option({}, version)", condition(field.nullable, present))
            } else {
                "values.next(version)".to_owned()
            };
            let _ = match condition(Some(field.versions), within).as_str() {
                "true" => writeln!(fields, "{}: {value},", field.name),
                present => writeln!(
                    fields,
                    "{}: if {present} {{ {value} }} else {{ {} }},",
                    field.name,
                    default_value(field)?
                ),
            };
        }
        let fixed = super::rust::lifetime(message, s).replace("'a", "'static");
        let (values, version) =
            if s.fields.is_empty() { ("_values", "_version") } else { ("values", "version") };
        let _ = write!(
            impls,
            "impl Fill for {}{fixed} {{\n\
             fn fill({values}: &mut Values, {version}: i16) -> Self {{ Self {{ {fields} }} }}\n}}\n\n",
            s.name
        );
    }
    let mut out = String::new();
    for (path, needle) in [("std::borrow::Cow", "Cow::"), ("ottla_record::Uuid", "Uuid::")] {
        if impls.contains(needle) {
            let _ = writeln!(out, "use {path};");
        }
    }
    let _ = writeln!(out, "use ottla_protocol::messages::{}::*;\n", snake_case(&message.name));
    let _ = writeln!(out, "use crate::values::{{Fill, Values}};\n");
    Ok(out + &impls)
}
