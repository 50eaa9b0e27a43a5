//! The connections between voters: each dials each other one, and sends on what it dialled.
//!
//! A connection begins with a greeting: a line that names protocol and version, u64 id and 16 bytes
//! of directory id of the voter that dials, and the same of the one that it means to reach. Letters
//! follow, each behind its length in u32. A letter that cannot be sent is lost, as Raft allows; what
//! clients wait for is given up when the leader changes or is not heard of for a while.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ottla_runtime::net::{Listener, Stream, accept, read_exact, write_all};
use ottla_runtime::{Network, Spawner, Task, task, time};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::core::Input;
use super::keeper::Keeper;
use crate::machine::quorum::{DirectoryId, Letter, Voter, VoterId};
use crate::machine::{Corrupt, Decoder};

const LINE: &[u8] = b"ottla-keeper-peer 1\n";
const GREETING_BYTES: usize = LINE.len() + 48;

/// The longest letter: a full proposal, or a message with one full entry.
const LETTER_BYTES_MAX: usize = 64 << 20;

/// What may wait for one voter. What is more is lost.
const OUTBOX_BYTES_MAX: usize = 2 * LETTER_BYTES_MAX;

/// How much is made room for before it came.
const READ_BYTES: usize = 1 << 20;

/// How many connections are kept, strangers' among them: above it the oldest gives way.
const CONNECTIONS_MAX: usize = 64;

/// So long a voter has for connecting, and for the greeting.
const GREETING_TIME: Duration = Duration::from_secs(5);

/// How long after a connection broke the next one is tried.
const REDIAL: Duration = Duration::from_millis(100);

/// Another voter and where it listens.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Who.
    pub voter: Voter,
    /// `host:port`.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What is to be sent to the other voters.
#[derive(Default)]
pub(super) struct Peers(Mutex<BTreeMap<VoterId, Arc<Outbox>>>);

#[derive(Default)]
struct Outbox {
    letters: Mutex<Letters>,
    /// There is one.
    came: Notify,
}

#[derive(Default)]
struct Letters {
    /// Each with its length before it.
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    is_connected: bool,
}

impl Peers {
    /// Whether letters to a voter leave.
    pub(super) fn is_connected(&self, to: VoterId) -> bool {
        let outbox = self.0.lock().get(&to).cloned();
        outbox.is_some_and(|outbox| outbox.letters.lock().is_connected)
    }

    /// Puts a letter into the outbox of a voter. It is lost if there is no connection, and the
    /// connection ends if it does not keep up.
    pub(super) fn send(&self, to: VoterId, letter: &Letter) {
        let Some(outbox) = self.0.lock().get(&to).cloned() else { return };
        let mut letters = outbox.letters.lock();
        if letters.bytes > OUTBOX_BYTES_MAX {
            *letters = Letters::default();
            outbox.came.notify_one();
        }
        if !letters.is_connected {
            return;
        }
        let mut frame = vec![0; 4];
        letter.encode(&mut frame);
        let length = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        letters.bytes += frame.len();
        letters.frames.push_back(frame);
        outbox.came.notify_one();
    }

    fn outbox(&self, peer: VoterId) -> Arc<Outbox> {
        Arc::clone(self.0.lock().entry(peer).or_default())
    }
}

impl Outbox {
    fn set_connected(&self, is_connected: bool) {
        *self.letters.lock() = Letters { is_connected, ..Letters::default() };
    }

    /// The next letter; `None` if the connection is to end.
    async fn next(&self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if !self.letters.lock().is_connected {
                return None;
            }
            self.came.notified().await;
        }
    }

    fn take(&self) -> Option<Vec<u8>> {
        let mut letters = self.letters.lock();
        let frame = letters.frames.pop_front()?;
        letters.bytes -= frame.len();
        Some(frame)
    }
}

