//! The connections between voters: each dials each other one, and sends on what it dialled.
//!
//! A connection begins with a line that names protocol and version, and a greeting: u32 length, 16
//! bytes of quorum id (zeros of one who belongs to none yet), who dials (with the address that it
//! listens on), and whom it means to reach. The answer is one byte: 0 for welcome, or a [`Refusal`].
//! Letters follow, each behind its length in u32. A letter that cannot be sent is lost, as Raft
//! allows; what clients wait for is given up when the leader changes or is not heard of for a while.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_runtime::net::{Listener, Stream, accept, read_exact, write_all};
use ottla_runtime::{Network, Spawner, Task, task, time};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use super::contacts::{Greeting, Refusal};
use super::core::Input;
use super::frames::{Frames, put_frame, read_frame};
use super::keeper::Keeper;
use super::tool;
use crate::machine::quorum::{Letter, Peer, Voter, VoterId};

const LINE: &[u8] = b"ottla-keeper-peer 2\n";

/// The longest letter: a full proposal, or a message with one full entry.
const LETTER_BYTES_MAX: usize = 64 << 20;

/// What may wait for one voter. What is more is lost.
const OUTBOX_BYTES_MAX: usize = 2 * LETTER_BYTES_MAX;

/// The longest greeting, or frame of a tool.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 10;

/// How many connections are kept, strangers' and tools' among them: above it the oldest of those gives
/// way.
const CONNECTIONS_MAX: usize = 64;

/// So long a voter has for connecting, and for the greeting.
const GREETING_TIME: Duration = Duration::from_secs(5);

/// How long after a connection broke the next one is tried.
const REDIAL: Duration = Duration::from_millis(100);

/// What is to be sent to the other voters, and where they are.
#[derive(Default)]
pub(super) struct Peers {
    outboxes: Mutex<BTreeMap<VoterId, Arc<Outbox>>>,
    book: Mutex<BTreeMap<VoterId, Peer>>,
    /// The book is another one.
    changed: Notify,
}

#[derive(Default)]
struct Outbox {
    letters: Mutex<Letters>,
    /// There is one.
    came: Notify,
}

#[derive(Default)]
struct Letters {
    /// In their frames.
    bytes: Vec<u8>,
    is_connected: bool,
    /// Why the last connection was none.
    refusal: Option<Refusal>,
}

impl Peers {
    /// Whether letters to a voter leave.
    pub(super) fn is_connected(&self, to: VoterId) -> bool {
        let outbox = self.outboxes.lock().get(&to).cloned();
        outbox.is_some_and(|outbox| outbox.letters.lock().is_connected)
    }

    /// Why a voter has refused the connection.
    pub(super) fn refusal(&self, by: VoterId) -> Option<Refusal> {
        let outbox = self.outboxes.lock().get(&by).cloned();
        outbox.and_then(|outbox| outbox.letters.lock().refusal)
    }

    /// Dials these, and nobody else, from here on.
    pub(super) fn set_book(&self, book: BTreeMap<VoterId, Peer>) {
        *self.book.lock() = book;
        self.changed.notify_one();
    }

    /// Puts a letter into the outbox of a voter. It is lost if there is no connection, and the
    /// connection ends if it does not keep up.
    pub(super) fn send(&self, to: VoterId, letter: &Letter) {
        let Some(outbox) = self.outboxes.lock().get(&to).cloned() else { return };
        let mut letters = outbox.letters.lock();
        if letters.bytes.len() > OUTBOX_BYTES_MAX {
            *letters = Letters::default();
        }
        if letters.is_connected {
            put_frame(&mut letters.bytes, |out| letter.encode(out));
        }
        outbox.came.notify_one();
    }
}

impl Outbox {
    fn set_connected(&self, is_connected: bool, refusal: Option<Refusal>) {
        *self.letters.lock() = Letters { is_connected, refusal, ..Letters::default() };
    }

    /// The letters that wait; `None` if the connection is to end.
    async fn next(&self) -> Option<Vec<u8>> {
        loop {
            let (bytes, is_connected) = {
                let mut letters = self.letters.lock();
                (std::mem::take(&mut letters.bytes), letters.is_connected)
            };
            if !is_connected {
                return None;
            }
            if !bytes.is_empty() {
                return Some(bytes);
            }
            self.came.notified().await;
        }
    }
}

impl Keeper {
    /// Connects the voter with the others of its quorum, whoever they are at the time, and listens
    /// for them and for tools. The tasks run until they are dropped.
    ///
    /// Letters leave on `sending`, which should be another runtime than that of [`Keeper::drive`]: it
    /// waits for the disk while the others get what it writes. They come in on `receiving`, which
    /// should be the same: it runs each time before a connection reads on, so what one read has
    /// brought of each waits at most.
    pub fn connect(
        self: &Arc<Self>,
        network: Arc<dyn Network>,
        sending: &Spawner,
        receiving: &Spawner,
        listener: Box<dyn Listener>,
    ) -> Vec<Task<()>> {
        vec![
            sending.spawn(Arc::clone(self).dial(network, sending.clone())),
            receiving.spawn(Arc::clone(self).receive(listener, receiving.clone())),
        ]
    }

    /// Keeps one connection to each one in the book.
    async fn dial(self: Arc<Self>, network: Arc<dyn Network>, spawner: Spawner) {
        let mut dialling = BTreeMap::new();
        loop {
            self.follow_book(&network, &spawner, &mut dialling);
            self.peers.changed.notified().await;
        }
    }

