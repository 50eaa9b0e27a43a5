//! What is no request at all, or is for an api or a version that is not there.

use ottla_protocol::messages::{ApiVersionsRequest, MetadataRequest, ProduceRequest};
use ottla_protocol::{ApiKey, Encoder, ErrorCode};

use super::case::{Case, Gets, Sent, frame};
use super::stage::{Stage, TARGET};
use crate::client::{batch, produce_request};

/// `socket.request.max.bytes` by default.
const REQUEST_BYTES_MAX: i32 = 104_857_600;

pub(super) fn cases(_: &Stage) -> Vec<Case> {
    let mut cases = no_frames();
    cases.extend(no_headers());
    cases.extend(no_such_version());
    cases.extend(api_versions());
    cases
}

fn no_frames() -> Vec<Case> {
    let versions = Sent::request(3, &software("hostile", "1.0"));
    let tls: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let ssh: &[u8] = b"SSH-2.0-OpenSSH_9.6\r\n";
    let http: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let garbage: Vec<u8> = (0..64_u8).map(|i| i.wrapping_mul(151).wrapping_add(97)).collect();
    let length = |len: i32| Sent::from(&len.to_be_bytes()[..]);
    vec![
        Case::closed("64 bytes of garbage", garbage),
        Case::closed("an HTTP request", http),
        Case::closed("a TLS hello, to a plain-text listener", tls),
        Case::closed("the greeting of an SSH client", ssh),
        Case::closed("a frame of no bytes", length(0)),
        Case::closed("a frame of −1 bytes", length(-1)),
        Case::closed("a frame of −2³¹ bytes", length(i32::MIN)),
        Case::closed("a frame of 2³¹−1 bytes", length(i32::MAX)),
        Case::closed("a frame over `socket.request.max.bytes`", length(REQUEST_BYTES_MAX + 1)),
        Case::new(
            "a frame of 100 MiB announced, not sent",
            length(REQUEST_BYTES_MAX),
            Gets::Nothing,
        ),
        Case::new("half a length", &[0, 0][..], Gets::Nothing),
        Case::new("half a request", &versions.bytes[..versions.bytes.len() / 2], Gets::Nothing),
        Case::new("a request byte by byte", versions.in_pieces_of(1), ErrorCode::NONE),
    ]
}

fn no_headers() -> Vec<Case> {
    let start = |api: i16, version: i16| {
        let mut e = Encoder::default();
        e.i16(api);
        e.i16(version);
        e.i32(7);
        e
    };
    let produce: i16 = ApiKey::Produce.into();
    let metadata: i16 = ApiKey::Metadata.into();
    let mut huge_client_id = start(metadata, 1);
    huge_client_id.i16(i16::MAX);
    let mut huge_tags = start(metadata, 9);
    huge_tags.i16(-1);
    huge_tags.uvarint(u32::MAX);
    let mut endless_varint = start(metadata, 9);
    endless_varint.i16(-1);
    endless_varint.buf.extend_from_slice(&[0x80; 12]);
    let mut no_text = start(metadata, 1);
    no_text.i16(2);
    no_text.buf.extend_from_slice(&[0xff, 0xfe]);
    no_text.i32(0);
    let unknown = |api: i16| {
        let mut e = start(api, 0);
        e.i16(-1);
        frame(&e.buf)
    };
    vec![
        Case::closed("an api key and nothing behind it", frame(&produce.to_be_bytes())),
        Case::closed("a header that ends in the correlation id", frame(&[0, 3, 0, 1, 0, 0])),
        Case::closed("a header that ends in the client id", frame(&huge_client_id.buf)),
        Case::closed("2³²−1 tagged fields in a header", frame(&huge_tags.buf)),
        Case::closed("a varint in a header that does not end", frame(&endless_varint.buf)),
        Case::new(
            "a client id that is not UTF-8",
            Sent::from(frame(&no_text.buf)).answered_as(ApiKey::Metadata, 1),
            Gets::Codes(Vec::new()),
        ),
        Case::closed("api key 999, which no api has", unknown(999)),
        Case::closed("api key −1", unknown(-1)),
        Case::closed("api key 32767", unknown(i16::MAX)),
        Case::closed("Vote, which only controllers of Kafka serve", unknown(ApiKey::Vote.into())),
    ]
}

fn no_such_version() -> Vec<Case> {
    let apis = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::CreateTopics,
    ];
    let mut cases = Vec::new();
    for api in apis {
        let range = api.valid_versions();
        let mut versions = vec![range.max + 1, i16::MAX, -1];
        if range.min > 0 {
            versions.push(range.min - 1);
        }
        for version in versions {
            let name = format!("{} version {version}", api.name());
            cases.push(Case::closed(name, Sent::body(api, version, |_| {})));
        }
    }
    cases
}

fn api_versions() -> Vec<Case> {
    let api = ApiKey::ApiVersions;
    let in_version_0 = |version| Sent::body(api, version, |_| {}).answered_as(api, 0);
    let failed = produce_request("nowhere", 0, 0, batch(&["lost"]));
    let acks_0 = produce_request(TARGET, 0, 0, Vec::new());
    let nothing = ProduceRequest { acks: 0, ..Default::default() };
    let versions = Sent::request(0, &ApiVersionsRequest::default());
    let metadata = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
    let mut trailing = Sent::request(1, &metadata);
    trailing.bytes.push(0);
    trailing.bytes[3] += 1;
    vec![
        Case::new(
            "ApiVersions version 99, answered in version 0",
            in_version_0(99),
            ErrorCode::UNSUPPORTED_VERSION,
        ),
        Case::new(
            "ApiVersions version −1, answered in version 0",
            in_version_0(-1),
            ErrorCode::UNSUPPORTED_VERSION,
        ),
        Case::new(
            "ApiVersions of a client with no name",
            Sent::request(3, &software("", "")),
            ErrorCode::INVALID_REQUEST,
        ),
        Case::new(
            "ApiVersions of a client whose name ends in `-`",
            Sent::request(3, &software("hostile-", "1")),
            ErrorCode::INVALID_REQUEST,
        ),
        Case::new("Metadata with a byte behind it", trailing, Gets::Codes(Vec::new())),
        Case::closed(
            "Produce with acks=0 for a topic that is not there",
            Sent::request(9, &failed),
        ),
        Case::closed("Produce with acks=0 and no batch", Sent::request(9, &acks_0)),
        Case::new(
            "Produce with acks=0 for no topic, then ApiVersions",
            Sent::request(9, &nothing).followed_by(&versions),
            ErrorCode::NONE,
        ),
    ]
}

fn software<'a>(name: &'a str, version: &'a str) -> ApiVersionsRequest<'a> {
    ApiVersionsRequest {
        client_software_name: name.into(),
        client_software_version: version.into(),
    }
}