impl Keeper {
    /// Connects the voter `own`, which `listener` is for, with `peers`. The tasks run until they are
    /// dropped.
    pub fn connect(
        self: &Arc<Self>,
        network: &Arc<dyn Network>,
        spawner: &Spawner,
        own: Voter,
        listener: Box<dyn Listener>,
        peers: &[Peer],
    ) -> Vec<Task<()>> {
        let mut tasks = Vec::new();
        for peer in peers.iter().filter(|peer| peer.voter.id != own.id) {
            let outbox = self.peers.outbox(peer.voter.id);
            let (keeper, network, peer) = (Arc::clone(self), Arc::clone(network), peer.clone());
            tasks.push(spawner.spawn(async move {
                loop {
                    // What broke the connection shows in the status: the voter is not heard of.
                    let _ = send_letters(&*network, own, &peer, &outbox).await;
                    outbox.set_connected(false);
                    keeper.put(Input::Disconnected(peer.voter.id));
                    time::sleep(REDIAL).await;
                }
            }));
        }
        let voters = peers.iter().map(|peer| peer.voter).collect();
        tasks.push(spawner.spawn(Arc::clone(self).receive(own, voters, listener, spawner.clone())));
        tasks
    }

    /// Takes what other voters send. It shares its runtime with [`Keeper::drive`], which runs each
    /// time before a connection reads on: so one letter of each waits at most.
    async fn receive(
        self: Arc<Self>,
        own: Voter,
        peers: Vec<Voter>,
        mut listener: Box<dyn Listener>,
        spawner: Spawner,
    ) {
        let peers = Arc::new(peers);
        let mut connections: VecDeque<Task<()>> = VecDeque::new();
        loop {
            let Ok(incoming) = accept(&mut *listener).await else {
                time::sleep(REDIAL).await;
                continue;
            };
            let Ok(stream) = incoming.into_stream() else { continue };
            connections.retain(|connection| !connection.is_finished());
            if connections.len() >= CONNECTIONS_MAX {
                connections.pop_front();
            }
            let (keeper, peers) = (Arc::clone(&self), Arc::clone(&peers));
            connections.push_back(spawner.spawn(async move {
                // Whoever dialled sees the end of the connection, and dials again.
                let _ = keeper.receive_letters(own, &peers, &*stream).await;
            }));
        }
    }

    async fn receive_letters(
        &self,
        own: Voter,
        peers: &[Voter],
        stream: &dyn Stream,
    ) -> io::Result<()> {
        let greeting = time::timeout(GREETING_TIME, read_greeting(stream)).await??;
        let (from, to) = greeting.ok_or(io::ErrorKind::InvalidData)?;
        if to != own || !peers.contains(&from) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let read = self.read_letters(from.id, stream).await;
        self.put(Input::Disconnected(from.id));
        read
    }

    async fn read_letters(&self, from: VoterId, stream: &dyn Stream) -> io::Result<()> {
        loop {
            let mut length = [0; 4];
            read_exact(stream, &mut length).await?;
            let length = u32::from_be_bytes(length) as usize;
            if length > LETTER_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut bytes = Vec::new();
            while bytes.len() < length {
                let read = bytes.len();
                bytes.resize(length.min(read + READ_BYTES), 0);
                read_exact(stream, &mut bytes[read..]).await?;
            }
            let letter = Letter::decode(&bytes).map_err(io::Error::other)?;
            drop(bytes);
            self.put(Input::Letter(from, letter));
            task::yield_now().await;
        }
    }
}

async fn send_letters(
    network: &dyn Network,
    own: Voter,
    peer: &Peer,
    outbox: &Outbox,
) -> io::Result<()> {
    let connecting = network.connect(&peer.host, peer.port);
    let stream = time::timeout(GREETING_TIME, connecting).await??;
    let mut greeting = LINE.to_vec();
    for voter in [own, peer.voter] {
        greeting.extend_from_slice(&voter.id.to_be_bytes());
        greeting.extend_from_slice(&voter.directory.0);
    }
    write_all(&*stream, &greeting).await?;
    outbox.set_connected(true);
    while let Some(frame) = outbox.next().await {
        write_all(&*stream, &frame).await?;
    }
    Ok(())
}

/// Who greets, and whom it means; `None` for what is no greeting.
async fn read_greeting(stream: &dyn Stream) -> io::Result<Option<(Voter, Voter)>> {
    let mut greeting = [0; GREETING_BYTES];
    read_exact(stream, &mut greeting).await?;
    let Some(voters) = greeting.strip_prefix(LINE) else { return Ok(None) };
    let mut voters = Decoder::new(voters, "greeting");
    let mut voter = || -> Result<Voter, Corrupt> {
        Ok(Voter { id: voters.u64()?, directory: DirectoryId(voters.array()?) })
    };
    Ok(voter().and_then(|from| Ok((from, voter()?))).ok())
}
