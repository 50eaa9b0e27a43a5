//! Whom a client believes, and what it says of whom it does not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_fake::RunningClock;
use ottla_runtime::net::{read_exact, write_all};
use ottla_security::key_store::{identity, trusted};
use ottla_tls::{Client, ClientSettings, Protocol, Refusal, SettingsError};

use super::{
    HOST, NOW_MS, PASSWORD, client, client_at, connected, data, serve, server, settings, simulate,
};

const BOTH: [Protocol; 2] = [Protocol::Tls12, Protocol::Tls13];
const YEAR_MS: i64 = 365 * 24 * 3600 * 1000;

/// Lets a client read what a server writes first, each with its own terms.
fn met(
    client: Client,
    host: &str,
    store: &[u8],
    wants_certificate: bool,
    protocols: &[Protocol],
) -> Result<(), Refusal> {
    simulate(async {
        let (client_below, server_below) = connected().await;
        let config = server(store, wants_certificate, protocols);
        let reading = async {
            let stream = client.connect(client_below, host).await?;
            // In TLS 1.3 a server looks at our certificate when we are done.
            read_exact(&stream, &mut [0; 5]).await
        };
        let writing = async {
            let stream = serve(&config, server_below).await?;
            write_all(&stream, b"hello").await?;
            Ok::<_, io::Error>(stream)
        };
        let (read, _written) = tokio::join!(reading, writing);
        read.map_err(|error| Refusal::of(&error).cloned().unwrap_or_else(|| panic!("{error}")))
    })
}

fn plain(client: Client, host: &str, store: &[u8]) -> Result<(), Refusal> {
    let results = BOTH.map(|protocol| met(client.clone(), host, store, false, &[protocol]));
    let [first, second] = results;
    assert_eq!(first, second);
    first
}

fn trusting(store: &[u8]) -> Client {
    client(ClientSettings { trusted: trusted(store, None, None).unwrap(), ..settings() })
}

#[test]
fn a_server_is_the_host_of_its_certificate() {
    let one = data!("server.p12");
    for host in ["zk1.example.org", "ZK1.example.org", "10.0.0.1"] {
        assert_eq!(plain(client(settings()), host, one), Ok(()), "{host}");
    }
    for host in ["zk2.example.org", "10.0.0.2", "[::1]", "server"] {
        let Err(Refusal::OtherHost { presented }) = plain(client(settings()), host, one) else {
            panic!("{host}")
        };
        assert_eq!(presented, ["zk1.example.org", "10.0.0.1", "127.0.0.1"]);
        let anyone = ClientSettings { checks_host: false, ..settings() };
        assert_eq!(plain(client(anyone), host, one), Ok(()), "{host}");
    }
    assert_eq!(plain(client(settings()), "no host", one), Err(Refusal::NoName));
}

#[test]
fn a_common_name_does_where_there_is_no_other() {
    let old = data!("old-server.p12");
    assert_eq!(plain(client(settings()), HOST, old), Ok(()));
    let other = plain(client(settings()), "zk2.example.org", old);
    assert_eq!(other, Err(Refusal::OtherHost { presented: Vec::new() }));
}

#[test]
fn a_server_is_trusted_by_its_issuer_or_itself() {
    let own = data!("self-signed.pem");
    assert_eq!(plain(trusting(own), HOST, own), Ok(()));
    assert!(matches!(plain(trusting(own), "zk2.example.org", own), Err(Refusal::OtherHost { .. })));
    let stranger = plain(client(settings()), HOST, own);
    assert!(matches!(stranger, Err(Refusal::Certificate(_))), "{stranger:?}");
    assert_eq!(plain(trusting(own), HOST, data!("server.p12")), Err(Refusal::Untrusted));
    // Not even without a look at the name.
    let anyone = ClientSettings { checks_host: false, ..settings() };
    assert!(matches!(plain(client(anyone), HOST, own), Err(Refusal::Certificate(_))));
}

#[test]
fn a_certificate_has_its_time() {
    for (store, settings) in [
        (data!("server.p12"), settings as fn() -> ClientSettings),
        (data!("self-signed.pem"), || ClientSettings {
            trusted: trusted(data!("self-signed.pem"), None, None).unwrap(),
            ..settings()
        }),
    ] {
        let late = plain(client_at(settings(), NOW_MS + 100 * YEAR_MS), HOST, store);
        assert!(
            matches!(late, Err(Refusal::OutOfTime { is_over: true, days: 1_000.. })),
            "{late:?}"
        );
        let early = plain(client_at(settings(), NOW_MS - 10 * YEAR_MS), HOST, store);
        assert!(
            matches!(early, Err(Refusal::OutOfTime { is_over: false, days: 300.. })),
            "{early:?}"
        );
    }
}

