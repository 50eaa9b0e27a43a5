//! The client's half of Kafka's protocol: the few requests that a load needs, in their oldest
//! versions without tagged fields, which Apache Kafka 4, Ottla and the floor all speak.
//!
//! Owns: frames, the connection and the choice of a version. Must not know: loads, clocks.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

/// Longer than any answer takes; a broker that is silent for this long is an error.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Acknowledgements are small and come several at a time; records bypass this buffer.
const RECEIVE_BUFFER_BYTES: usize = 8 << 10;
/// Larger than any response that a load asks for.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// A request kind and the versions of it that this client can write and read.
#[derive(Clone, Copy)]
pub(crate) struct Api {
    pub(crate) name: &'static str,
    pub(crate) key: i16,
    pub(crate) oldest: i16,
    pub(crate) newest: i16,
}

pub(crate) const PRODUCE: Api = Api { name: "Produce", key: 0, oldest: 3, newest: 3 };
pub(crate) const FETCH: Api = Api { name: "Fetch", key: 1, oldest: 4, newest: 4 };
const METADATA: Api = Api { name: "Metadata", key: 3, oldest: 1, newest: 1 };
const API_VERSIONS: Api = Api { name: "ApiVersions", key: 18, oldest: 0, newest: 0 };
const CREATE_TOPICS: Api = Api { name: "CreateTopics", key: 19, oldest: 0, newest: 4 };
const DELETE_TOPICS: Api = Api { name: "DeleteTopics", key: 20, oldest: 0, newest: 3 };

/// A request with all but its correlation id fixed, so that it can be sent many times.
pub(crate) struct Request(Vec<u8>);

impl Request {
    pub(crate) fn new(api: Api, version: i16) -> Self {
        const CLIENT_ID: &str = "ottla-bench";
        Self(vec![0; 4]).i16(api.key).i16(version).i32(0).string(CLIENT_ID)
    }

    pub(crate) fn i8(mut self, value: i8) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn i16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn string(mut self, value: &str) -> Self {
        self = self.i16(i16::try_from(value.len()).expect("names here are short"));
        self.0.extend(value.as_bytes());
        self
    }

    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        self = self.i32(i32::try_from(value.len()).expect("batches here are small"));
        self.0.extend(value);
        self
    }

    /// The frame, ready to be written.
    fn frame(&mut self, correlation: i32) -> &[u8] {
        let size = u32::try_from(self.0.len() - 4).expect("frames here are small");
        self.0[..4].copy_from_slice(&size.to_be_bytes());
        self.0[8..12].copy_from_slice(&correlation.to_be_bytes());
        &self.0
    }
}

/// Reads a response's fields in order. Every read is checked.
pub(crate) struct Response<'a>(&'a [u8]);

impl<'a> Response<'a> {
    /// What follows a response's header.
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    fn take(&mut self, bytes: usize) -> io::Result<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(bytes).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the response ends within a field")
        })?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("take returns what it was asked for"))
    }

    pub(crate) fn i8(&mut self) -> io::Result<i8> {
        self.array().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> io::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// The length of an array; null counts as empty.
    pub(crate) fn length(&mut self) -> io::Result<usize> {
        Ok(usize::try_from(self.i32()?).unwrap_or(0))
    }

    /// A string or null, of which nothing here needs the text.
    pub(crate) fn skip_string(&mut self) -> io::Result<()> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        self.take(length).map(drop)
    }

    /// Bytes; null counts as empty.
    pub(crate) fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    /// Fails unless the next field is error code 0.
    pub(crate) fn no_error(&mut self, of: &str) -> io::Result<()> {
        match self.i16()? {
            0 => Ok(()),
            code => Err(io::Error::other(format!("{of} was answered with error code {code}"))),
        }
    }

    /// Fails unless the array holds exactly one element, as every request here asks for.
    pub(crate) fn one(&mut self) -> io::Result<()> {
        match self.length()? {
            1 => Ok(()),
            other => Err(io::Error::other(format!("one answer was expected, {other} came"))),
        }
    }
}

/// Whether a broker answers a first request at that address.
pub(crate) fn is_ready(address: SocketAddr) -> io::Result<bool> {
    Connection::open(address)?.is_ready()
}

