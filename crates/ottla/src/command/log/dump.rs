//! `ottla log dump`: the content of a log's files, line by line as `kafka-dump-log` prints it.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use ottla_log::inspect::{
    BatchReader, Entries, FileKind, IndexEntry, RecordView, Step, StoredBatch, TimeIndexEntry,
    aborted_transactions, base_offset_of, offset_entries, producers_of_snapshot, read_text,
    time_entries,
};
use ottla_record::{Codec, ControlRecord, Offset, Timestamp, TimestampType};
use ottla_runtime::disk::{Disk as _, SystemDisk};
use serde_json::{Value, json};

use super::Printer;
use super::decoders::RecordDecoder;
use crate::exit::{Failure, Outcome};

/// Read-only, also beside a running broker: a file that grows is read to where it ended, one that
/// goes is passed over.
#[derive(Args, Debug)]
pub(crate) struct Dump {
    /// Segments, indexes, snapshots, checkpoints; or directories of such files
    #[arg(required = true, value_name = "FILES", value_delimiter = ',')]
    files: Vec<PathBuf>,
    /// Print keys and values as text
    #[arg(long)]
    print_data_log: bool,
    /// Print the records of each batch; comes with printing their content
    #[arg(long)]
    deep_iteration: bool,
    /// Only tell whether an index passes the check that a broker makes when it starts
    #[arg(long)]
    index_sanity_check: bool,
    /// The largest batch that is unpacked, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 128 << 20)]
    max_message_size: u64,
    /// Decode the records of __consumer_offsets
    #[arg(long, conflicts_with = "transaction_log_decoder")]
    offsets_decoder: bool,
    /// Decode the records of __transaction_state
    #[arg(long)]
    transaction_log_decoder: bool,
    /// Print keys and values alone
    #[arg(long)]
    skip_record_metadata: bool,
    /// Print JSON objects, one per line
    #[arg(long)]
    json: bool,
}

impl Dump {
    pub(crate) fn run(self) -> Outcome {
        let files = expand(&self.files)?;
        let decoder = match (self.offsets_decoder, self.transaction_log_decoder) {
            (true, _) => RecordDecoder::Offsets,
            (_, true) => RecordDecoder::TransactionLog,
            _ => RecordDecoder::Text,
        };
        let prints_content = self.print_data_log || decoder != RecordDecoder::Text;
        let is_deep = self.deep_iteration || prints_content;
        let options = Options { decoder, prints_content, is_deep, arguments: &self };
        let mut dumping = Dumping { options, out: Printer::new(), complaints: Vec::new() };
        let mut unread = Vec::new();
        for (path, was_named) in files {
            match dumping.file(&path) {
                Ok(()) => {}
                Err(Stop::Printing(error)) => return dumping.out.finish(Err(error)),
                // Retention took it since the directory was listed.
                Err(Stop::Reading(error))
                    if !was_named && error.kind() == io::ErrorKind::NotFound => {}
                Err(Stop::Reading(error)) => unread.push(format!("{}: {error}", path.display())),
            }
        }
        let Dumping { out, complaints, .. } = dumping;
        out.finish(Ok(()))?;
        complaints.iter().for_each(|complaint| eprintln!("{complaint}"));
        if unread.is_empty() { Ok(()) } else { Err(Failure::failed(unread.join("\nottla: "))) }
    }
}

/// The files to dump, and whether each was named itself: those of a directory are.
fn expand(named: &[PathBuf]) -> Result<Vec<(PathBuf, bool)>, Failure> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push((path.clone(), true));
            continue;
        }
        let mut dirs = vec![path.clone()];
        while let Some(dir) = dirs.pop() {
            let entries = SystemDisk.read_dir(&dir).map_err(|error| {
                Failure::usage(format_args!("cannot list {}: {error}", dir.display()))
            })?;
            for entry in entries {
                let path = dir.join(&entry.name);
                if entry.is_dir && !entry.name.starts_with('.') {
                    dirs.push(path);
                } else if FileKind::of(&path).is_some() {
                    files.push((path, false));
                }
            }
        }
    }
    Ok(files)
}