#[test]
fn a_server_that_wants_a_certificate_gets_ours() {
    let with = |store| {
        let identity = Some(identity(store, PASSWORD, None).unwrap());
        client(ClientSettings { identity, ..settings() })
    };
    for protocol in BOTH {
        let met = |client| met(client, HOST, data!("server.p12"), true, &[protocol]);
        assert_eq!(met(with(data!("client.jks"))), Ok(()));
        assert!(with(data!("client.pem")).has_identity());
        let none = met(client(settings()));
        assert!(matches!(none, Err(Refusal::OurCertificate(_))), "{none:?}");
        let foreign = met(with(data!("self-signed.pem")));
        assert!(matches!(foreign, Err(Refusal::OurCertificate(_))), "{foreign:?}");
    }
}

#[test]
fn both_need_something_in_common() {
    let of = |protocols: &[Protocol]| {
        client(ClientSettings { protocols: protocols.to_vec(), ..settings() })
    };
    let store = data!("server.p12");
    for protocol in BOTH {
        assert_eq!(met(of(&[protocol]), HOST, store, false, &BOTH), Ok(()));
    }
    for (ours, its) in [(BOTH[0], BOTH[1]), (BOTH[1], BOTH[0])] {
        let refusal = met(of(&[ours]), HOST, store, false, &[its]);
        assert!(matches!(refusal, Err(Refusal::NothingInCommon(_))), "{refusal:?}");
    }
    let choose = |names: &[&str]| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let settings = ClientSettings { cipher_suites: Some(names), ..settings() };
        Client::new(settings, Arc::new(RunningClock::at(NOW_MS)))
    };
    simulate(async {
        let none = choose(&["TLS_RSA_WITH_AES_128_CBC_SHA"]).unwrap_err();
        assert!(matches!(none, SettingsError::CipherSuites));
        assert!(none.to_string().contains("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), "{none}");
    });
    let old_and_new = ["TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_AES_128_GCM_SHA256"];
    let new = simulate(async { choose(&old_and_new).unwrap() });
    assert_eq!(met(new.clone(), HOST, store, false, &BOTH), Ok(()));
    let refusal = met(new, HOST, store, false, &[Protocol::Tls12]);
    assert!(matches!(refusal, Err(Refusal::NothingInCommon(_))), "{refusal:?}");
}

#[test]
fn an_identity_is_a_key_and_its_certificate() {
    let of = |settings| Client::new(settings, Arc::new(RunningClock::at(NOW_MS)));
    let showing = |identity| of(ClientSettings { identity: Some(identity), ..settings() });
    let mut mixed = identity(data!("client.pem"), None, None).unwrap();
    mixed.chain = identity(data!("server.p12"), PASSWORD, None).unwrap().chain;
    assert!(matches!(showing(mixed), Err(SettingsError::Identity(_))));
    let mut foreign = identity(data!("client.pem"), None, None).unwrap();
    foreign.key = rustls_pki_types::PrivatePkcs8KeyDer::from(vec![1, 2, 3]).into();
    assert!(matches!(showing(foreign), Err(SettingsError::Identity(_))));
    // Servers on a JVM take it.
    assert!(showing(identity(data!("version-1.pem"), None, None).unwrap()).is_ok());
    let unreadable = ClientSettings { trusted: vec![vec![1, 2, 3].into()], ..settings() };
    assert!(matches!(of(unreadable), Err(SettingsError::Trusted(_))));
}

#[test]
fn who_does_not_speak_tls_is_told_from_who_hangs_up() {
    let refusal = |answer: &'static [u8]| {
        simulate(async {
            let client = client(settings());
            let (below, peer) = connected().await;
            let answering = async {
                read_exact(&*peer, &mut [0; 4]).await.unwrap();
                write_all(&*peer, answer).await.unwrap();
                drop(peer);
            };
            let (connected, ()) = tokio::join!(client.connect(below, HOST), answering);
            let error = connected.map(drop).unwrap_err();
            Refusal::of(&error).cloned().unwrap()
        })
    };
    assert_eq!(refusal(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Refusal::NotTls);
    assert_eq!(refusal(b""), Refusal::HungUp);
    // Who says nothing at all is waited for as long as the caller likes.
    simulate(async {
        let client = client(settings());
        let (below, _peer) = connected().await;
        let waiting =
            ottla_runtime::time::timeout(Duration::from_secs(60), client.connect(below, HOST));
        assert!(waiting.await.is_err());
    });
}