/// The half of a connection that writes requests.
pub(crate) struct Sender {
    stream: TcpStream,
    next: i32,
}

impl Sender {
    pub(crate) fn send(&mut self, request: &mut Request) -> io::Result<()> {
        self.stream.write_all(request.frame(self.next))?;
        self.next = self.next.wrapping_add(1);
        Ok(())
    }
}

/// The half of a connection that reads answers, which come in the order of their requests.
pub(crate) struct Receiver {
    stream: BufReader<TcpStream>,
    next: i32,
    answer: Vec<u8>,
}

impl Receiver {
    /// Waits for the answer to the oldest request in flight.
    pub(crate) fn receive(&mut self) -> io::Result<Response<'_>> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let size = u32::from_be_bytes(size) as usize;
        if !(4..=MAX_RESPONSE_BYTES).contains(&size) {
            return Err(io::Error::other(format!("a response of {size} bytes")));
        }
        if self.answer.len() < size {
            self.answer.resize(size, 0);
        }
        self.stream.read_exact(&mut self.answer[..size])?;
        let mut response = Response::new(&self.answer[..size]);
        let (got, due) = (response.i32()?, self.next);
        if got != due {
            return Err(io::Error::other(format!("answer {got} came where {due} was due")));
        }
        self.next = self.next.wrapping_add(1);
        Ok(response)
    }
}

/// A connection that may have several requests in flight.
pub(crate) struct Connection {
    sender: Sender,
    receiver: Receiver,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let input = BufReader::with_capacity(RECEIVE_BUFFER_BYTES, stream.try_clone()?);
        Ok(Self {
            sender: Sender { stream, next: 0 },
            receiver: Receiver { stream: input, next: 0, answer: Vec::new() },
        })
    }

    /// The number of requests that wait for their answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.sender.next.wrapping_sub(self.receiver.next) as usize
    }

    pub(crate) fn send(&mut self, request: &mut Request) -> io::Result<()> {
        self.sender.send(request)
    }

    pub(crate) fn receive(&mut self) -> io::Result<Response<'_>> {
        self.receiver.receive()
    }

    /// So that one thread can send while another receives.
    pub(crate) fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    pub(crate) fn call(&mut self, mut request: Request) -> io::Result<Response<'_>> {
        self.send(&mut request)?;
        self.receive()
    }

    /// The newest version of `api` that both sides speak.
    pub(crate) fn version(&mut self, api: Api) -> io::Result<i16> {
        let mut response = self.call(Request::new(API_VERSIONS, API_VERSIONS.newest))?;
        response.no_error(API_VERSIONS.name)?;
        for _ in 0..response.length()? {
            let (key, oldest, newest) = (response.i16()?, response.i16()?, response.i16()?);
            if key == api.key && oldest <= api.newest && newest >= api.oldest {
                return Ok(newest.min(api.newest));
            }
        }
        Err(io::Error::other(format!("the broker shares no version of {} with us", api.name)))
    }

    /// Whether the broker answers ApiVersions, and Metadata with at least one broker in it.
    fn is_ready(&mut self) -> io::Result<bool> {
        let version = self.version(METADATA)?;
        let no_topics = 0;
        let brokers = self.call(Request::new(METADATA, version).i32(no_topics))?.length()?;
        Ok(brokers > 0)
    }

    /// Creates a topic with one replica.
    pub(crate) fn create_topic(
        &mut self,
        topic: &str,
        partitions: usize,
        configs: &[(&str, &str)],
    ) -> io::Result<()> {
        let version = self.version(CREATE_TOPICS)?;
        let partitions = i32::try_from(partitions).expect("few partitions");
        let mut request = Request::new(CREATE_TOPICS, version)
            .i32(1)
            .string(topic)
            .i32(partitions)
            .i16(1) // replication factor
            .i32(0) // assignments
            .i32(configs.len() as i32);
        for (key, value) in configs {
            request = request.string(key).string(value);
        }
        request = request.i32(ANSWER_TIMEOUT.as_millis() as i32);
        if version >= 1 {
            request = request.i8(0); // validate only
        }
        let mut response = self.call(request)?;
        if version >= 2 {
            response.i32()?; // throttle time
        }
        response.one()?;
        response.skip_string()?;
        response.no_error(CREATE_TOPICS.name)
    }

    pub(crate) fn delete_topic(&mut self, topic: &str) -> io::Result<()> {
        let version = self.version(DELETE_TOPICS)?;
        let request = Request::new(DELETE_TOPICS, version)
            .i32(1)
            .string(topic)
            .i32(ANSWER_TIMEOUT.as_millis() as i32);
        let mut response = self.call(request)?;
        if version >= 1 {
            response.i32()?; // throttle time
        }
        response.one()?;
        response.skip_string()?;
        response.no_error(DELETE_TOPICS.name)
    }
}