/// Why a file's dump ended early.
enum Stop {
    Reading(io::Error),
    Printing(io::Error),
}

type Dumped = Result<(), Stop>;

struct Options<'a> {
    decoder: RecordDecoder,
    prints_content: bool,
    is_deep: bool,
    arguments: &'a Dump,
}

struct Dumping<'a> {
    options: Options<'a>,
    out: Printer,
    /// For standard error, behind all else: what the tool found to be inconsistent.
    complaints: Vec<String>,
}

impl Dumping<'_> {
    fn file(&mut self, path: &Path) -> Dumped {
        let name = path.display().to_string();
        if self.options.arguments.json {
            self.line(json!({ "file": name }))?;
        } else {
            self.line(format_args!("Dumping {name}"))?;
        }
        let base = base_offset_of(path).unwrap_or(Offset::ZERO);
        match FileKind::of(path) {
            Some(FileKind::Log) => self.log(path, base),
            Some(FileKind::OffsetIndex) => self.offset_index(path, base),
            Some(FileKind::TimeIndex) => self.time_index(path, base),
            Some(FileKind::TransactionIndex) => self.transaction_index(path),
            Some(FileKind::Snapshot) => self.snapshot(path),
            Some(FileKind::Checkpoint | FileKind::Text) => self.text(path),
            None => {
                self.complaints.push(format!("Ignoring unknown file {name}"));
                Ok(())
            }
        }
    }

    fn line(&mut self, line: impl std::fmt::Display) -> Dumped {
        self.out.line(line).map_err(Stop::Printing)
    }

    fn log(&mut self, path: &Path, base: Offset) -> Dumped {
        let is_json = self.options.arguments.json;
        if !is_json {
            self.line(format_args!("Log starting offset: {base}"))?;
        }
        let limit = self.options.arguments.max_message_size;
        let mut reader = BatchReader::open(&SystemDisk, path, limit).map_err(Stop::Reading)?;
        let mut gaps = Vec::new();
        let mut last = None;
        while let Some(step) = reader.step().map_err(Stop::Reading)? {
            let batch = match step {
                Step::Batch(batch) => batch,
                Step::NoBatch { position, bytes, error } => {
                    let file = path.file_name().unwrap_or_default().to_string_lossy();
                    if is_json {
                        self.line(json!({ "position": position, "invalidBytes": bytes }))?;
                    } else {
                        self.line(format_args!(
                            "Found {bytes} invalid bytes at the end of {file}"
                        ))?;
                    }
                    let path = path.display();
                    self.complaints.push(format!("{path} at byte {position}: {error}"));
                    break;
                }
            };
            self.line(if is_json { batch_json(&batch).to_string() } else { batch_line(&batch) })?;
            if self.options.is_deep {
                self.records(&reader, &batch, |offset| {
                    let previous: Option<Offset> = last.replace(offset);
                    if let Some(previous) = previous.filter(|&p| p + 1 != offset) {
                        gaps.push(format!("  {previous} is followed by {offset}"));
                    }
                })?;
            }
        }
        if !gaps.is_empty() {
            self.complaints.push(format!("Non-consecutive offsets in {}", absolute(path)));
            self.complaints.append(&mut gaps);
        }
        Ok(())
    }

    fn records(
        &mut self,
        reader: &BatchReader,
        batch: &StoredBatch,
        mut seen: impl FnMut(Offset),
    ) -> Dumped {
        let mut printed = Ok(());
        let visited = reader.visit_records(batch, |record| {
            seen(record.offset);
            if printed.is_ok() {
                let line = self.options.record(batch, record);
                printed = self.out.line(line);
            }
        });
        printed.map_err(Stop::Printing)?;
        if let Err(error) = visited.map_err(Stop::Reading)? {
            let path = reader.path().display();
            self.complaints.push(format!("{path} at byte {}: {error}", batch.position));
        }
        Ok(())
    }

    fn offset_index(&mut self, path: &Path, base: Offset) -> Dumped {
        let entries = offset_entries(&SystemDisk, path, base).map_err(Stop::Reading)?;
        if entries.file_bytes() == 0 {
            return match self.options.arguments.json {
                true => Ok(()),
                false => self.line(format_args!("{} is empty.", path.display())),
            };
        }
        if self.options.arguments.index_sanity_check {
            let position_of = |entry: &IndexEntry| (entry.offset, Timestamp::NONE);
            return self.sanity(path, base, entries, position_of);
        }
        let log = path.with_extension("log");
        let mut reader = BatchReader::open(&SystemDisk, &log, 0).map_err(Stop::Reading)?;
        let mut mismatches = Vec::new();
        for entry in entries {
            let IndexEntry { offset, position } = entry.map_err(Stop::Reading)?;
            reader.seek(position);
            match reader.step().map_err(Stop::Reading)? {
                Some(Step::Batch(batch)) if batch.last_offset() == offset => {}
                Some(Step::Batch(batch)) => mismatches
                    .push(format!("  Index offset: {offset}, log offset: {}", batch.last_offset())),
                _ => mismatches.push(format!("  Index offset: {offset}, no batch at {position}")),
            }
            if self.options.arguments.json {
                self.line(json!({ "offset": offset.0, "position": position }))?;
            } else {
                self.line(format_args!("offset: {offset} position: {position}"))?;
            }
        }
        if !mismatches.is_empty() {
            self.complaints.push(format!("Mismatches in :{}", absolute(path)));
            self.complaints.append(&mut mismatches);
        }
        Ok(())
    }

    fn time_index(&mut self, path: &Path, base: Offset) -> Dumped {
        let entries = time_entries(&SystemDisk, path, base).map_err(Stop::Reading)?;
        if self.options.arguments.index_sanity_check {
            return self.sanity(path, base, entries, |entry| (entry.offset, entry.timestamp));
        }
        let mut out_of_order = Vec::new();
        let mut previous = Timestamp::NONE;
        for entry in entries {
            let TimeIndexEntry { timestamp, offset } = entry.map_err(Stop::Reading)?;
            if timestamp <= previous {
                out_of_order.push(format!(
                    "  Index timestamp: {timestamp}, Previously indexed timestamp: {previous}"
                ));
            }
            previous = timestamp;
            if self.options.arguments.json {
                self.line(json!({ "timestamp": timestamp.0, "offset": offset.0 }))?;
            } else {
                self.line(format_args!("timestamp: {timestamp} offset: {offset}"))?;
            }
        }
        if !out_of_order.is_empty() {
            self.complaints.push(format!("Found out of order timestamp in :{}", absolute(path)));
            self.complaints.append(&mut out_of_order);
        }
        Ok(())
    }

    /// The check of a starting broker: whole entries, the last not below the base offset, and not
    /// older than the first.
    fn sanity<T: Copy>(
        &mut self,
        path: &Path,
        base: Offset,
        mut entries: Entries<T>,
        facts: impl Fn(&T) -> (Offset, Timestamp),
    ) -> Dumped {
        let surplus = entries.surplus_bytes();
        let (mut first, mut last) = (None, None);
        for entry in &mut entries {
            let entry = facts(&entry.map_err(Stop::Reading)?);
            first = first.or(Some(entry));
            last = Some(entry);
        }
        let is_sane = surplus == 0
            && first.zip(last).is_none_or(|(first, last)| last.0 >= base && last.1 >= first.1);
        let verdict = if is_sane { "passed" } else { "failed" };
        match self.options.arguments.json {
            true => self.line(json!({ "sanityCheck": verdict })),
            false => self.line(format_args!("{} {verdict} sanity check.", path.display())),
        }
    }

    fn transaction_index(&mut self, path: &Path) -> Dumped {
        for entry in aborted_transactions(&SystemDisk, path).map_err(Stop::Reading)? {
            let entry = entry.map_err(Stop::Reading)?;
            let (version, producer) = (entry.version, entry.producer_id);
            let (first, last) = (entry.first_offset, entry.last_offset);
            let stable = entry.last_stable_offset;
            if self.options.arguments.json {
                self.line(json!({
                    "version": version, "producerId": producer.0, "firstOffset": first.0,
                    "lastOffset": last.0, "lastStableOffset": stable.0,
                }))?;
            } else {
                self.line(format_args!(
                    "version: {version} producerId: {producer} firstOffset: {first} \
                     lastOffset: {last} lastStableOffset: {stable}"
                ))?;
            }
        }
        Ok(())
    }

    fn snapshot(&mut self, path: &Path) -> Dumped {
        let mut printed = Ok(());
        let visited = producers_of_snapshot(&SystemDisk, path, |producer| {
            if printed.is_err() {
                return;
            }
            let p = producer;
            printed = self.out.line(if self.options.arguments.json {
                json!({
                    "producerId": p.producer_id.0, "producerEpoch": p.producer_epoch.0,
                    "coordinatorEpoch": p.coordinator_epoch,
                    "currentTxnFirstOffset": p.current_txn_first_offset.0,
                    "lastTimestamp": p.timestamp.0, "firstSequence": p.first_sequence().0,
                    "lastSequence": p.last_sequence.0, "lastOffset": p.last_offset.0,
                    "offsetDelta": p.offset_delta,
                })
                .to_string()
            } else {
                let open = Some(p.current_txn_first_offset.0).filter(|offset| *offset >= 0);
                let mut line = format!(
                    "producerId: {} producerEpoch: {} coordinatorEpoch: {} \
                     currentTxnFirstOffset: {} lastTimestamp: {} ",
                    p.producer_id,
                    p.producer_epoch,
                    p.coordinator_epoch,
                    optional_long(open),
                    p.timestamp
                );
                // A producer of which only a marker is known has no batch.
                if p.last_offset >= Offset::ZERO {
                    line += &format!(
                        "firstSequence: {} lastSequence: {} lastOffset: {} offsetDelta: {} \
                         timestamp: {}",
                        p.first_sequence(),
                        p.last_sequence,
                        p.last_offset,
                        p.offset_delta,
                        p.timestamp
                    );
                }
                line
            });
        });
        printed.map_err(Stop::Printing)?;
        if let Err(error) = visited {
            self.complaints.push(format!("{}: {error}", path.display()));
        }
        Ok(())
    }

    fn text(&mut self, path: &Path) -> Dumped {
        let text = read_text(&SystemDisk, path).map_err(Stop::Reading)?;
        for line in text.lines() {
            if self.options.arguments.json {
                self.line(json!({ "line": line }))?;
            } else {
                self.line(line)?;
            }
        }
        Ok(())
    }
}

