//! One request, and what it gets.

use std::borrow::Cow;
use std::fmt;

use ottla_protocol::messages::{
    ApiVersionsResponse, CreatePartitionsResponse, CreateTopicsResponse, DeleteRecordsResponse,
    DeleteTopicsResponse, DescribeConfigsResponse, FetchResponse, FindCoordinatorResponse,
    HeartbeatResponse, JoinGroupResponse, ListOffsetsResponse, MetadataResponse,
    OffsetCommitResponse, OffsetForLeaderEpochResponse, ProduceResponse,
};
use ottla_protocol::{
    ApiKey, Decode, Decoder, Encoder, ErrorCode, Request, RequestHeader, decode_response_header,
    encode_request,
};

const CORRELATION_ID: i32 = 7;

pub(super) struct Case {
    pub(super) name: Cow<'static, str>,
    /// Sent before it, over the same connection, and answered without an error.
    pub(super) before: Vec<Sent>,
    pub(super) sent: Sent,
    pub(super) gets: Gets,
    /// What Kafka answers if not the same, and why we do not.
    pub(super) kafka: Option<(Gets, &'static str)>,
}

/// Bytes for the broker.
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    /// How the answer is to be read, if there may be one.
    pub(super) answer: Option<(ApiKey, i16)>,
    /// How many bytes go out at once.
    pub(super) piece_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gets {
    /// The connection is closed without an answer.
    Closed,
    /// The client hangs up before there can be an answer.
    Nothing,
    /// No answer, though the connection stays.
    Silence,
    /// An answer with these codes, in order.
    Codes(Vec<ErrorCode>),
}

impl Gets {
    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Codes(codes) if codes.iter().all(|&code| code == ErrorCode::NONE))
    }
}

impl From<ErrorCode> for Gets {
    fn from(code: ErrorCode) -> Self {
        Self::Codes(vec![code])
    }
}

impl fmt::Display for Gets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Nothing => f.write_str("nothing: the client hangs up"),
            Self::Silence => f.write_str("no answer"),
            Self::Codes(_) if self.is_success() => f.write_str("served"),
            Self::Codes(codes) if codes.len() > 2 => {
                write!(f, "{} ({}), for each", codes[1], codes[1].0)
            }
            Self::Codes(codes) => {
                for (at, code) in codes.iter().enumerate() {
                    write!(f, "{}{code} ({})", if at > 0 { ", " } else { "" }, code.0)?;
                }
                Ok(())
            }
        }
    }
}

impl Case {
    pub(super) fn closed(name: impl Into<Cow<'static, str>>, sent: impl Into<Sent>) -> Self {
        Self::new(name, sent, Gets::Closed)
    }

    pub(super) fn new(
        name: impl Into<Cow<'static, str>>,
        sent: impl Into<Sent>,
        gets: impl Into<Gets>,
    ) -> Self {
        let (name, sent, gets) = (name.into(), sent.into(), gets.into());
        Self { name, before: Vec::new(), sent, gets, kafka: None }
    }

    pub(super) fn after(mut self, before: Sent) -> Self {
        self.before.push(before);
        self
    }

    pub(super) fn but_kafka(mut self, gets: impl Into<Gets>, why: &'static str) -> Self {
        self.kafka = Some((gets.into(), why));
        self
    }

    pub(super) fn of_kafka(&self) -> &Gets {
        self.kafka.as_ref().map_or(&self.gets, |(gets, _)| gets)
    }

    /// What a failed case tells, cut short: some answers have thousands of codes.
    pub(super) fn difference(&self, got: &Result<Gets, String>, expected: &Gets) -> String {
        format!("{}: {:.200}, not {:.200}", self.name, format!("{got:?}"), format!("{expected:?}"))
    }

    /// How many batches of one record the case leaves behind in the topics of the stage.
    pub(super) fn appends(&self) -> i64 {
        let stored = |sent: &Sent| sent.answer.is_some_and(|(api, _)| api == ApiKey::Produce);
        let before = self.before.iter().filter(|sent| stored(sent)).count();
        let last = stored(&self.sent) && self.gets.is_success();
        before as i64 + i64::from(last)
    }
}

impl Sent {
    /// A request in a frame of its own.
    pub(super) fn request<'a, R: Request<'a>>(version: i16, request: &R) -> Self {
        Self::request_of("hostile", version, request)
    }

    /// A request of the client that calls itself `client_id`.
    pub(super) fn request_of<'a, R: Request<'a>>(
        client_id: &str,
        version: i16,
        request: &R,
    ) -> Self {
        let header = RequestHeader {
            api_key: R::API_KEY.into(),
            api_version: version,
            correlation_id: CORRELATION_ID,
            client_id: Some(client_id.into()),
        };
        let frame = encode_request(&header, request, Vec::new()).expect("has this version");
        Self { answer: Some((R::API_KEY, version)), ..frame.buf.into() }
    }

    /// A request whose body is written byte by byte.
    pub(super) fn body(api: ApiKey, version: i16, write: impl FnOnce(&mut Encoder)) -> Self {
        let mut e = Encoder::default();
        let header = RequestHeader {
            api_key: api.into(),
            api_version: version,
            correlation_id: CORRELATION_ID,
            client_id: None,
        };
        header.encode(&mut e).expect("an api");
        write(&mut e);
        Self { answer: Some((api, version)), ..frame(&e.buf).into() }
    }

