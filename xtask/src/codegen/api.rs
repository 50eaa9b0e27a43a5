//! Emits what spans messages: the module, the api keys and the table of messages.

use std::fmt::Write;

use super::schema::{Kind, Message, snake_case};
use super::stem;

/// `messages/mod.rs`.
pub(super) fn module(messages: &[Message]) -> String {
    let mut out = String::from(
        "//! The messages, one module each; the messages themselves are also here.\n\n\
         mod api_key;\nmod table;\n\npub use api_key::ApiKey;\npub use table::MESSAGES;\n\n",
    );
    for message in messages {
        let _ = writeln!(out, "pub mod {};", snake_case(&message.name));
    }
    out.push('\n');
    for message in messages {
        let _ = writeln!(out, "pub use {}::{};", snake_case(&message.name), message.name);
    }
    out
}

/// `messages/table.rs`.
pub(super) fn table(messages: &[Message]) -> String {
    let mut out = String::from(
        "use crate::messages::*;\nuse crate::{Coordinator, Decode, MessageInfo, MessageKind, VersionRange};\n\n\
         /// Every message, in the order of names.\npub const MESSAGES: &[MessageInfo] = &[\n",
    );
    for message in messages {
        let name = &message.name;
        let record = |kind: &str| {
            let (coordinator, key) = (message.coordinator?, message.key?);
            Some(format!("{kind}(Coordinator::{coordinator}, {key})"))
        };
        let kind = match message.kind {
            Kind::Request => Some(format!("Request(ApiKey::{})", stem(name))),
            Kind::Response => Some(format!("Response(ApiKey::{})", stem(name))),
            Kind::RecordKey => record("RecordKey"),
            Kind::RecordValue => record("RecordValue"),
            Kind::MetadataRecord => message.key.map(|key| format!("MetadataRecord({key})")),
            Kind::Data => None,
        };
        let kind = kind.unwrap_or_else(|| "Data".to_owned());
        let _ = writeln!(
            out,
            "MessageInfo {{ name: \"{name}\", kind: MessageKind::{kind}, \
             versions: VersionRange {{ min: {}, max: {} }}, flexible_from: {:?}, \
             decode: |d, version| Ok(Box::new({name}::decode(d, version)?)) }},",
            message.versions.min, message.versions.max, message.flexible_from,
        );
    }
    out + "];\n"
}

/// `messages/api_key.rs`.
pub(super) fn api_key(messages: &[Message]) -> String {
    let mut apis: Vec<(i16, &Message)> = (messages.iter())
        .filter(|message| message.kind == Kind::Request)
        .filter_map(|message| Some((message.key?, message)))
        .collect();
    apis.sort_by_key(|(key, _)| *key);
    let arms = |arm: &dyn Fn(i16, &str, &Message) -> String| -> String {
        apis.iter().map(|(key, message)| arm(*key, stem(&message.name), message)).collect()
    };
    format!(
        "use crate::VersionRange;\n\n\
         /// The apis: what a request header's api key can be.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         #[repr(i16)]\n\
         pub enum ApiKey {{ {variants} }}\n\n\
         impl ApiKey {{\n\
         /// Every api in the order of keys.\n\
         pub const ALL: &[Self] = &[{all}];\n\n\
         /// The api of this key.\n\
         #[must_use]\n\
         pub fn from_i16(key: i16) -> Option<Self> {{\n\
         Some(match key {{ {from} _ => return None }})\n\
         }}\n\n\
         /// Kafka's name of the api, as in its metrics.\n\
         #[must_use]\n\
         pub fn name(self) -> &'static str {{ match self {{ {name} }} }}\n\n\
         /// The versions that this crate reads and writes. A broker may advertise fewer.\n\
         #[must_use]\n\
         pub fn valid_versions(self) -> VersionRange {{\n\
         let (min, max) = match self {{ {versions} }};\n\
         VersionRange {{ min, max }}\n\
         }}\n\n\
         /// The first version with compact lengths and tagged fields.\n\
         #[must_use]\n\
         pub fn first_flexible(self) -> Option<i16> {{ match self {{ {flexible} }} }}\n\n\
         {HEADER_VERSIONS}\
         }}\n\n\
         impl From<ApiKey> for i16 {{\n\
         fn from(api_key: ApiKey) -> Self {{ api_key as Self }}\n\
         }}\n",
        variants = arms(&|key, api, _| format!("/// {api}.\n{api} = {key},")),
        all = arms(&|_, api, _| format!("Self::{api},")),
        from = arms(&|key, api, _| format!("{key} => Self::{api},")),
        name = arms(&|_, api, _| format!("Self::{api} => \"{api}\",")),
        versions = arms(&|_, api, m| {
            format!("Self::{api} => ({}, {}),", m.versions.min, m.versions.max)
        }),
        flexible = arms(&|_, api, m| format!("Self::{api} => {:?},", m.flexible_from)),
    )
}

/// The rules of header versions, which no schema states.
const HEADER_VERSIONS: &str = "\
    fn is_flexible(self, version: i16) -> bool {
        self.first_flexible().is_some_and(|first| version >= first)
    }

    /// The request header's version for a body of this version, supported or not.
    #[must_use]
    pub fn request_header_version(self, version: i16) -> i16 {
        match self {
            // The one request whose header once had no client id.
            Self::ControlledShutdown if version == 0 => 0,
            _ if self.is_flexible(version) => 2,
            _ => 1,
        }
    }

    /// The response header's version for a body of this version, supported or not.
    #[must_use]
    pub fn response_header_version(self, version: i16) -> i16 {
        match self {
            // A client reads this response before it knows what the broker speaks (KIP-511).
            Self::ApiVersions => 0,
            _ => i16::from(self.is_flexible(version)),
        }
    }
";
