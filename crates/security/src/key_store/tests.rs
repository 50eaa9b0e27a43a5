//! Stores that `keytool` and OpenSSL made (`tests/data/make.sh`).

use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::certificate::common_name_for_host;

const PASSWORD: Option<&str> = Some("secret1");

macro_rules! data {
    ($name:literal) => {
        &include_bytes!(concat!("../../tests/data/", $name))[..]
    };
}

/// The key and the certificates of the client, as text without a password has them.
fn client() -> Identity {
    identity(data!("client.pem"), None, None).unwrap()
}

fn error(result: Result<Identity, StoreError>) -> StoreError {
    result.map(drop).unwrap_err()
}

#[test]
fn a_key_is_the_same_in_all_forms() {
    let expected = client();
    assert_eq!(expected.chain.len(), 2);
    for (name, store) in [
        ("client.p12", data!("client.p12")),
        ("client-legacy.p12", data!("client-legacy.p12")),
        ("client-openssl.p12", data!("client-openssl.p12")),
        ("client.jks", data!("client.jks")),
    ] {
        for kind in [None, Some(StoreType::Java)] {
            let found = identity(store, PASSWORD, kind).expect(name);
            assert_eq!(found.chain, expected.chain, "{name}");
            assert_eq!(private(&found), private(&expected), "{name}");
        }
        let wrong = error(identity(store, Some("secret2"), None));
        assert_eq!(wrong, StoreError::WrongPassword, "{name}");
        let none = error(identity(store, None, None));
        assert_eq!(none, StoreError::NoPassword, "{name}");
        let other = error(identity(store, PASSWORD, Some(StoreType::Pem)));
        assert_eq!(other, StoreError::OtherType, "{name}");
    }
}

/// The number that is the private key; what stands around it differs.
fn private(identity: &Identity) -> Vec<u8> {
    let PrivateKeyDer::Pkcs8(key) = &identity.key else { panic!("it is PKCS#8") };
    let key = key.secret_pkcs8_der();
    // SEQUENCE of 1, then 32 bytes: RFC 5915.
    let at = key.windows(5).position(|window| window == [2, 1, 1, 4, 32]).unwrap();
    key[at + 5..at + 37].to_vec()
}

#[test]
fn text_may_be_encrypted_or_of_another_kind() {
    let encrypted = data!("client-encrypted.pem");
    assert_eq!(
        private(&identity(encrypted, PASSWORD, Some(StoreType::Pem)).unwrap()),
        private(&client())
    );
    assert_eq!(error(identity(encrypted, Some("secret2"), None)), StoreError::WrongPassword);
    assert_eq!(error(identity(encrypted, None, None)), StoreError::NoPassword);
    assert_eq!(error(identity(encrypted, PASSWORD, Some(StoreType::Java))), StoreError::OtherType);
    let sec1 = identity(data!("client-sec1.pem"), None, None).unwrap();
    assert!(matches!(sec1.key, PrivateKeyDer::Sec1(_)));
    assert_eq!(sec1.chain[0], client().chain[0]);
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert!(matches!(error(identity(old.as_bytes(), PASSWORD, None)), StoreError::Unsupported(_)));
}

#[test]
fn trusted_are_those_that_are_marked() {
    let expected = client().chain[1].clone();
    for store in [data!("trust.pem"), data!("trust.p12"), data!("trust.jks")] {
        assert_eq!(trusted(store, PASSWORD, None), Ok(vec![expected.clone()]));
    }
    // The hash of a JKS can be left unchecked; PKCS#12 is encrypted.
    assert_eq!(trusted(data!("trust.jks"), None, None), Ok(vec![expected]));
    assert_eq!(trusted(data!("trust.p12"), None, None), Err(StoreError::NoPassword));
    assert_eq!(trusted(data!("trust.jks"), Some("secret2"), None), Err(StoreError::WrongPassword));
    for store in [data!("client.p12"), data!("client.jks"), data!("client-openssl.p12")] {
        assert_eq!(trusted(store, PASSWORD, None), Err(StoreError::NothingTrusted));
    }
}

#[test]
fn a_key_store_has_one_key() {
    let StoreError::ManyKeys(mut names) = error(identity(data!("two-keys.p12"), PASSWORD, None))
    else {
        panic!("it has two")
    };
    names.sort_unstable();
    assert_eq!(names, ["client", "other"]);
    for store in [data!("trust.p12"), data!("trust.jks"), data!("trust.pem")] {
        assert_eq!(error(identity(store, PASSWORD, None)), StoreError::NoKey);
    }
}

#[test]
fn a_common_name_counts_without_alternative_names_alone() {
    let name = |store| common_name_for_host(&identity(store, PASSWORD, None).unwrap().chain[0]);
    assert_eq!(name(data!("old-server.p12")).as_deref(), Some("zk1.example.org"));
    assert_eq!(name(data!("server.p12")), None);
    assert_eq!(common_name_for_host(b"no certificate"), None);
}

#[test]
fn damage_is_an_error() {
    // Opening what is encrypted takes its time: of those, not each byte is tried.
    for (store, step) in
        [(data!("client.jks"), 1), (data!("client.p12"), 101), (data!("client-encrypted.pem"), 101)]
    {
        for length in 0..store.len() - 1 {
            assert!(identity(&store[..length], PASSWORD, None).is_err(), "cut at {length}");
        }
        for at in (0..store.len()).step_by(step) {
            let mut store = store.to_vec();
            store[at] ^= 0x41;
            // What no hash covers may change without notice; nothing may panic.
            let _ = identity(&store, PASSWORD, None);
        }
    }
    assert_eq!(error(identity(b"", PASSWORD, None)), StoreError::Malformed);
    assert_eq!(error(identity(b"\x30\x03\x02\x01\x02", PASSWORD, None)), StoreError::Malformed);
    let jceks = error(identity(b"\xce\xce\xce\xce\0\0\0\x02", PASSWORD, None)).to_string();
    assert!(jceks.contains("keytool -importkeystore"), "{jceks}");
}