    pub(super) fn answered_as(self, api: ApiKey, version: i16) -> Self {
        Self { answer: Some((api, version)), ..self }
    }

    pub(super) fn in_pieces_of(self, piece_bytes: usize) -> Self {
        Self { piece_bytes, ..self }
    }

    /// The same, with `more` behind it.
    pub(super) fn followed_by(mut self, more: &Self) -> Self {
        self.bytes.extend_from_slice(&more.bytes);
        Self { answer: more.answer, ..self }
    }
}

impl From<Vec<u8>> for Sent {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, answer: None, piece_bytes: usize::MAX }
    }
}

impl From<&[u8]> for Sent {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

/// `content` with its length in front.
pub(super) fn frame(content: &[u8]) -> Vec<u8> {
    let len = i32::try_from(content.len()).expect("fits a frame");
    [&len.to_be_bytes(), content].concat()
}

/// The error codes of an answer, from the outside in.
pub(super) fn codes(frame: &[u8], answer: Option<(ApiKey, i16)>) -> Result<Vec<ErrorCode>, String> {
    let (api, version) = answer.ok_or_else(|| format!("answered with {frame:02x?}"))?;
    let mut d = Decoder::new(frame);
    let read = |d: &mut Decoder<'_>| {
        let id = decode_response_header(d, api, version)?;
        assert_eq!(id, CORRELATION_ID);
        Ok(match api {
            ApiKey::ApiVersions => vec![ApiVersionsResponse::decode(d, version)?.error_code],
            ApiKey::Produce => of_produce(&ProduceResponse::decode(d, version)?),
            ApiKey::Fetch => of_fetch(&FetchResponse::decode(d, version)?),
            ApiKey::ListOffsets => of_list_offsets(&ListOffsetsResponse::decode(d, version)?),
            ApiKey::Metadata => of_metadata(&MetadataResponse::decode(d, version)?),
            ApiKey::CreateTopics => {
                each(&CreateTopicsResponse::decode(d, version)?.topics, |t| t.error_code)
            }
            ApiKey::DeleteTopics => {
                each(&DeleteTopicsResponse::decode(d, version)?.responses, |t| t.error_code)
            }
            ApiKey::CreatePartitions => {
                each(&CreatePartitionsResponse::decode(d, version)?.results, |t| t.error_code)
            }
            ApiKey::DeleteRecords => {
                let topics = DeleteRecordsResponse::decode(d, version)?.topics;
                topics.iter().flat_map(|t| each(&t.partitions, |p| p.error_code)).collect()
            }
            ApiKey::OffsetForLeaderEpoch => {
                let topics = OffsetForLeaderEpochResponse::decode(d, version)?.topics;
                topics.iter().flat_map(|t| each(&t.partitions, |p| p.error_code)).collect()
            }
            ApiKey::DescribeConfigs => {
                each(&DescribeConfigsResponse::decode(d, version)?.results, |r| r.error_code)
            }
            ApiKey::FindCoordinator => {
                let response = FindCoordinatorResponse::decode(d, version)?;
                match &response.coordinators[..] {
                    [] => vec![response.error_code],
                    coordinators => each(coordinators, |c| c.error_code),
                }
            }
            ApiKey::JoinGroup => vec![JoinGroupResponse::decode(d, version)?.error_code],
            ApiKey::Heartbeat => vec![HeartbeatResponse::decode(d, version)?.error_code],
            ApiKey::OffsetCommit => {
                let topics = OffsetCommitResponse::decode(d, version)?.topics;
                topics.iter().flat_map(|t| each(&t.partitions, |p| p.error_code)).collect()
            }
            api => panic!("no case has {api:?}"),
        })
    };
    let codes: Result<Vec<i16>, ottla_protocol::DecodeError> = read(&mut d);
    let codes = codes.and_then(|codes| d.finish().map(|()| codes));
    codes.map(|codes| codes.into_iter().map(ErrorCode).collect()).map_err(|e| e.to_string())
}

fn each<T>(parts: &[T], code: impl Fn(&T) -> i16) -> Vec<i16> {
    parts.iter().map(code).collect()
}

fn of_produce(response: &ProduceResponse<'_>) -> Vec<i16> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions
        .map(|partition| {
            let failed = partition.error_code != 0;
            assert_eq!(failed, partition.base_offset == -1, "{partition:?}");
            partition.error_code
        })
        .collect()
}

/// The code of the whole where there is one, else those of the partitions.
fn of_fetch(response: &FetchResponse<'_>) -> Vec<i16> {
    if response.error_code != 0 {
        assert!(response.responses.is_empty());
        return vec![response.error_code];
    }
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

fn of_list_offsets(response: &ListOffsetsResponse<'_>) -> Vec<i16> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|partition| partition.error_code).collect()
}

fn of_metadata(response: &MetadataResponse<'_>) -> Vec<i16> {
    if response.error_code != 0 {
        return vec![response.error_code];
    }
    response.topics.iter().map(|topic| topic.error_code).collect()
}
