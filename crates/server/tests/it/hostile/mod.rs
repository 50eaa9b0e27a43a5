//! Broken and hostile requests: what each gets, and that it harms nobody else.
//!
//! `docs/hostile-input.md` is written from the cases by running the test with `OTTLA_REWRITE=1`, and
//! compared with them otherwise. With `OTTLA_HOSTILE_BROKER=host:port`, the cases are sent to another
//! broker, which must answer what they say of Kafka: that is how Kafka's column is known.

mod admin;
mod bodies;
mod case;
mod fetch;
mod frames;
mod produce;
mod stage;
mod topics;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ottla_protocol::messages::ApiVersionsRequest;
use ottla_record::{BatchOptions, Codec};
use ottla_runtime::task::block_on;
use ottla_runtime::time::timeout;

use self::case::{Case, Gets, Sent, codes};
use self::stage::Stage;
use crate::broker::{Scratch, address, start};
use crate::client::{append, batch, batch_with, fetch, records_of, values};
use crate::peer::Peer;

/// How much more memory the process may hold while the cases run than before them.
const MEMORY_GROWTH_MAX: usize = 64 * 1024 * 1024;

/// How long a case may take. Nothing waits for it to pass.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/hostile-input.md");

type Section = (&'static str, fn(&Stage) -> Vec<Case>);

const SECTIONS: &[Section] = &[
    ("Frames and headers", frames::cases),
    ("Bodies that cannot be read", bodies::cases),
    ("Produce", produce::cases),
    ("Fetch and offsets", fetch::cases),
    ("Topics", topics::cases),
    ("Administration and groups", admin::cases),
];

#[test]
fn each_case_gets_what_the_page_says_and_harms_nobody() {
    let other = std::env::var("OTTLA_HOSTILE_BROKER").ok();
    let done = block_on(async {
        match other {
            Some(address) => against_kafka(address.parse().expect("host:port")).await,
            None => against_ourselves().await,
        }
    });
    done.expect("a runtime");
}

async fn against_ourselves() {
    let scratch = Scratch::new("hostile");
    let node = start(scratch.path(), &[]).await;
    let stage = Stage::set(address(&node)).await;
    let sections: Vec<_> = SECTIONS.iter().map(|(title, cases)| (title, cases(&stage))).collect();
    let mut control = Peer::dial(stage.address).await;
    let mut witness = stage.witness(&mut control).await;
    let mut wrong = Vec::new();

    let before = memory::reset_peak();
    for case in sections.iter().flat_map(|(_, cases)| cases) {
        let ends = stage.end_offsets(&mut control).await;
        let got = in_time(run(case, stage.address)).await;
        if got.as_ref() != Ok(&case.gets) {
            wrong.push(case.difference(&got, &case.gets));
        }
        let appends = case.appends();
        if stage.end_offsets(&mut control).await.iter().sum::<i64>()
            != ends.iter().sum::<i64>() + appends
        {
            wrong.push(format!("{}: {appends} batches are not what was appended", case.name));
        }
        // Another client's life goes on.
        let records = batch(&[case.name.as_bytes()]);
        let offset = append(&mut control, stage::WITNESS, 0, records.clone()).await;
        witness.push(offset, &records);
    }
    compare(Path::new(PAGE), &page(&sections));
    let growth = memory::peak().saturating_sub(before);
    if growth > MEMORY_GROWTH_MAX {
        wrong.push(format!("the process grew by {growth} bytes"));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(stage.witness(&mut control).await.bytes(), witness.bytes());
    node.stop().await.expect("stops");
}

/// Checks what the cases say of Kafka.
async fn against_kafka(address: SocketAddr) {
    let stage = Stage::set(address).await;
    let mut wrong = Vec::new();
    for case in SECTIONS.iter().flat_map(|(_, cases)| cases(&stage)) {
        let got = in_time(run(&case, address)).await;
        if got.as_ref() != Ok(case.of_kafka()) {
            wrong.push(case.difference(&got, case.of_kafka()));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

async fn in_time(case: impl Future<Output = Result<Gets, String>>) -> Result<Gets, String> {
    timeout(ANSWER_DEADLINE, case).await.unwrap_or(Ok(Gets::Silence))
}

/// Sends a case over a connection of its own.
async fn run(case: &Case, address: SocketAddr) -> Result<Gets, String> {
    let mut peer = Peer::dial(address).await;
    for before in &case.before {
        let got = exchange(&mut peer, before).await?;
        if !got.is_success() {
            return Err(format!("what comes before it got {got:?}"));
        }
    }
    if case.gets == Gets::Nothing {
        peer.send(&case.sent.bytes).await;
        return Ok(Gets::Nothing);
    }
    let got = exchange(&mut peer, &case.sent).await?;
    if got != Gets::Closed {
        // The connection goes on.
        peer.ask(0, &ApiVersionsRequest::default()).await;
    }
    Ok(got)
}

async fn exchange(peer: &mut Peer, sent: &Sent) -> Result<Gets, String> {
    for piece in sent.bytes.chunks(sent.piece_bytes) {
        peer.send(piece).await;
    }
    match peer.receive().await {
        None if peer.is_cut_short() => Err("closed within an answer".to_owned()),
        None => Ok(Gets::Closed),
        Some(frame) => codes(&frame, sent.answer).map(Gets::Codes),
    }
}

fn page(sections: &[(&&str, Vec<Case>)]) -> String {
    let mut page = String::from(
        "# Hostile input\n\n\
         What the broker does with requests that are broken, hostile, or ask for what cannot be. After \
         each of\nthem the other clients are served, what was stored is untouched, and the memory is \
         given back.\n\n\
         The last column is what Apache Kafka 4.3 does with the same bytes.\n\n\
         This page is written by the test `hostile` of `crates/server`, which sends every one of \
         these:\n`OTTLA_REWRITE=1 cargo test -p ottla-server --test it hostile`.\n",
    );
    for (title, cases) in sections {
        write!(page, "\n## {title}\n\n| Sent | Answer | Kafka |\n|---|---|---|\n")
            .expect("written");
        for Case { name, gets, kafka, .. } in cases {
            let kafka = match kafka {
                None => "same".to_owned(),
                Some((gets, why)) => format!("{gets}; {why}"),
            };
            writeln!(page, "| {name} | {gets} | {kafka} |").expect("written");
        }
    }
    page
}

fn compare(path: &Path, page: &str) {
    if std::env::var_os("OTTLA_REWRITE").is_some() {
        fs::write(path, page).expect("the page is written");
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "{} is not up to date: run with OTTLA_REWRITE=1", path.display());
}

/// A compressed batch whose checksum is right is not unpacked where no rule of the topic asks for
/// it. What a consumer then gets is what the producer sent, and no other consumer is harmed.
#[test]
fn a_payload_that_cannot_be_unpacked_is_returned_as_it_came() {
    let done = block_on(async {
        let scratch = Scratch::new("unpacked");
        let node = start(scratch.path(), &[]).await;
        let mut peer = Peer::dial(address(&node)).await;
        crate::client::create_topic(&mut peer, "plain", 1, &[]).await;
        let garbage = produce::garbage_payload();
        let good = batch_with(
            BatchOptions { codec: Codec::Lz4, ..BatchOptions::default() },
            &["after it"],
        );
        assert_eq!(append(&mut peer, "plain", 0, garbage.clone()).await, 0);
        assert_eq!(append(&mut peer, "plain", 0, good).await, 1);

        let first = records_of(&fetch(&mut peer, "plain", 0, 0).await);
        let (stored, rest) = ottla_record::RecordBatch::parse(&first).expect("a whole batch");
        let (sent, _) = ottla_record::RecordBatch::parse(&garbage).expect("a whole batch");
        assert_eq!((stored.payload(), stored.crc()), (sent.payload(), sent.crc()));
        assert_eq!(values(rest), [(1, b"after it".to_vec())]);
        node.stop().await.expect("stops");
    });
    done.expect("a runtime");
}

/// What the kernel says of this process's memory.
mod memory {
    use std::fs;

    /// Forgets the peak, and returns the bytes held now.
    pub(super) fn reset_peak() -> usize {
        fs::write("/proc/self/clear_refs", "5").expect("Linux resets the peak");
        status("VmRSS:")
    }

    /// The most bytes held since.
    pub(super) fn peak() -> usize {
        status("VmHWM:")
    }

    fn status(name: &str) -> usize {
        let status = fs::read_to_string("/proc/self/status").expect("Linux tells");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        let kib = line.trim().strip_suffix(" kB").expect("in KiB");
        kib.trim().parse::<usize>().expect("a number") * 1024
    }
}
