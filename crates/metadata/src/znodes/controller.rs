//! The cluster's own znodes: its id, its controller, its features, its producer ids.

use std::collections::BTreeMap;

use ottla_record::{BrokerId, ProducerId};
use serde::{Deserialize, Serialize};

use super::{Malformed, from_json, malformed, number, to_json};

#[derive(Serialize, Deserialize)]
struct ClusterIdJson {
    #[serde(default)]
    version: String,
    id: String,
}

/// `/cluster/id`: the version is a text.
#[must_use]
pub fn encode_cluster_id(id: &str) -> Vec<u8> {
    to_json(&ClusterIdJson { version: "1".to_owned(), id: id.to_owned() })
}

/// Reads `/cluster/id`.
pub fn decode_cluster_id(data: &[u8]) -> Result<String, Malformed> {
    from_json::<ClusterIdJson>("a cluster id", data).map(|json| json.id)
}

/// `/controller`, version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControllerZnode {
    /// The active controller.
    pub broker: BrokerId,
    /// When it was elected, in milliseconds since 1970-01-01 UTC; −1 where that is not told.
    pub timestamp_ms: i64,
}

#[derive(Serialize)]
struct ControllerJson {
    version: i32,
    brokerid: i32,
    timestamp: String,
    #[serde(rename = "kraftControllerEpoch")]
    kraft_controller_epoch: i32,
}

#[derive(Deserialize)]
struct ControllerRead {
    brokerid: i32,
    timestamp: Option<String>,
}

impl ControllerZnode {
    /// Kafka's text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(&ControllerJson {
            version: 2,
            brokerid: self.broker.0,
            timestamp: self.timestamp_ms.to_string(),
            kraft_controller_epoch: -1,
        })
    }

    /// Reads any version.
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        let json: ControllerRead = from_json("a controller", data)?;
        let timestamp_ms = json.timestamp.and_then(|text| text.parse().ok()).unwrap_or(-1);
        Ok(Self { broker: BrokerId(json.brokerid), timestamp_ms })
    }
}

/// `/controller_epoch`: a decimal text.
#[must_use]
pub fn encode_controller_epoch(epoch: i32) -> Vec<u8> {
    epoch.to_string().into_bytes()
}

/// Reads `/controller_epoch`.
pub fn decode_controller_epoch(data: &[u8]) -> Result<i32, Malformed> {
    let fail = malformed("a controller epoch");
    let text = std::str::from_utf8(data).map_err(|_| fail("not UTF-8"))?;
    text.parse().map_err(|_| fail(text))
}

/// `/latest_producer_id_block`: some producer ids, given to one broker to hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The broker that hands them out.
    pub broker: BrokerId,
    /// The first id.
    pub first: ProducerId,
    /// The last id, which belongs to the block.
    pub last: ProducerId,
}

#[derive(Serialize, Deserialize)]
struct ProducerIdBlockJson {
    #[serde(default)]
    version: i32,
    broker: i32,
    block_start: String,
    block_end: String,
}

impl ProducerIdBlock {
    /// How many ids a block has.
    pub const SIZE: i64 = 1000;

    /// The block that follows on `latest`; `None` where there are no more ids.
    #[must_use]
    pub fn next(latest: Option<Self>, broker: BrokerId) -> Option<Self> {
        let first = match latest {
            None => 0,
            Some(block) => block.last.0.checked_add(1)?,
        };
        let last = first.checked_add(Self::SIZE - 1)?;
        Some(Self { broker, first: ProducerId(first), last: ProducerId(last) })
    }

    /// Kafka's text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_json(&ProducerIdBlockJson {
            version: 1,
            broker: self.broker.0,
            block_start: self.first.to_string(),
            block_end: self.last.to_string(),
        })
    }

    /// Reads the block. A node without data is not one: it stands for "no block yet".
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "a producer id block";
        let json: ProducerIdBlockJson = from_json(WHAT, data)?;
        let first = number(WHAT, &json.block_start)?;
        let last = number(WHAT, &json.block_end)?;
        if first < 0 || last < first {
            return Err(malformed(WHAT)("its end is before its start"));
        }
        Ok(Self { broker: BrokerId(json.broker), first: ProducerId(first), last: ProducerId(last) })
    }
}

/// Whether the features of `/feature` count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureStatus {
    /// They do not: an older version wrote them.
    Disabled,
    /// They do.
    Enabled,
}

/// `/feature`, version 2. Its epoch is the version of its znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    /// Whether they count.
    pub status: FeatureStatus,
    /// The finalized level of each feature.
    pub max_version_levels: BTreeMap<String, i16>,
}

#[derive(Serialize, Deserialize)]
struct FeaturesJson {
    version: i32,
    status: i32,
    #[serde(default)]
    features: BTreeMap<String, FeatureJson>,
}

#[derive(Serialize, Deserialize)]
struct FeatureJson {
    max_version_level: i16,
}

impl Features {
    /// Kafka's text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let feature = |(name, &max_version_level): (&String, &i16)| {
            (name.clone(), FeatureJson { max_version_level })
        };
        to_json(&FeaturesJson {
            version: 2,
            status: i32::from(self.status == FeatureStatus::Enabled),
            features: self.max_version_levels.iter().map(feature).collect(),
        })
    }

    /// Reads version 1 (which also tells a lowest level) and 2.
    pub fn decode(data: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "finalized features";
        let json: FeaturesJson = from_json(WHAT, data)?;
        let status = match json.status {
            0 => FeatureStatus::Disabled,
            1 => FeatureStatus::Enabled,
            _ => return Err(malformed(WHAT)("unknown status")),
        };
        let level = |(name, json): (String, FeatureJson)| (name, json.max_version_level);
        Ok(Self { status, max_version_levels: json.features.into_iter().map(level).collect() })
    }
}