impl Options<'_> {
    fn record(&self, batch: &StoredBatch, record: &RecordView<'_>) -> String {
        let is_control = batch.header().is_some_and(|header| header.attributes().is_control());
        let (key, value) = match self.prints_content && !is_control {
            true => self.decoder.decode(record),
            false => (None, None),
        };
        if self.arguments.json {
            return self.record_json(record, key, value).to_string();
        }
        let mut line = String::new();
        let mut prefix = "| ";
        if !self.arguments.skip_record_metadata {
            let size = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
            line = format!(
                "{prefix}offset: {} {}: {} keySize: {} valueSize: {}",
                record.offset,
                timestamp_type(batch),
                record.timestamp,
                size(record.key),
                size(record.value)
            );
            prefix = " ";
            if let Some(sequence) = record.sequence {
                let keys: Vec<_> = record.headers.map(|header| header.key_text()).collect();
                line += &format!(" sequence: {sequence} headerKeys: [{}]", keys.join(","));
            }
            match record.control {
                Some(ControlRecord::EndTransaction(marker)) => {
                    let outcome = if marker.committed { "COMMIT" } else { "ABORT" };
                    let epoch = marker.coordinator_epoch;
                    line += &format!(" endTxnMarker: {outcome} coordinatorEpoch: {epoch}");
                }
                Some(ControlRecord::Other { control_type }) => {
                    line += &format!(" controlType: {control_type}");
                }
                None => {}
            }
        }
        if let Some(key) = key {
            line += &format!("{prefix}key: {key}");
            prefix = " ";
        }
        if let Some(value) = value {
            line += &format!("{prefix}payload: {value}");
        }
        line
    }

    fn record_json(
        &self,
        record: &RecordView<'_>,
        key: Option<String>,
        value: Option<String>,
    ) -> Value {
        let headers: Vec<_> = record.headers.map(|header| header.key_text().into_owned()).collect();
        let mut object = json!({
            "offset": record.offset.0, "timestamp": record.timestamp.0,
            "keySize": record.key.map(<[u8]>::len), "valueSize": record.value.map(<[u8]>::len),
            "sequence": record.sequence.map(|s| s.0), "headerKeys": headers,
        });
        if self.prints_content {
            object["key"] = json!(key);
            object["payload"] = json!(value);
        }
        if let Some(ControlRecord::EndTransaction(marker)) = record.control {
            object["endTxnMarker"] = json!(if marker.committed { "COMMIT" } else { "ABORT" });
            object["coordinatorEpoch"] = json!(marker.coordinator_epoch);
        }
        object
    }
}

