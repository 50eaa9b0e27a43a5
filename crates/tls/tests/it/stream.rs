//! The stream, whatever the one below does.

use std::io::{self, IoSlice};
use std::path::Path;
use std::time::Duration;

use ottla_fake::FakeDisk;
use ottla_runtime::disk::{Disk, OpenMode};
use ottla_runtime::net::{Stream, read_exact, readable, writable, write_all};
use ottla_runtime::time::{sleep, timeout};
use ottla_tls::{Protocol, TlsStream};

use super::pinched::{Gate, Pinched};
use super::{connected, secured, simulate};

const BOTH: [Protocol; 2] = [Protocol::Tls12, Protocol::Tls13];

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

async fn read(stream: &TlsStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    read_exact(stream, &mut bytes).await.unwrap();
    bytes
}

/// Writes, and waits until all has gone.
async fn write(stream: &TlsStream, bytes: &[u8]) {
    write_all(stream, bytes).await.unwrap();
    writable(stream).await.unwrap();
}

/// Writes to each other at once, and compares.
async fn exchange((client, server): &(TlsStream, TlsStream), length: usize) {
    let (question, answer) = (noise(length, 1), noise(length, 2));
    let ((), (), at_server, at_client) = tokio::join!(
        write(client, &question),
        write(server, &answer),
        read(server, length),
        read(client, length),
    );
    assert!(at_server == question && at_client == answer);
}

#[test]
fn bytes_go_one_by_one() {
    for protocol in BOTH {
        simulate(async {
            let (client, server) = connected().await;
            let gate = Gate::default();
            let (client, server) =
                (Pinched::boxed(client, 1, &gate), Pinched::boxed(server, 1, &gate));
            exchange(&secured(protocol, client, server).await, 3_000).await;
        });
    }
}

#[test]
fn much_goes_both_ways_at_once() {
    for (protocol, bytes_max) in [(BOTH[0], 700), (BOTH[1], 50_000)] {
        simulate(async {
            let (client, server) = connected().await;
            let gate = Gate::default();
            let client = Pinched::boxed(client, bytes_max, &gate);
            exchange(&secured(protocol, client, server).await, 1 << 20).await;
        });
    }
}

/// Who waits only for the answer sends the question.
#[test]
fn what_was_taken_goes_out_while_the_answer_is_waited_for() {
    simulate(async {
        let (client, server) = connected().await;
        let gate = Gate::default();
        let client = Pinched::boxed(client, 100, &gate);
        let (client, server) = secured(Protocol::Tls13, client, server).await;
        gate.shut();
        assert_eq!(client.try_write(b"question", false).unwrap(), 8);
        // Nothing more is taken before that has gone.
        let more = client.try_write(b"more", false).unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::WouldBlock);
        let more = client.try_write_vectored(&[IoSlice::new(b"more")]).unwrap_err();
        assert_eq!(more.kind(), io::ErrorKind::WouldBlock);
        assert!(timeout(Duration::from_secs(1), writable(&client)).await.is_err());
        let answering = async {
            sleep(Duration::from_secs(2)).await;
            gate.open();
            assert_eq!(read(&server, 8).await, b"question");
            write(&server, b"answer").await;
        };
        let (answer, ()) = tokio::join!(read(&client, 6), answering);
        assert_eq!(answer, b"answer");
        writable(&client).await.unwrap();
    });
}

#[test]
fn a_peer_that_reads_nothing_makes_us_keep_little() {
    simulate(async {
        let (client, server) = connected().await;
        let (client, _server) = secured(Protocol::Tls13, client, server).await;
        let mut taken = 0;
        let piece = noise(1 << 20, 3);
        let blocked = loop {
            match client.try_write(&piece, false) {
                Ok(more) => taken += more,
                Err(error) => break error,
            }
        };
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        // The window of the network, and what the stream holds.
        assert!((256 << 10..(256 + 64) << 10).contains(&taken), "{taken}");
    });
}

#[test]
fn what_is_decrypted_is_ready() {
    simulate(async {
        let (client, server) = connected().await;
        let (client, server) = secured(Protocol::Tls12, client, server).await;
        let parts = [IoSlice::new(b"sev"), IoSlice::new(b""), IoSlice::new(b"eral")];
        assert_eq!(server.try_write_vectored(&parts).unwrap(), 7);
        let mut read: Vec<u8> = Vec::new();
        while read.len() < 7 {
            readable(&client).await.unwrap();
            let mut byte = [0];
            match client.try_read(&mut byte) {
                Ok(length) => read.extend(&byte[..length]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(read, b"several");
        let nothing = client.try_read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        assert!(timeout(Duration::from_secs(1), readable(&client)).await.is_err());
    });
}

#[test]
fn an_end_is_one_only_if_the_peer_says_so() {
    for protocol in BOTH {
        simulate(async {
            let (client, server) = connected().await;
            let (client, server) = secured(protocol, client, server).await;
            write(&server, b"bye").await;
            drop(server);
            assert_eq!(read(&client, 3).await, b"bye");
            readable(&client).await.unwrap();
            assert_eq!(client.try_read(&mut [0]).unwrap(), 0);

            let (client, server) = connected().await;
            let gate = Gate::default();
            let server = Pinched::boxed(server, 100_000, &gate);
            let (client, server) = secured(protocol, client, server).await;
            write(&server, b"bye").await;
            gate.mute();
            drop(server);
            assert_eq!(read(&client, 3).await, b"bye");
            for _ in 0..2 {
                let error = read_exact(&client, &mut [0]).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                assert!(error.to_string().contains("close_notify"), "{error}");
            }
        });
    }
}

#[test]
fn a_record_that_was_tampered_with_is_an_error_after_what_came_before() {
    simulate(async {
        let (client, server) = connected().await;
        let gate = Gate::default();
        let server = Pinched::boxed(server, 100_000, &gate);
        let (client, server) = secured(Protocol::Tls13, client, server).await;
        write(&server, b"true").await;
        gate.tamper();
        write(&server, b"false").await;
        assert_eq!(read(&client, 4).await, b"true");
        for _ in 0..2 {
            let error = read_exact(&client, &mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
        assert_eq!(client.try_write(b"x", false).unwrap_err().kind(), io::ErrorKind::InvalidData);
    });
}

#[test]
fn a_file_is_read_and_written() {
    simulate(async {
        let (client, server) = connected().await;
        let (client, server) = secured(Protocol::Tls13, client, server).await;
        let disk = FakeDisk::with_dir("/data");
        let file = disk.open(Path::new("/data/f"), OpenMode::Create).unwrap();
        let content = noise(200_000, 4);
        file.write_at(&[IoSlice::new(&content)], 0).unwrap();
        let sending = async {
            let mut at = 1_000;
            loop {
                match client.try_send_file(&*file, at, 1 << 20) {
                    Ok(0) => break,
                    Ok(sent) => at += sent as u64,
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        writable(&client).await.unwrap();
                    }
                }
            }
            writable(&client).await.unwrap();
        };
        let ((), read) = tokio::join!(sending, read(&server, 199_000));
        assert!(read == content[1_000..]);
    });
}
