//! TLS between two hosts of a network in memory, with stores that `keytool` made
//! (`crates/security/tests/data/make.sh`).

mod pinched;
mod stream;
mod terms;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_fake::{FakeNetwork, RunningClock};
use ottla_runtime::net::{ListenOptions, Listener, Stream, accept};
use ottla_security::key_store::{identity, trusted};
use ottla_tls::{Client, ClientSettings, Protocol, TlsStream};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, version};

const PASSWORD: Option<&str> = Some("secret1");
/// 2030.
const NOW_MS: i64 = 1_900_000_000_000;
/// The name in the server's certificate.
const HOST: &str = "zk1.example.org";

macro_rules! data {
    ($name:literal) => {
        &include_bytes!(concat!("../../../security/tests/data/", $name))[..]
    };
}
pub(crate) use data;

/// Runs `test` on a runtime whose time jumps to whatever is next.
fn simulate<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test)
}

/// Both ends of a connection.
async fn connected() -> (Box<dyn Stream>, Box<dyn Stream>) {
    let network = FakeNetwork::new(7, Duration::from_millis(2));
    let options = ListenOptions { backlog: 8, send_buffer: None, receive_buffer: None };
    let address = "10.0.0.1:2182".parse().unwrap();
    let mut listener: Box<dyn Listener> = network.host(1).listen(address, options).unwrap();
    let client = network.host(2).connect("10.0.0.1", 2182).await.unwrap();
    let server = accept(&mut *listener).await.unwrap().into_stream().unwrap();
    (client, server)
}

fn settings() -> ClientSettings {
    ClientSettings {
        trusted: trusted(data!("trust.p12"), PASSWORD, None).unwrap(),
        identity: None,
        protocols: vec![Protocol::Tls12, Protocol::Tls13],
        cipher_suites: None,
        checks_host: true,
    }
}

fn client_at(settings: ClientSettings, now_ms: i64) -> Client {
    Client::new(settings, Arc::new(RunningClock::at(now_ms))).unwrap()
}

fn client(settings: ClientSettings) -> Client {
    client_at(settings, NOW_MS)
}

/// A server with the identity of a store. It may ask for a certificate of those whom it trusts.
fn server(store: &[u8], wants_certificate: bool, protocols: &[Protocol]) -> Arc<ServerConfig> {
    let identity = identity(store, PASSWORD, None).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    trusted(data!("trust.jks"), PASSWORD, None)
        .unwrap()
        .into_iter()
        .for_each(|certificate| roots.add(certificate).unwrap());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let versions: Vec<_> = protocols
        .iter()
        .map(|protocol| match protocol {
            Protocol::Tls12 => &version::TLS12,
            Protocol::Tls13 => &version::TLS13,
        })
        .collect();
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let builder = match wants_certificate {
        true => builder.unwrap().with_client_cert_verifier(verifier.build().unwrap()),
        false => builder.unwrap().with_no_client_auth(),
    };
    Arc::new(builder.with_single_cert(identity.chain, identity.key).unwrap())
}

async fn serve(config: &Arc<ServerConfig>, stream: Box<dyn Stream>) -> io::Result<TlsStream> {
    let connection = Box::new(ServerConnection::new(Arc::clone(config)).unwrap().into());
    TlsStream::establish(stream, connection).await
}

/// Both ends of a connection on which client and server have come to terms.
async fn secured(
    protocol: Protocol,
    client_below: Box<dyn Stream>,
    server_below: Box<dyn Stream>,
) -> (TlsStream, TlsStream) {
    let config = server(data!("server.p12"), false, &[protocol]);
    let client = client(settings());
    let both = tokio::join!(client.connect(client_below, HOST), serve(&config, server_below));
    (both.0.unwrap(), both.1.unwrap())
}
