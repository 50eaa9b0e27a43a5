//! The requests that only scenarios of the log need: offsets, sizes on the disk, a topic's keys.
//!
//! Owns: their oldest versions that Apache Kafka 4 still speaks. Must not know: what they measure.

use std::io;
use std::net::SocketAddr;

use crate::wire::{Api, Connection, PRODUCE, Request, Response};

const LIST_OFFSETS: Api = Api { name: "ListOffsets", key: 2, oldest: 1, newest: 1 };
const DESCRIBE_LOG_DIRS: Api = Api { name: "DescribeLogDirs", key: 35, oldest: 1, newest: 1 };
const ALTER_CONFIGS: Api = Api { name: "IncrementalAlterConfigs", key: 44, oldest: 0, newest: 0 };

/// The base offsets that the broker gave to the batches of one request, by partition.
pub(crate) fn produced_offsets(mut response: Response<'_>) -> io::Result<Vec<i64>> {
    response.one()?;
    response.skip_string()?;
    let mut offsets = Vec::new();
    for _ in 0..response.length()? {
        response.i32()?; // partition
        response.no_error(PRODUCE.name)?;
        offsets.push(response.i64()?);
        response.i64()?; // log append time
    }
    Ok(offsets)
}

/// The offsets after the last record of partitions 0 to `partitions` of `topic`.
pub(crate) fn end_offsets(
    connection: &mut Connection,
    topic: &str,
    partitions: usize,
) -> io::Result<Vec<i64>> {
    const LATEST: i64 = -1;
    let mut request = Request::new(LIST_OFFSETS, LIST_OFFSETS.newest)
        .i32(-1) // a consumer, not a replica
        .i32(1)
        .string(topic)
        .i32(partitions as i32);
    for partition in 0..partitions as i32 {
        request = request.i32(partition).i64(LATEST);
    }
    let mut response = connection.call(request)?;
    response.one()?;
    response.skip_string()?;
    let mut ends = Vec::new();
    for _ in 0..response.length()? {
        response.i32()?; // partition
        response.no_error(LIST_OFFSETS.name)?;
        response.i64()?; // timestamp
        ends.push(response.i64()?);
    }
    Ok(ends)
}

/// Bytes of the segments of partitions 0 to `partitions` of `topic`, together.
pub(crate) fn log_bytes(
    connection: &mut Connection,
    topic: &str,
    partitions: usize,
) -> io::Result<u64> {
    let mut request = Request::new(DESCRIBE_LOG_DIRS, DESCRIBE_LOG_DIRS.newest)
        .i32(1)
        .string(topic)
        .i32(partitions as i32);
    for partition in 0..partitions as i32 {
        request = request.i32(partition);
    }
    let mut response = connection.call(request)?;
    response.i32()?; // throttle time
    let mut bytes = 0;
    for _ in 0..response.length()? {
        response.no_error(DESCRIBE_LOG_DIRS.name)?;
        response.skip_string()?; // directory
        for _ in 0..response.length()? {
            response.skip_string()?; // topic
            for _ in 0..response.length()? {
                response.i32()?; // partition
                bytes += u64::try_from(response.i64()?).unwrap_or(0);
                response.i64()?; // offset lag
                response.i8()?; // whether it is to be the log
            }
        }
    }
    Ok(bytes)
}

/// Sets a key of a topic.
pub(crate) fn set_topic_config(
    address: SocketAddr,
    topic: &str,
    key: &str,
    value: &str,
) -> io::Result<()> {
    const TOPIC: i8 = 2;
    const SET: i8 = 0;
    let request = Request::new(ALTER_CONFIGS, ALTER_CONFIGS.newest)
        .i32(1)
        .i8(TOPIC)
        .string(topic)
        .i32(1)
        .string(key)
        .i8(SET)
        .string(value)
        .i8(0); // not only validated
    let mut connection = Connection::open(address)?;
    let mut response = connection.call(request)?;
    response.i32()?; // throttle time
    response.one()?;
    response.no_error(ALTER_CONFIGS.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_of_an_acknowledgement_counts() {
        let partition = |error: i16, offset: i64| {
            let time = -1_i64;
            [&[0; 4][..], &error.to_be_bytes(), &offset.to_be_bytes(), &time.to_be_bytes()].concat()
        };
        let answer = |second_error| {
            let topic = [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2];
            [&topic[..], &partition(0, 15), &partition(second_error, 30)].concat()
        };
        let offsets = |bytes: &[u8]| produced_offsets(Response::new(bytes)).ok();
        assert_eq!(offsets(&answer(0)), Some(vec![15, 30]));
        assert_eq!(offsets(&answer(56)), None, "a storage error of the second partition");
    }
}