fn batch_line(batch: &StoredBatch) -> String {
    let StoredBatch { position, size, is_valid, .. } = batch;
    let head = match batch.header() {
        None => format!("offset: {}", batch.last_offset()),
        Some(header) => {
            let attributes = header.attributes();
            let horizon = attributes.has_delete_horizon().then(|| header.base_timestamp().0);
            format!(
                "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} \
                 producerId: {} producerEpoch: {} partitionLeaderEpoch: {} isTransactional: {} \
                 isControl: {} deleteHorizonMs: {}",
                header.base_offset(),
                header.last_offset(),
                header.count(),
                header.base_sequence(),
                header.last_sequence(),
                header.producer_id(),
                header.producer_epoch(),
                header.leader_epoch(),
                attributes.is_transactional(),
                attributes.is_control(),
                optional_long(horizon)
            )
        }
    };
    format!(
        "{head} position: {position} {}: {} size: {size} magic: {} compresscodec: {} crc: {} \
         isvalid: {is_valid}",
        timestamp_type(batch),
        batch.max_timestamp(),
        batch.magic(),
        codec(batch),
        batch.crc()
    )
}

fn batch_json(batch: &StoredBatch) -> Value {
    let mut object = json!({
        "lastOffset": batch.last_offset().0, "position": batch.position, "size": batch.size,
        "magic": batch.magic(), "compressCodec": codec(batch), "crc": batch.crc(),
        "isValid": batch.is_valid, "timestampType": timestamp_type(batch),
        "maxTimestamp": batch.max_timestamp().0,
    });
    if let Some(header) = batch.header() {
        let attributes = header.attributes();
        for (name, value) in [
            ("baseOffset", json!(header.base_offset().0)),
            ("count", json!(header.count())),
            ("baseSequence", json!(header.base_sequence().0)),
            ("lastSequence", json!(header.last_sequence().0)),
            ("producerId", json!(header.producer_id().0)),
            ("producerEpoch", json!(header.producer_epoch().0)),
            ("partitionLeaderEpoch", json!(header.leader_epoch().0)),
            ("isTransactional", json!(attributes.is_transactional())),
            ("isControl", json!(attributes.is_control())),
        ] {
            object[name] = value;
        }
    }
    object
}

fn timestamp_type(batch: &StoredBatch) -> &'static str {
    match batch.timestamp_type() {
        Some(TimestampType::CreateTime) => "CreateTime",
        Some(TimestampType::LogAppendTime) => "LogAppendTime",
        None => "NoTimestampType",
    }
}

fn codec(batch: &StoredBatch) -> String {
    let id = batch.codec_id();
    Codec::from_id(id).map_or_else(|| format!("unknown({id})"), |codec| codec.name().to_owned())
}

fn optional_long(value: Option<i64>) -> String {
    value.map_or("OptionalLong.empty".to_owned(), |value| format!("OptionalLong[{value}]"))
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
