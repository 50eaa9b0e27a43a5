//! Known bytes and the rules that no schema states: headers, splices, tags, what may be left out.

use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::group_metadata_value::MemberMetadata;
use ottla_protocol::messages::*;
use ottla_protocol::{
    Coordinator, Decode, DecodeErrorKind, Decoder, Encode, EncodeErrorKind, Encoder, ErrorCode,
    IntoOwned, Records, Request, RequestHeader, Splice, decode_any_key, decode_any_request,
    decode_any_value, decode_response_header, decode_versioned, encode_key, encode_request,
    encode_response, encode_versioned,
};

fn header(api_key: ApiKey, api_version: i16) -> RequestHeader<'static> {
    let client_id = Some("me".into());
    RequestHeader { api_key: api_key.into(), api_version, correlation_id: 5, client_id }
}

#[test]
fn request_header_has_three_versions() {
    for (header, expected) in [
        (header(ApiKey::Metadata, 8), &b"\0\x03\0\x08\0\0\0\x05\0\x02me"[..]),
        // In v2 the client id is still not compact; then come the tags.
        (header(ApiKey::Metadata, 9), b"\0\x03\0\x09\0\0\0\x05\0\x02me\0"),
        // ApiVersions of a client from the future: its header must be read to answer it.
        (header(ApiKey::ApiVersions, 99), b"\0\x12\0\x63\0\0\0\x05\0\x02me\0"),
        (
            RequestHeader { client_id: None, ..header(ApiKey::ControlledShutdown, 0) },
            b"\0\x07\0\0\0\0\0\x05",
        ),
        (
            RequestHeader { client_id: None, ..header(ApiKey::ControlledShutdown, 1) },
            b"\0\x07\0\x01\0\0\0\x05\xff\xff",
        ),
    ] {
        let mut e = Encoder::default();
        header.encode(&mut e).expect("known api");
        assert_eq!(e.buf, expected);
        let mut d = Decoder::new(&e.buf);
        assert_eq!(RequestHeader::decode(&mut d), Ok(header));
        d.finish().expect("nothing follows");
    }
    let mut d = Decoder::new(b"\x7f\xff\0\0\0\0\0\x05\xff\xff");
    let kind = RequestHeader::decode(&mut d).map_err(|e| e.kind);
    assert_eq!(kind, Err(DecodeErrorKind::UnknownApiKey(0x7fff)));
}

#[test]
fn response_header_is_flexible_with_its_body_but_for_api_versions() {
    let body = ApiVersionsResponse::default();
    let e = encode_response(7, ApiKey::ApiVersions, 3, &body, vec![9; 9]).expect("v3");
    // Length, correlation id, error code, no api keys, throttle time, no tags.
    assert_eq!(e.buf, b"\0\0\0\x0c\0\0\0\x07\0\0\x01\0\0\0\0\0");
    let mut d = Decoder::new(&e.buf[4..]);
    assert_eq!(decode_response_header(&mut d, ApiKey::ApiVersions, 3), Ok(7));
    assert_eq!(ApiVersionsResponse::decode(&mut d, 3), Ok(body));

    let body = HeartbeatResponse { error_code: ErrorCode::NOT_COORDINATOR.0, throttle_time_ms: 0 };
    let e = encode_response(7, ApiKey::Heartbeat, 4, &body, Vec::new()).expect("v4");
    assert_eq!(e.buf, b"\0\0\0\x0c\0\0\0\x07\0\0\0\0\0\0\x10\0");
    let e = encode_response(7, ApiKey::Heartbeat, 0, &body, e.buf).expect("v0");
    assert_eq!(e.buf, b"\0\0\0\x06\0\0\0\x07\0\x10");
}

#[test]
fn api_versions_request_as_clients_send_it() {
    let frame = b"\0\x12\0\x03\0\0\0\x01\0\x07rdkafka\0\x0blibrdkafka\x062.6.0\0";
    let (_, body) = decode_any_request(frame).expect("librdkafka's first frame");
    let text = format!("{body:?}");
    assert!(text.contains("\"librdkafka\"") && text.contains("\"2.6.0\""), "{text}");
    let request = ApiVersionsRequest {
        client_software_name: "librdkafka".into(),
        client_software_version: "2.6.0".into(),
    };
    let header = RequestHeader {
        api_key: ApiVersionsRequest::API_KEY.into(),
        api_version: 3,
        correlation_id: 1,
        client_id: Some("rdkafka".into()),
    };
    let e = encode_request(&header, &request, Vec::new()).expect("v3");
    assert_eq!(e.buf[..4], 36u32.to_be_bytes());
    assert_eq!(&e.buf[4..], frame);
}