    fn follow_book(
        self: &Arc<Self>,
        network: &Arc<dyn Network>,
        spawner: &Spawner,
        dialling: &mut BTreeMap<VoterId, (Peer, Task<()>)>,
    ) {
        let book = self.peers.book.lock().clone();
        let mut outboxes = self.peers.outboxes.lock();
        let over = dialling.extract_if(.., |id, (peer, _)| book.get(id) != Some(peer));
        for (id, _) in over {
            outboxes.remove(&id);
            self.put(Input::Disconnected(id));
        }
        for (id, peer) in book.into_iter().filter(|(_, peer)| !peer.address.is_empty()) {
            dialling.entry(id).or_insert_with(|| {
                let outbox = Arc::clone(outboxes.entry(id).or_default());
                let dial =
                    Arc::clone(self).keep_dialling(Arc::clone(network), peer.clone(), outbox);
                (peer, spawner.spawn(dial))
            });
        }
    }

    async fn keep_dialling(
        self: Arc<Self>,
        network: Arc<dyn Network>,
        peer: Peer,
        outbox: Arc<Outbox>,
    ) {
        let mut told = None;
        loop {
            // What breaks a connection shows in the status: the voter is not heard of.
            let greeting = self.greeting(peer.voter);
            let refusal = send_letters(&*network, &greeting, &peer, &outbox).await.ok().flatten();
            if refusal.is_some() && refusal != told {
                let (id, why) = (peer.voter.id, refusal.map(Refusal::why));
                warn!(voter = id, address = peer.address, why, "a keeper refuses this one");
            }
            told = refusal;
            outbox.set_connected(false, refusal);
            self.put(Input::Disconnected(peer.voter.id));
            time::sleep(REDIAL).await;
        }
    }

    /// Takes what other voters send.
    async fn receive(self: Arc<Self>, mut listener: Box<dyn Listener>, spawner: Spawner) {
        let mut connections: VecDeque<(u64, Task<()>)> = VecDeque::new();
        for connection in 0.. {
            let Ok(incoming) = accept(&mut *listener).await else {
                time::sleep(REDIAL).await;
                continue;
            };
            let Ok(stream) = incoming.into_stream() else { continue };
            connections.retain(|(_, task)| !task.is_finished());
            if connections.len() >= CONNECTIONS_MAX {
                let contacts = self.contacts.lock();
                let stranger = connections.iter().position(|(it, _)| !contacts.has_called(*it));
                connections.remove(stranger.unwrap_or(0));
            }
            let keeper = Arc::clone(&self);
            let task = spawner.spawn(async move {
                // Whoever dialled sees the end of the connection, and dials again.
                let _ = keeper.receive_from(connection, &*stream).await;
            });
            connections.push_back((connection, task));
        }
    }

    async fn receive_from(&self, connection: u64, stream: &dyn Stream) -> io::Result<()> {
        let mut line = [0; LINE.len()];
        time::timeout(GREETING_TIME, read_exact(stream, &mut line)).await??;
        if line == *tool::LINE {
            return tool::serve(self, stream).await;
        }
        if line != *LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let frame = time::timeout(GREETING_TIME, read_frame(stream, FRAME_BYTES_MAX)).await??;
        let greeting = Greeting::decode(&frame).map_err(io::Error::other)?;
        let from = greeting.from.voter;
        let refusal = self.greet(connection, greeting);
        write_all(stream, &[refusal.map_or(0, |refusal| refusal as u8)]).await?;
        if refusal.is_some() {
            return Ok(());
        }
        let _call = Call { keeper: self, from: from.id, connection };
        self.read_letters(from, stream).await
    }

    async fn read_letters(&self, from: Voter, stream: &dyn Stream) -> io::Result<()> {
        let mut frames = Frames::new(stream, LETTER_BYTES_MAX);
        loop {
            while let Some(frame) = frames.next()? {
                let letter = Letter::decode(frame).map_err(io::Error::other)?;
                self.put(Input::Letter(from, letter));
            }
            // The voter sees to them before more are read.
            task::yield_now().await;
            frames.more().await?;
        }
    }
}

/// A connection that another voter has dialled; it may end anywhere.
struct Call<'a> {
    keeper: &'a Keeper,
    from: VoterId,
    connection: u64,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.keeper.put(Input::Left(self.from, self.connection));
    }
}

/// Sends what the outbox gets, until the connection ends; tells if it was refused.
async fn send_letters(
    network: &dyn Network,
    greeting: &Greeting,
    peer: &Peer,
    outbox: &Outbox,
) -> io::Result<Option<Refusal>> {
    let (host, port) = split_address(&peer.address)?;
    let connecting = network.connect(host, port);
    let stream = time::timeout(GREETING_TIME, connecting).await??;
    let mut bytes = LINE.to_vec();
    put_frame(&mut bytes, |out| greeting.encode(out));
    write_all(&*stream, &bytes).await?;
    let mut answer = [0];
    time::timeout(GREETING_TIME, read_exact(&*stream, &mut answer)).await??;
    if answer[0] != 0 {
        return Ok(Some(Refusal::of(answer[0])));
    }
    outbox.set_connected(true, None);
    loop {
        let letters = tokio::select! {
            biased;
            // Nothing comes this way but the end of the connection. Only the next letter would tell
            // otherwise, and be lost: to a voter that was started again, that may be a vote.
            _ = read_exact(&*stream, &mut answer) => return Ok(None),
            letters = outbox.next() => letters,
        };
        let Some(letters) = letters else { return Ok(None) };
        write_all(&*stream, &letters).await?;
    }
}

/// Host and port of `host:port`.
pub(super) fn split_address(address: &str) -> io::Result<(&str, u16)> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it is not host:port"))
}