/// A Produce of one batch to one partition with acks=-1.
pub(crate) fn produce_request(topic: &str, partition: i32, batch: &[u8]) -> Request {
    produce_many_request(topic, partition..partition + 1, batch)
}

/// A Produce of the same batch to each of several partitions with acks=-1.
pub(crate) fn produce_many_request(topic: &str, partitions: Range<i32>, batch: &[u8]) -> Request {
    let request = Request::new(PRODUCE, PRODUCE.newest)
        .i16(-1) // no transactional id
        .i16(-1) // acks
        .i32(ANSWER_TIMEOUT.as_millis() as i32)
        .i32(1)
        .string(topic)
        .i32(partitions.len() as i32);
    partitions.fold(request, |request, partition| request.i32(partition).bytes(batch))
}

/// The base offset that the broker gave to the batch.
pub(crate) fn produced_offset(mut response: Response<'_>) -> io::Result<i64> {
    response.one()?;
    response.skip_string()?;
    response.one()?;
    response.i32()?; // partition
    response.no_error(PRODUCE.name)?;
    response.i64()
}

/// A Fetch of one partition that waits up to `max_wait_ms` for a first byte.
pub(crate) fn fetch_request(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> Request {
    const MAX_BYTES: i32 = 50 << 20;
    const MAX_PARTITION_BYTES: i32 = 1 << 20;
    Request::new(FETCH, FETCH.newest)
        .i32(-1) // a consumer, not a replica
        .i32(max_wait_ms)
        .i32(1) // min bytes
        .i32(MAX_BYTES)
        .i8(0) // read uncommitted
        .i32(1)
        .string(topic)
        .i32(1)
        .i32(partition)
        .i64(offset)
        .i32(MAX_PARTITION_BYTES)
}

/// The records of a fetch response: whole batches, and perhaps the front of one more.
pub(crate) fn fetched_records(mut response: Response<'_>) -> io::Result<&[u8]> {
    response.i32()?; // throttle time
    response.one()?;
    response.skip_string()?;
    response.one()?;
    response.i32()?; // partition
    response.no_error(FETCH.name)?;
    response.i64()?; // high watermark
    response.i64()?; // last stable offset
    for _ in 0..response.length()? {
        response.i64()?; // aborted transactions: producer id
        response.i64()?; // and first offset
    }
    response.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_carries_its_size_and_correlation() {
        let mut request = Request::new(METADATA, 1).i32(0);
        #[rustfmt::skip]
        let expected = [
            &[0, 0, 0, 25, 0, 3, 0, 1, 0, 0, 0, 7, 0, 11][..], b"ottla-bench", &[0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(request.frame(7), expected);
        assert_eq!(request.frame(0x0102_0304)[8..12], [1, 2, 3, 4]);
    }

    #[test]
    fn a_response_that_ends_early_or_carries_an_error_fails() {
        let whole = [
            &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1][..], // one topic, one partition
            &[0, 0, 0, 0, 0, 0],                       // partition 0, no error
            &[0, 0, 0, 0, 0, 0, 0, 42],                // base offset
        ]
        .concat();
        assert_eq!(produced_offset(Response::new(&whole)).ok(), Some(42));
        for end in 0..whole.len() {
            assert!(produced_offset(Response::new(&whole[..end])).is_err(), "{end} bytes");
        }
        let mut failed = whole.clone();
        failed[16] = 6;
        let error = produced_offset(Response::new(&failed)).map_err(|error| error.to_string());
        assert_eq!(error, Err("Produce was answered with error code 6".to_owned()));
    }
}