fn fetch_response<'a>(records: Vec<Option<Records<'a>>>) -> FetchResponse<'a> {
    let partition = |records| PartitionData { records, ..Default::default() };
    let partitions = records.into_iter().map(partition).collect();
    let topic = FetchableTopicResponse { partitions, ..Default::default() };
    FetchResponse { responses: vec![topic], ..Default::default() }
}

#[test]
fn spliced_records_leave_a_gap_of_their_length() {
    let (first, second) = ([1; 300], [2; 5]);
    let held = [Some(Records::from(&first[..])), None, Some(Records::from(&second[..]))];
    let spliced = [Some(Records::Spliced(300)), None, Some(Records::Spliced(5))];
    for version in [4, 11, 12, 17] {
        let write = |records: &[Option<Records<'_>>]| {
            let response = fetch_response(records.to_vec());
            encode_response(1, ApiKey::Fetch, version, &response, Vec::new()).expect("fits")
        };
        let whole = write(&held);
        assert!(whole.splices.is_empty());
        let head = write(&spliced);
        assert_eq!(head.splices.iter().map(|s| s.len).collect::<Vec<_>>(), [300, 5]);
        assert_eq!(head.total_len(), whole.buf.len());
        let mut joined = head.buf.clone();
        for (&Splice { at, .. }, bytes) in head.splices.iter().zip([&first[..], &second]).rev() {
            joined.splice(at..at, bytes.iter().copied());
        }
        assert_eq!(joined, whole.buf);
    }
    let none = encode_response(
        1,
        ApiKey::Fetch,
        11,
        &fetch_response(vec![Some(Records::Spliced(0))]),
        Vec::new(),
    );
    assert_eq!(none.expect("fits").splices, []);
}

#[test]
fn a_frame_of_more_than_an_int32_is_refused() {
    let half = Some(Records::Spliced(1 << 30));
    let response = fetch_response(vec![half.clone(), half]);
    let e = encode_response(1, ApiKey::Fetch, 12, &response, Vec::new()).map(|e| e.total_len());
    assert_eq!(e.map_err(|e| e.kind), Err(EncodeErrorKind::TooLong));
}

#[test]
fn decoded_records_borrow_from_the_frame() {
    let response = fetch_response(vec![Some(Records::from(&b"batches"[..]))]);
    let mut e = Encoder::default();
    response.encode(&mut e, 12).expect("v12");
    let mut d = Decoder::new(&e.buf);
    let read = FetchResponse::decode(&mut d, 12).expect("v12");
    let records = read.responses[0].partitions[0].records.as_ref().expect("present");
    let range = d.range_of(records.as_bytes().expect("held")).expect("borrowed");
    assert_eq!(&e.buf[range], b"batches");
    assert_eq!(d.range_of(b"elsewhere"), None);
    let owned: FetchResponse<'static> = read.clone().into_owned();
    assert_eq!(owned, response);
}

#[test]
fn unknown_tags_are_skipped_and_known_ones_may_come_in_any_order() {
    // No brokers, topics or cluster id; controller −1; three tags.
    let head = b"\0\0\0\0\x01\0\xff\xff\xff\xff\x01";
    let response = [&head[..], b"\x01\x05\x02hi"].concat();
    assert!(MetadataResponse::decode(&mut Decoder::new(&response), 11).is_ok());

    // Fetch v15: cluster id is tag 0, replica state tag 1 of 13 bytes; here 1, 9, 0.
    let mut e = Encoder::default();
    FetchRequest::default().encode(&mut e, 15).expect("v15");
    let count = e.buf.len() - 1;
    e.buf[count] = 3;
    e.buf.extend(b"\x01\x0d\0\0\0\x04\0\0\0\0\0\0\0\x09\0\x09\x01x\0\x02\x02c");
    let read = FetchRequest::decode(&mut Decoder::new(&e.buf), 15).expect("tags");
    assert_eq!((read.replica_state.replica_id, read.replica_state.replica_epoch), (4, 9));
    assert_eq!(read.cluster_id.as_deref(), Some("c"));

    // A known tag must fill its size: the cluster id here is one byte short of it.
    e.buf[count] = 1;
    e.buf.truncate(count + 1);
    e.buf.extend(b"\0\x03\x02cc");
    let read = FetchRequest::decode(&mut Decoder::new(&e.buf), 15).map_err(|e| e.to_string());
    assert_eq!(read, Err("FetchRequest: tagged field longer than its content".to_owned()));
    // And may not read beyond it.
    e.buf.truncate(count + 1);
    e.buf.extend(b"\0\x01\x02c");
    let read = FetchRequest::decode(&mut Decoder::new(&e.buf), 15).map_err(|e| e.to_string());
    assert_eq!(read, Err("FetchRequest.cluster_id: the bytes end too early".to_owned()));
}

