//! The records of the internal topics as JSON, in the words and the order of `kafka-dump-log`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ottla_log::inspect::RecordView;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, GroupMetadataKey, GroupMetadataValue,
    OffsetCommitKey, OffsetCommitValue, TransactionLogKey, TransactionLogValue,
    consumer_protocol_subscription, group_metadata_value,
};
use ottla_protocol::{Decode, DecodeError, Decoder, decode_versioned};
use serde_json::{Value, json};

/// What is known of the records of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordDecoder {
    /// Nothing: key and value are text.
    Text,
    /// They are those of `__consumer_offsets`.
    Offsets,
    /// They are those of `__transaction_state`.
    TransactionLog,
}

impl RecordDecoder {
    /// Key and value as they are shown; `None` is not shown.
    pub(super) fn decode(self, record: &RecordView<'_>) -> (Option<String>, Option<String>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let decoded = match self {
            Self::Text => return (record.key.map(text), record.value.map(text)),
            Self::Offsets => offsets(record),
            Self::TransactionLog => transaction_log(record),
        };
        decoded.unwrap_or_else(|error| {
            let offset = record.offset;
            (Some(format!("Error at offset {offset}, skipping. {error}")), None)
        })
    }
}

type KeyAndValue = Result<(Option<String>, Option<String>), DecodeError>;

fn offsets(record: &RecordView<'_>) -> KeyAndValue {
    let mut d = Decoder::new(record.key.unwrap_or_default());
    let kind = d.i16("key type")?;
    let (key, value) = match kind {
        0 | 1 => {
            let key = OffsetCommitKey::decode(&mut d, 0)?;
            let fields = [
                ("group", json!(key.group).to_string()),
                ("topic", json!(key.topic).to_string()),
                ("partition", key.partition.to_string()),
            ];
            (fields.to_vec(), record.value.map(offset_commit).transpose()?)
        }
        2 => {
            let key = GroupMetadataKey::decode(&mut d, 0)?;
            let fields = [("group", json!(key.group).to_string())];
            (fields.to_vec(), record.value.map(group_metadata).transpose()?)
        }
        _ => return Ok((Some(unknown(kind, record)), None)),
    };
    let key = object(&[("type", quoted(kind)), ("data", object(&key))]);
    Ok((Some(key), Some(value.unwrap_or_else(|| "<DELETE>".to_owned()))))
}

fn transaction_log(record: &RecordView<'_>) -> KeyAndValue {
    let mut d = Decoder::new(record.key.unwrap_or_default());
    let kind = d.i16("key type")?;
    if kind != 0 {
        return Ok((Some(unknown(kind, record)), None));
    }
    let key = TransactionLogKey::decode(&mut d, 0)?;
    let key = object(&[("transactionalId", json!(key.transactional_id).to_string())]);
    let key = object(&[("type", quoted(kind)), ("data", key)]);
    let value = record.value.map(transaction).transpose()?;
    Ok((Some(key), Some(value.unwrap_or_else(|| "<DELETE>".to_owned()))))
}

fn unknown(kind: i16, record: &RecordView<'_>) -> String {
    format!("Unknown record type {kind} at offset {}, skipping.", record.offset)
}

