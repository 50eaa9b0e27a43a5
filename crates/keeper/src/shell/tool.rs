//! What tools ask of a keeper: how the quorum is, and to change it.
//!
//! On the same listener as voters: a line that names protocol and version, then frames, each behind
//! its length in u32: requests (u8 kind and what belongs to it) and answers (u8 0 with what was asked
//! for, if that is something, or u8 1 and the reason of a refusal). Integers are big-endian, texts u32
//! length and UTF-8.

use std::io;
use std::time::Duration;

use ottla_runtime::net::{Stream, write_all};
use ottla_runtime::{Network, time};
use tokio::sync::oneshot;

use super::core::Input;
use super::frames::{put_frame, read_frame};
use super::keeper::Keeper;
use super::peers::{FRAME_BYTES_MAX, split_address};
use crate::machine::quorum::{
    Change, LogId, Membership, Peer, VoterId, decode_count, decode_log_id, encode_log_id,
};
use crate::machine::{Corrupt, Decoder, put_u32};

pub(super) const LINE: &[u8; 20] = b"ottla-keeper-tool 1\n";

/// So long a tool has for its next request, and a keeper for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer: a part of a snapshot, or a description.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What a tool asks of a keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// How are you?
    Describe,
    /// Begin this quorum, of which you are a voter, with your directory that belongs to none.
    Found(Membership),
    /// Begin a change of who belongs to the quorum that you lead. It is done when a description says
    /// so.
    Change(Change),
    /// Write a snapshot now.
    Snapshot,
    /// Give me the bytes of your snapshot from `offset` on, if it is still this one.
    Part {
        /// The last entry that it holds: its name. `None` takes any.
        last: Option<LogId>,
        /// Where in the file.
        offset: u64,
    },
    /// Ask another voter to lead in your place.
    HandOver,
}

/// How a keeper is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Itself.
    pub own: Peer,
    /// Who belongs to the quorum, as its log has it; nobody if its directory belongs to none.
    pub membership: Membership,
    /// The entry of its log that says so.
    pub changed: u64,
    /// Its term.
    pub term: u64,
    /// The leader that it has heard of lately.
    pub leader: Option<VoterId>,
    /// The last entry of its log.
    pub last: u64,
    /// The last entry that it knows to be committed.
    pub committed: u64,
    /// The last change of the tree.
    pub zxid: i64,
    /// The others.
    pub contacts: Vec<Contact>,
}

/// How a keeper sees another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Who.
    pub id: VoterId,
    /// It was heard of lately.
    pub is_heard: bool,
    /// How far its log agrees with the leader's; the leader knows.
    pub matched: Option<u64>,
    /// Why it refuses the connection.
    pub refusal: Option<String>,
}

/// Bytes of a keeper's snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The last entry that the snapshot holds.
    pub last: LogId,
    /// Nothing follows them.
    pub is_end: bool,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// What a keeper has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is done, or begun.
    Done,
    /// How it is.
    Description(Description),
    /// What its snapshot holds.
    Part(Part),
}

/// What came of it, or why it was refused.
pub(super) type Answer = Result<Told, String>;

impl Ask {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Describe => out.push(0),
            Self::Found(membership) => {
                out.push(1);
                membership.encode(out);
            }
            Self::Change(Change::Add(peer)) => {
                out.push(2);
                peer.encode(out);
            }
            Self::Change(Change::Remove(id)) => {
                out.push(3);
                out.extend_from_slice(&id.to_be_bytes());
            }
            Self::Snapshot => out.push(4),
            Self::HandOver => out.push(5),
            Self::Part { last, offset } => {
                out.push(6);
                encode_log_id(last.unwrap_or_default(), out);
                out.extend_from_slice(&offset.to_be_bytes());
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Decoder::new(bytes, "request of a tool");
        let ask = match input.u8()? {
            0 => Self::Describe,
            1 => Self::Found(Membership::decode(&mut input)?),
            2 => Self::Change(Change::Add(Peer::decode(&mut input)?)),
            3 => Self::Change(Change::Remove(input.u64()?)),
            4 => Self::Snapshot,
            5 => Self::HandOver,
            6 => {
                let last = Some(decode_log_id(&mut input)?);
                let last = last.filter(|last| *last != LogId::default());
                Self::Part { last, offset: decode_count(&mut input)? }
            }
            _ => return Err(input.corrupt()),
        };
        input.end().map(|()| ask)
    }
}