#[test]
fn a_long_tagged_field_has_a_long_size() {
    let cluster_id = "c".repeat(400);
    let request = FetchRequest { cluster_id: Some(cluster_id.into()), ..Default::default() };
    let mut e = Encoder::default();
    request.encode(&mut e, 12).expect("v12");
    // Tag 0, size 402 as a varint, length 400 + 1 as a varint.
    let tail = &e.buf[e.buf.len() - 405..];
    assert_eq!(tail[..6], [0, 0x92, 0x03, 0x91, 0x03, b'c']);
    assert_eq!(FetchRequest::decode(&mut Decoder::new(&e.buf), 12), Ok(request));
}

#[test]
fn a_value_without_a_place_is_an_error_unless_it_is_ignorable() {
    let at = |request: &FetchRequest<'_>, version| {
        request.encode(&mut Encoder::default(), version).map_err(|e| e.to_string())
    };
    let rack = FetchRequest { rack_id: "r1".into(), ..Default::default() };
    assert_eq!(at(&rack, 4), Ok(()));
    let replica = FetchRequest { replica_id: 3, ..Default::default() };
    assert_eq!(at(&replica, 14), Ok(()));
    assert_eq!(
        at(&replica, 15),
        Err("FetchRequest.replica_id: has a value, which version 15 cannot carry".to_owned())
    );
    let all = MetadataRequest { topics: None, ..Default::default() };
    let e = all.encode(&mut Encoder::default(), 0).map_err(|e| e.to_string());
    assert_eq!(e, Err("MetadataRequest.topics: null is not allowed".to_owned()));
    let long = SaslHandshakeRequest { mechanism: "x".repeat(32_768).into() };
    let e = long.encode(&mut Encoder::default(), 0).map_err(|e| e.to_string());
    assert_eq!(e, Err("SaslHandshakeRequest.mechanism: too long".to_owned()));
}

#[test]
fn what_is_not_utf_8_is_replaced() {
    let read = SaslHandshakeRequest::decode(&mut Decoder::new(b"\0\x02\xffa"), 1);
    assert_eq!(read.map(|r| r.mechanism), Ok("\u{fffd}a".into()));
}

#[test]
fn decode_errors_name_the_field() {
    for (bytes, error) in [
        (&b"\0\x05ab"[..], "SaslHandshakeRequest.mechanism: the bytes end too early"),
        (b"\xff\xff", "SaslHandshakeRequest.mechanism: null is not allowed"),
        (b"\xff\xfe", "SaslHandshakeRequest.mechanism: invalid length"),
    ] {
        let read = SaslHandshakeRequest::decode(&mut Decoder::new(bytes), 1);
        assert_eq!(read.map_err(|e| e.to_string()), Err(error.to_owned()));
    }
    for (bytes, error) in [
        (
            &b"\x7f\xff\xff\xff"[..],
            "MetadataRequest.topics: more elements than the remaining bytes could hold",
        ),
        (b"\xff\xff\xff\xfe", "MetadataRequest.topics: invalid length"),
    ] {
        let read = MetadataRequest::decode(&mut Decoder::new(bytes), 1);
        assert_eq!(read.map_err(|e| e.to_string()), Err(error.to_owned()));
    }
}