fn offset_commit(bytes: &[u8]) -> Result<String, DecodeError> {
    let (version, value): (_, OffsetCommitValue<'_>) = decode_versioned(bytes)?;
    let mut fields = vec![("offset", value.offset.to_string())];
    if version >= 3 {
        fields.push(("leaderEpoch", value.leader_epoch.to_string()));
    }
    fields.push(("metadata", json!(value.metadata).to_string()));
    fields.push(("commitTimestamp", value.commit_timestamp.to_string()));
    if version == 1 {
        fields.push(("expireTimestamp", value.expire_timestamp.to_string()));
    }
    if version >= 4 && value.topic_id != Default::default() {
        fields.push(("topicId", json!(value.topic_id.to_string()).to_string()));
    }
    Ok(versioned(version, &fields))
}

fn group_metadata(bytes: &[u8]) -> Result<String, DecodeError> {
    let (version, value): (_, GroupMetadataValue<'_>) = decode_versioned(bytes)?;
    let mut fields = vec![
        ("protocolType", json!(value.protocol_type).to_string()),
        ("generation", value.generation.to_string()),
        ("protocol", json!(value.protocol).to_string()),
        ("leader", json!(value.leader).to_string()),
    ];
    if version >= 2 {
        fields.push(("currentStateTimestamp", value.current_state_timestamp.to_string()));
    }
    let of_consumers = value.protocol_type == "consumer";
    fields.push(("members", list(value.members.iter().map(|m| member(version, m, of_consumers)))));
    Ok(versioned(version, &fields))
}

fn member(
    version: i16,
    member: &group_metadata_value::MemberMetadata<'_>,
    of_consumers: bool,
) -> String {
    let mut fields = vec![("memberId", json!(member.member_id).to_string())];
    if version >= 3 {
        fields.push(("groupInstanceId", json!(member.group_instance_id).to_string()));
    }
    fields.push(("clientId", json!(member.client_id).to_string()));
    fields.push(("clientHost", json!(member.client_host).to_string()));
    if version >= 1 {
        fields.push(("rebalanceTimeout", member.rebalance_timeout.to_string()));
    }
    fields.push(("sessionTimeout", member.session_timeout.to_string()));
    let (subscribed, assigned) = (&*member.subscription, &*member.assignment);
    let shown = |bytes: &[u8], decoded: Option<String>| {
        decoded.filter(|_| of_consumers).unwrap_or_else(|| base64(Some(bytes)))
    };
    fields.push(("subscription", shown(subscribed, subscription(subscribed))));
    fields.push(("assignment", shown(assigned, assignment(assigned))));
    object(&fields)
}

fn subscription(bytes: &[u8]) -> Option<String> {
    let (version, value): (_, ConsumerProtocolSubscription<'_>) = decode_versioned(bytes).ok()?;
    let topics = list(value.topics.iter().map(|topic| json!(topic).to_string()));
    let mut fields = vec![("topics", topics), ("userData", base64(value.user_data.as_deref()))];
    if version >= 1 {
        let owned = |owned: &consumer_protocol_subscription::TopicPartition<'_>| {
            topic_partitions("partitions", &owned.topic, &owned.partitions)
        };
        fields.push(("ownedPartitions", list(value.owned_partitions.iter().map(owned))));
    }
    if version >= 2 {
        fields.push(("generationId", value.generation_id.to_string()));
    }
    if version >= 3 {
        fields.push(("rackId", json!(value.rack_id).to_string()));
    }
    Some(object(&fields))
}

fn assignment(bytes: &[u8]) -> Option<String> {
    let (_, value): (_, ConsumerProtocolAssignment<'_>) = decode_versioned(bytes).ok()?;
    let assigned = value.assigned_partitions.iter();
    let assigned = assigned.map(|a| topic_partitions("partitions", &a.topic, &a.partitions));
    let user_data = base64(value.user_data.as_deref());
    Some(object(&[("assignedPartitions", list(assigned)), ("userData", user_data)]))
}

fn transaction(bytes: &[u8]) -> Result<String, DecodeError> {
    let (version, value): (_, TransactionLogValue<'_>) = decode_versioned(bytes)?;
    let mut fields = vec![("producerId", value.producer_id.to_string())];
    let mut tagged = |name, number: i64, default: i64| {
        if version >= 1 && number != default {
            fields.push((name, number.to_string()));
        }
    };
    tagged("previousProducerId", value.previous_producer_id, -1);
    tagged("nextProducerId", value.next_producer_id, -1);
    fields.push(("producerEpoch", value.producer_epoch.to_string()));
    if version >= 1 && value.next_producer_epoch != -1 {
        fields.push(("nextProducerEpoch", value.next_producer_epoch.to_string()));
    }
    let partitions = value.transaction_partitions.as_ref().map_or("null".to_owned(), |all| {
        list(all.iter().map(|p| topic_partitions("partitionIds", &p.topic, &p.partition_ids)))
    });
    fields.push(("transactionTimeoutMs", value.transaction_timeout_ms.to_string()));
    fields.push(("transactionStatus", value.transaction_status.to_string()));
    fields.push(("transactionPartitions", partitions));
    let (updated, started) =
        (value.transaction_last_update_timestamp_ms, value.transaction_start_timestamp_ms);
    fields.push(("transactionLastUpdateTimestampMs", updated.to_string()));
    fields.push(("transactionStartTimestampMs", started.to_string()));
    if version >= 1 && value.client_transaction_version != 0 {
        fields.push(("clientTransactionVersion", value.client_transaction_version.to_string()));
    }
    Ok(versioned(version, &fields))
}

fn versioned(version: i16, fields: &[(&str, String)]) -> String {
    object(&[("version", quoted(version)), ("data", object(fields))])
}

fn topic_partitions(name: &str, topic: &str, partitions: &[i32]) -> String {
    object(&[
        ("topic", json!(topic).to_string()),
        (name, list(partitions.iter().map(i32::to_string))),
    ])
}

/// An object whose fields keep their order, which `serde_json` sorts.
fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn quoted(number: i16) -> String {
    format!("\"{number}\"")
}

fn base64(bytes: Option<&[u8]>) -> String {
    bytes.map_or(Value::Null, |bytes| Value::from(STANDARD.encode(bytes))).to_string()
}