impl Description {
    fn encode(&self, out: &mut Vec<u8>) {
        self.own.encode(out);
        self.membership.encode(out);
        put_option(self.leader, out);
        let zxid = self.zxid as u64;
        for number in [self.changed, self.term, self.last, self.committed, zxid] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        put_u32(out, self.contacts.len());
        for contact in &self.contacts {
            out.extend_from_slice(&contact.id.to_be_bytes());
            out.push(contact.is_heard.into());
            put_option(contact.matched, out);
            put_text(contact.refusal.as_deref().unwrap_or(""), out);
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Corrupt> {
        let own = Peer::decode(input)?;
        let membership = Membership::decode(input)?;
        let leader = option(input)?;
        let [changed, term] = [input.u64()?, input.u64()?];
        let [last, committed] = [input.u64()?, input.u64()?];
        let zxid = input.i64()?;
        let mut contacts = Vec::new();
        for _ in 0..input.u32()? {
            let (id, is_heard, matched) = (input.u64()?, input.u8()? != 0, option(input)?);
            let refusal = Some(text(input)?).filter(|refusal| !refusal.is_empty());
            contacts.push(Contact { id, is_heard, matched, refusal });
        }
        Ok(Self { own, membership, changed, term, leader, last, committed, zxid, contacts })
    }
}

impl Part {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_log_id(self.last, out);
        out.push(self.is_end.into());
        out.extend_from_slice(&self.bytes);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, Corrupt> {
        let (last, is_end) = (decode_log_id(input)?, input.u8()? != 0);
        let bytes = input.bytes(input.rest().len())?.to_vec();
        Ok(Self { last, is_end, bytes })
    }
}

fn put_option(number: Option<u64>, out: &mut Vec<u8>) {
    out.push(number.is_some().into());
    out.extend_from_slice(&number.unwrap_or(0).to_be_bytes());
}

fn option(input: &mut Decoder<'_>) -> Result<Option<u64>, Corrupt> {
    let is_some = input.u8()? != 0;
    Ok(Some(input.u64()?).filter(|_| is_some))
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_u32(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn text(input: &mut Decoder<'_>) -> Result<String, Corrupt> {
    let length = input.u32()? as usize;
    let text = std::str::from_utf8(input.bytes(length)?).map(str::to_owned);
    text.map_err(|_| input.corrupt())
}

/// Answers a tool until it goes.
pub(super) async fn serve(keeper: &Keeper, stream: &dyn Stream) -> io::Result<()> {
    loop {
        let frame = time::timeout(PATIENCE, read_frame(stream, FRAME_BYTES_MAX)).await??;
        let answer = match Ask::decode(&frame) {
            Ok(ask) => {
                let (answer, answered) = oneshot::channel();
                keeper.put(Input::Tool(ask, answer));
                answered.await.unwrap_or_else(|_| Err("the keeper has stopped".to_owned()))
            }
            Err(error) => Err(error.what.to_owned()),
        };
        let mut bytes = Vec::new();
        put_frame(&mut bytes, |out| match answer {
            Ok(told) => {
                out.push(0);
                match told {
                    Told::Done => {}
                    Told::Description(description) => description.encode(out),
                    Told::Part(part) => part.encode(out),
                }
            }
            Err(reason) => {
                out.push(1);
                put_text(&reason, out);
            }
        });
        write_all(stream, &bytes).await?;
    }
}

/// Asks the keeper that listens for voters at `address` (`host:port`).
pub async fn ask(network: &dyn Network, address: &str, ask: &Ask) -> io::Result<Answer> {
    let exchange = async {
        let (host, port) = split_address(address)?;
        let stream = network.connect(host, port).await?;
        let mut bytes = LINE.to_vec();
        put_frame(&mut bytes, |out| ask.encode(out));
        write_all(&*stream, &bytes).await?;
        let frame = read_frame(&*stream, ANSWER_BYTES_MAX).await?;
        decode_answer(&frame, ask).map_err(io::Error::other)
    };
    time::timeout(PATIENCE, exchange).await?
}

/// How the keeper at `address` is.
pub async fn describe(network: &dyn Network, address: &str) -> io::Result<Description> {
    match ask(network, address, &Ask::Describe).await?.map_err(io::Error::other)? {
        Told::Description(description) => Ok(description),
        Told::Done | Told::Part(_) => Err(io::Error::other("it does not describe itself")),
    }
}

fn decode_answer(bytes: &[u8], ask: &Ask) -> Result<Answer, Corrupt> {
    let mut input = Decoder::new(bytes, "answer of a keeper");
    let answer = match (input.u8()?, ask) {
        (0, Ask::Describe) => Ok(Told::Description(Description::decode(&mut input)?)),
        (0, Ask::Part { .. }) => Ok(Told::Part(Part::decode(&mut input)?)),
        (0, _) => Ok(Told::Done),
        _ => Err(text(&mut input)?),
    };
    input.end().map(|()| answer)
}
