//! A value of a key: Java's spelling in and out, and the Rust type of the field that holds it.

use std::fmt;

use crate::Type;

/// A parsed value. Its text form is what `ConfigDef.convertToString` of Kafka prints.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A 32-bit number.
    Int(i32),
    /// A 16-bit number.
    Short(i16),
    /// A 64-bit number.
    Long(i64),
    /// A finite floating point number.
    Double(f64),
    /// Text: also a class name, or one of a set of words.
    Text(String),
    /// A comma separated list.
    List(Vec<String>),
    /// A secret, which is never printed.
    Password(Password),
}

impl Value {
    /// Reads `text` as Kafka does: trimmed, booleans in any case, Java's decimal numbers, lists
    /// split at commas. The error is the reason alone, in Kafka's words.
    pub fn parse(ty: Type, text: &str) -> Result<Self, String> {
        let text = text.trim();
        let not_a_number = |ty| format!("Not a number of type {ty}");
        Ok(match ty {
            Type::Boolean if text.eq_ignore_ascii_case("true") => Self::Bool(true),
            Type::Boolean if text.eq_ignore_ascii_case("false") => Self::Bool(false),
            Type::Boolean => return Err("Expected value to be either true or false".into()),
            Type::Int => Self::Int(text.parse().map_err(|_| not_a_number(ty))?),
            Type::Short => Self::Short(text.parse().map_err(|_| not_a_number(ty))?),
            Type::Long => Self::Long(text.parse().map_err(|_| not_a_number(ty))?),
            Type::Double => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Self::Double(number),
                _ => return Err(not_a_number(ty)),
            },
            Type::String | Type::Class => Self::Text(text.into()),
            Type::List => Self::List(split_list(text)),
            Type::Password => Self::Password(Password(text.into())),
        })
    }

    /// The number as a double, as Kafka's range checks see it.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) => Some(f64::from(*number)),
            Self::Short(number) => Some(f64::from(*number)),
            Self::Long(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// The whole number, if it is one.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(i64::from(*number)),
            Self::Short(number) => Some(i64::from(*number)),
            Self::Long(number) => Some(*number),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Short(value) => write!(f, "{value}"),
            Self::Long(value) => write!(f, "{value}"),
            Self::Double(value) => write_java_double(f, *value),
            Self::Text(value) => f.write_str(value),
            Self::List(items) => f.write_str(&items.join(",")),
            Self::Password(value) => write!(f, "{value}"),
        }
    }
}

/// `Double.toString` of Java: plain between 10⁻³ and 10⁷, `1.0E10` outside.
fn write_java_double(f: &mut fmt::Formatter<'_>, value: f64) -> fmt::Result {
    let size = value.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return write!(f, "{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => {
            write!(f, "{mantissa}.0E{exponent}")
        }
        _ => f.write_str(&text),
    }
}

/// Splits a LIST as Kafka's `ConfigDef` does: empty text is the empty list, items are trimmed,
/// empty items stay (`"a,,b,"` has four).
pub fn split_list(text: &str) -> Vec<String> {
    let text = text.trim();
    if text.is_empty() {
        return Vec::new();
    }
    text.split(',').map(|item| item.trim().to_string()).collect()
}

/// A secret. Prints as `[hidden]`; [`Password::reveal`] is the only way to the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A type that a field of a [`keys!`](crate::keys) struct can have.
pub trait FieldValue: Sized {
    /// The type of the key, as `DescribeConfigs` names it.
    const TYPE: Type;
    /// The words that a STRING, or each item of a LIST, must be one of; empty: anything.
    const WORDS: &'static [&'static str] = &[];

    /// The field of a checked value of type `TYPE`; `None` if it is of another type or word.
    fn from_value(value: Value) -> Option<Self>;

    /// The field of a key that is not set and has no default; `None` if it must be set.
    fn absent() -> Option<Self> {
        None
    }
}

/// Declares that `$field` is read from values of one variant.
macro_rules! field_value {
    ($($field:ty = $variant:ident of $ty:ident;)+) => {$(
        impl FieldValue for $field {
            const TYPE: Type = Type::$ty;

            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$variant(value) => Some(value),
                    _ => None,
                }
            }
        }
    )+};
}

field_value! {
    bool = Bool of Boolean;
    i32 = Int of Int;
    i16 = Short of Short;
    i64 = Long of Long;
    f64 = Double of Double;
    String = Text of String;
    Vec<String> = List of List;
    Password = Password of Password;
}

impl<T: FieldValue> FieldValue for Option<T> {
    const TYPE: Type = T::TYPE;
    const WORDS: &'static [&'static str] = T::WORDS;

    fn from_value(value: Value) -> Option<Self> {
        T::from_value(value).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_and_printed_as_java_does() {
        let cases = [
            (Type::Boolean, " TRUE ", Some("true")),
            (Type::Boolean, "yes", None),
            (Type::Int, " +7 ", Some("7")),
            (Type::Int, "2147483648", None),
            (Type::Int, "1_000", None),
            (Type::Short, "-1", Some("-1")),
            (Type::Short, "32768", None),
            (Type::Long, "9223372036854775807", Some("9223372036854775807")),
            (Type::Long, "1.5", None),
            (Type::Double, ".5", Some("0.5")),
            (Type::Double, "1", Some("1.0")),
            (Type::Double, "12345678", Some("1.2345678E7")),
            (Type::Double, "1e10", Some("1.0E10")),
            (Type::Double, "0.0001", Some("1.0E-4")),
            (Type::Double, "0", Some("0.0")),
            (Type::Double, "1.7976931348623157E308", Some("1.7976931348623157E308")),
            (Type::Double, "NaN", None),
            (Type::String, "  a b ", Some("a b")),
            (Type::List, "", Some("")),
            (Type::List, " a , b,,c ", Some("a,b,,c")),
            (Type::Password, "secret", Some("[hidden]")),
        ];
        for (ty, text, printed) in cases {
            let value = Value::parse(ty, text).ok().map(|value| value.to_string());
            assert_eq!(value.as_deref(), printed, "{ty} {text:?}");
        }
    }

    #[test]
    fn a_list_keeps_its_empty_items() {
        assert_eq!(split_list("  "), Vec::<String>::new());
        assert_eq!(split_list("a,,b,"), ["a", "", "b", ""]);
    }

    #[test]
    fn a_password_is_never_printed_by_accident() {
        let value = Value::parse(Type::Password, "s3cret").unwrap();
        assert!(!format!("{value} {value:?}").contains("s3cret"));
        assert_eq!(Password::from_value(value).unwrap().reveal(), "s3cret");
    }
}
