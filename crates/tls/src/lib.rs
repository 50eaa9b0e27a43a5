//! TLS between a [`Stream`](ottla_runtime::net::Stream) and who uses it.
//!
//! Owns: [`TlsStream`], a stream over another one; [`Client`], who connects with what Kafka's keys say;
//! and the words for what goes wrong ([`Refusal`]). It is the one crate that knows rustls. Must not
//! know: where keys and certificates come from (`security` reads them, the caller brings them), names
//! of configuration keys, what is said on a connection.
//!
//! It is a crate of its own because the stream needs the sockets of `runtime` and the TLS library
//! below it, which the pure `security` is kept clear of, and because brokers' listeners and clients are
//! to use it as well as the provider on ZooKeeper, which stands below those.

mod client;
mod names;
mod refusal;
mod stream;
mod verifier;

pub use client::{Client, ClientSettings, SettingsError};
pub use names::{Protocol, cipher_suites};
pub use refusal::Refusal;
pub use stream::TlsStream;