#[test]
fn group_records_are_kafkas() {
    let key = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 3 };
    let bytes = encode_key(&key).expect("short");
    assert_eq!(bytes, b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
    let (record_type, read) = decode_any_key(Coordinator::Group, &bytes).expect("known");
    assert_eq!((record_type, format!("{read:?}")), (1, format!("{key:?}")));

    let value = OffsetCommitValue {
        offset: 42,
        leader_epoch: 6,
        metadata: "m".into(),
        commit_timestamp: 7,
        ..Default::default()
    };
    let bytes = encode_versioned(&value, 3).expect("v3");
    assert_eq!(bytes, b"\0\x03\0\0\0\0\0\0\0\x2a\0\0\0\x06\0\x01m\0\0\0\0\0\0\0\x07",);
    assert_eq!(decode_versioned(&bytes), Ok((3, value)));

    let member = MemberMetadata {
        member_id: "m".into(),
        client_id: "c".into(),
        client_host: "/h".into(),
        session_timeout: 9,
        subscription: b"s"[..].into(),
        assignment: b"a"[..].into(),
        ..Default::default()
    };
    let value = GroupMetadataValue {
        protocol_type: "consumer".into(),
        generation: 1,
        protocol: Some("range".into()),
        leader: None,
        members: vec![member],
        ..Default::default()
    };
    let bytes = encode_versioned(&value, 0).expect("v0");
    assert_eq!(
        bytes,
        b"\0\0\0\x08consumer\0\0\0\x01\0\x05range\xff\xff\0\0\0\x01\
          \0\x01m\0\x01c\0\x02/h\0\0\0\x09\0\0\0\x01s\0\0\0\x01a",
    );
    let (version, read) = decode_any_value(Coordinator::Group, 2, &bytes).expect("v0");
    assert_eq!((version, format!("{read:?}")), (0, format!("{value:?}")));
}

#[test]
fn transaction_records_are_kafkas() {
    let key = TransactionLogKey { transactional_id: "tx".into() };
    assert_eq!(encode_key(&key).expect("short"), b"\0\0\0\x02tx");
    let value = TransactionLogValue {
        producer_id: 1,
        producer_epoch: 2,
        transaction_timeout_ms: 3,
        transaction_status: 4,
        transaction_partitions: None,
        transaction_last_update_timestamp_ms: 5,
        transaction_start_timestamp_ms: 6,
        next_producer_epoch: 7,
        ..Default::default()
    };
    assert_eq!(
        encode_versioned(&value, 1).expect("v1"),
        b"\0\x01\0\0\0\0\0\0\0\x01\0\x02\0\0\0\x03\x04\0\
          \0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\x01\x03\x02\0\x07",
    );
    let e = encode_versioned(&value, 0).map_err(|e| e.kind);
    assert_eq!(e, Err(EncodeErrorKind::NotInVersion(0)));
}

#[test]
fn the_same_record_type_differs_by_coordinator() {
    let (_, group) = decode_any_key(Coordinator::Group, b"\0\0\0\x01g\0\x01t\0\0\0\0").expect("0");
    assert!(format!("{group:?}").starts_with("LegacyOffsetCommitKey"));
    let (_, transaction) = decode_any_key(Coordinator::Transaction, b"\0\0\0\x02tx").expect("0");
    assert!(format!("{transaction:?}").starts_with("TransactionLogKey"));
    let unknown = decode_any_key(Coordinator::Transaction, b"\0\x09").map(|(key, _)| key);
    assert_eq!(unknown.map_err(|e| e.kind), Err(DecodeErrorKind::UnknownRecordType(9)));
}

#[test]
fn api_keys() {
    assert_eq!(ApiKey::from_i16(1), Some(ApiKey::Fetch));
    assert_eq!(ApiKey::from_i16(-1), None);
    assert_eq!(ApiKey::LeaderAndIsr.name(), "LeaderAndIsr");
    for &api_key in ApiKey::ALL {
        assert_eq!(ApiKey::from_i16(api_key.into()), Some(api_key));
        let versions = api_key.valid_versions();
        assert!(versions.min <= versions.max, "{api_key:?}");
    }
    let range = |api_key: ApiKey| (api_key.valid_versions().min, api_key.valid_versions().max);
    // Served low for old clients, high for new ones; no version that Kafka calls unstable.
    for (api_key, versions) in [
        (ApiKey::Produce, (3, 13)),
        (ApiKey::Fetch, (4, 18)),
        (ApiKey::ListOffsets, (0, 11)),
        (ApiKey::Metadata, (0, 13)),
        (ApiKey::LeaderAndIsr, (0, 7)),
        (ApiKey::OffsetCommit, (0, 10)),
        (ApiKey::OffsetFetch, (0, 10)),
        (ApiKey::InitProducerId, (0, 5)),
        (ApiKey::AlterPartition, (0, 3)),
    ] {
        assert_eq!(range(api_key), versions, "{api_key:?}");
    }
}
