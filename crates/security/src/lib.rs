//! What says who somebody is: so far, the keys and certificates of TLS.
//!
//! Owns: reading the key stores and trust stores that Kafka's configurations name ([`key_store`]), and
//! the little that is read of a certificate beside what the TLS library reads ([`certificate`]). Must
//! not know: files, sockets, the TLS library. It gets bytes and gives bytes, so it is pure, and stands
//! below all who connect; the connections themselves are of the crate `tls`.

pub mod certificate;
mod der;
pub mod key_store;

pub use key_store::{Identity, StoreError, StoreType};
