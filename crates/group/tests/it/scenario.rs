//! Scenarios in text: `> command` lines, each followed by what came of it.
//!
//! `UPDATE_SCENARIOS=1` rewrites what is expected; the difference is then to be reviewed. Random
//! ids are written `#1`, `#2`… in the order in which they were made.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use ottla_group::{Caller, FetchTopic, GroupConfig, Output, Record, Request, Response, Token};
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    ConsumerProtocolSubscription, GroupMetadataKey, GroupMetadataValue, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitKey, OffsetCommitRequest,
    OffsetCommitValue, OffsetDeleteRequest, SyncGroupRequest,
};
use ottla_protocol::{Decode, Decoder, ErrorCode, decode_versioned, encode_versioned};
use ottla_record::Uuid;

use crate::world::World;

/// Plays `cases/<name>.txt` and compares.
pub(crate) fn check(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/cases/{name}.txt"));
    let expected = std::fs::read_to_string(&path).expect("a scenario");
    let actual = play(&expected);
    if std::env::var_os("UPDATE_SCENARIOS").is_some() {
        std::fs::write(&path, actual).expect("the scenario can be written");
        return;
    }
    for (line, (expected, actual)) in expected.lines().zip(actual.lines()).enumerate() {
        assert_eq!(expected, actual, "{name}.txt:{}", line + 1);
    }
    assert_eq!(expected, actual, "{name}.txt");
}

fn play(script: &str) -> String {
    let mut player = Player { world: World::new(GroupConfig::default()), text: String::new() };
    for line in script.lines() {
        if line.is_empty() || line.starts_with('#') {
            player.line(line);
        } else if let Some(command) = line.strip_prefix("> ") {
            player.line(line);
            player.command(&Args::parse(command));
        }
    }
    player.text
}

/// A command: its verb, and `name=value` for the rest.
struct Args<'a> {
    verb: &'a str,
    named: BTreeMap<&'a str, String>,
}

impl<'a> Args<'a> {
    fn parse(command: &'a str) -> Self {
        let mut words = command.split_whitespace();
        let verb = words.next().expect("a verb");
        let pair = |word: &'a str| word.split_once('=').expect("name=value");
        let named = words.map(pair).map(|(name, value)| (name, expand(value))).collect();
        Self { verb, named }
    }

    fn text(&self, name: &str, default: &str) -> String {
        self.named.get(name).map_or_else(|| default.to_owned(), Clone::clone)
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        let parse = |text: &String| text.parse().unwrap_or_else(|_| panic!("{name}={text}"));
        self.named.get(name).map_or(default, parse)
    }

    /// `a:1,b:2` as pairs; the second is "" where there is none.
    fn pairs(&self, name: &str, default: &str) -> Vec<(String, String)> {
        let text = self.text(name, default);
        let items = text.split(',').filter(|item| !item.is_empty());
        let pair = |item: &str| {
            let (a, b) = item.split_once(':').unwrap_or((item, ""));
            (a.to_owned(), b.to_owned())
        };
        items.map(pair).collect()
    }

    fn instance(&self) -> Option<std::borrow::Cow<'static, str>> {
        self.named.get("instance").map(|text| text.clone().into())
    }
}

const UUID_HEAD: &str = "00000000-0000-4000-8000-";

fn expand(text: &str) -> String {
    match text.split_once('#') {
        None => text.to_owned(),
        Some((before, after)) => {
            let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let number: u64 = after[..digits].parse().expect("a number after #");
            format!("{before}{UUID_HEAD}{number:012x}{}", expand(&after[digits..]))
        }
    }
}

fn shorten(text: &str) -> String {
    match text.split_once(UUID_HEAD) {
        None => text.to_owned(),
        Some((before, after)) => {
            let number = u64::from_str_radix(&after[..12], 16).expect("the rest of the id");
            format!("{before}#{number}{}", shorten(&after[12..]))
        }
    }
}

struct Player {
    world: World,
    text: String,
}

impl Player {
    fn line(&mut self, line: impl AsRef<str>) {
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    fn command(&mut self, args: &Args<'_>) {
        match args.verb {
            "config" => self.config(args),
            "wait" => self.wait(args.number("ms", 0)),
            "reload" => {
                let (left, output) = self.world.reload();
                left.iter().for_each(|(token, response)| self.answer(*token, response));
                self.output(None, &output);
            }
            "join" => self.join(args),
            "sync" => self.sync(args),
            "heartbeat" => self.heartbeat(args),
            "leave" => self.leave(args),
            "commit" => self.commit(args),
            "fetch" => self.fetch(args),
            "describe" => {
                let group_id = &args.text("group", "g");
                self.request(Request::Describe { api_version: args.number("v", 5), group_id });
            }
            "list" => self.request(Request::List),
            "delete" => self.request(Request::Delete { group_id: &args.text("group", "g") }),
            "topics-deleted" => {
                let topics = args.pairs("topics", "t");
                let topics: Vec<&str> = topics.iter().map(|(topic, _)| topic.as_str()).collect();
                self.request(Request::TopicsDeleted(&topics));
            }
            "delete-offsets" => self.delete_offsets(args),
            "next" => {
                let next = self.world.machine.next_deadline_ms();
                let text = next.map_or("nothing".to_owned(), |ms| format!("{ms}"));
                self.line(format!("next deadline: {text}, now: {}", self.world.now_ms));
            }
            verb => panic!("{verb}?"),
        }
    }

    fn config(&mut self, args: &Args<'_>) {
        let config = &mut self.world.config;
        config.max_size = args.number("max-size", config.max_size);
        config.max_groups = args.number("max-groups", config.max_groups);
        config.max_pending_members = args.number("max-pending", config.max_pending_members);
        config.initial_rebalance_delay_ms = args.number("delay", config.initial_rebalance_delay_ms);
        config.offset_metadata_max_bytes =
            args.number("metadata", config.offset_metadata_max_bytes);
        self.world.batch_bytes_max = args.number("batch", self.world.batch_bytes_max);
        self.command(&Args { verb: "reload", named: BTreeMap::new() });
    }

    fn wait(&mut self, ms: u64) {
        let end = self.world.now_ms + ms;
        while let Some(deadline) = self.world.machine.next_deadline_ms().filter(|d| *d <= end) {
            self.world.now_ms = self.world.now_ms.max(deadline);
            let Some(output) = self.world.fire() else { break };
            self.line(format!("at {}:", self.world.now_ms));
            self.output(None, &output);
        }
        self.world.now_ms = end;
    }

    fn join(&mut self, args: &Args<'_>) {
        let subscriptions = args.pairs("subscription", "");
        let metadata = |text: &str| match subscriptions.is_empty() {
            true => text.as_bytes().to_vec(),
            false => subscription(&subscriptions),
        };
        let protocols = args.pairs("protocols", "range:m");
        let body = JoinGroupRequest {
            group_id: args.text("group", "g").into(),
            session_timeout_ms: args.number("session", 10_000),
            rebalance_timeout_ms: args.number("rebalance", 60_000),
            member_id: args.text("member", "").into(),
            group_instance_id: args.instance(),
            protocol_type: args.text("type", "consumer").into(),
            protocols: protocols
                .iter()
                .map(|(name, text)| JoinGroupRequestProtocol {
                    name: name.as_str().into(),
                    metadata: metadata(text).into(),
                })
                .collect(),
            ..Default::default()
        };
        let client_id = &args.text("client", "c");
        let api_version = args.number("v", 9);
        let caller = Caller { client_id, client_host: "/127.0.0.1", api_version };
        let fresh = self.world.fresh();
        self.request(Request::Join { caller, fresh, body: &body });
    }

    fn sync(&mut self, args: &Args<'_>) {
        let assignments = args.pairs("assign", "");
        self.request(Request::Sync(&SyncGroupRequest {
            group_id: args.text("group", "g").into(),
            generation_id: args.number("generation", 1),
            member_id: args.text("member", "").into(),
            group_instance_id: args.instance(),
            protocol_type: args.named.get("type").map(|text| text.clone().into()),
            protocol_name: args.named.get("protocol").map(|text| text.clone().into()),
            assignments: assignments
                .iter()
                .map(|(member, assignment)| SyncGroupRequestAssignment {
                    member_id: member.as_str().into(),
                    assignment: assignment.as_bytes().into(),
                })
                .collect(),
        }));
    }

    fn heartbeat(&mut self, args: &Args<'_>) {
        self.request(Request::Heartbeat(&HeartbeatRequest {
            group_id: args.text("group", "g").into(),
            generation_id: args.number("generation", 1),
            member_id: args.text("member", "").into(),
            group_instance_id: args.instance(),
        }));
    }

    fn leave(&mut self, args: &Args<'_>) {
        let identity = |(member, instance): (String, String)| MemberIdentity {
            member_id: member.into(),
            group_instance_id: (!instance.is_empty()).then(|| instance.into()),
            reason: args.named.get("reason").map(|text| text.clone().into()),
        };
        self.request(Request::Leave {
            api_version: args.number("v", 5),
            body: &LeaveGroupRequest {
                group_id: args.text("group", "g").into(),
                member_id: args.text("member", "").into(),
                members: args.pairs("members", "").into_iter().map(identity).collect(),
            },
        });
    }

    fn commit(&mut self, args: &Args<'_>) {
        let metadata = args.text("metadata", "");
        let partition = |offset: &str| OffsetCommitRequestPartition {
            partition_index: args.number("partition", 0),
            committed_offset: offset.parse().expect("topic:offset"),
            committed_leader_epoch: args.number("epoch", -1),
            commit_timestamp: args.number("timestamp", -1),
            committed_metadata: Some(metadata.as_str().into()),
        };
        let offsets = args.pairs("offsets", "t:1");
        let topics = offsets.iter().map(|(topic, offset)| OffsetCommitRequestTopic {
            name: topic.as_str().into(),
            partitions: vec![partition(offset)],
            ..Default::default()
        });
        self.request(Request::Commit {
            api_version: args.number("v", 8),
            body: &OffsetCommitRequest {
                group_id: args.text("group", "g").into(),
                generation_id_or_member_epoch: args.number("generation", -1),
                member_id: args.text("member", "").into(),
                group_instance_id: args.instance(),
                retention_time_ms: args.number("retention", -1),
                topics: topics.collect(),
            },
        });
    }

    fn fetch(&mut self, args: &Args<'_>) {
        let asked = args.pairs("topics", "");
        let topic = |name| FetchTopic { name, topic_id: Uuid::ZERO, partitions: &[0, 1] };
        let topics: Vec<FetchTopic<'_>> =
            asked.iter().map(|(name, _)| topic(name.as_str())).collect();
        let topics = (!topics.is_empty()).then_some(&topics[..]);
        self.request(Request::Fetch { group_id: &args.text("group", "g"), topics });
    }

    fn delete_offsets(&mut self, args: &Args<'_>) {
        let topics = args.pairs("topics", "t").into_iter().map(|(name, _)| {
            let partitions = vec![OffsetDeleteRequestPartition { partition_index: 0 }];
            OffsetDeleteRequestTopic { name: name.into(), partitions }
        });
        self.request(Request::OffsetDelete(&OffsetDeleteRequest {
            group_id: args.text("group", "g").into(),
            topics: topics.collect(),
        }));
    }

    fn request(&mut self, request: Request<'_>) {
        let (token, output) = self.world.handle(request);
        self.output(Some(token), &output);
    }

    fn output(&mut self, asked: Option<Token>, output: &Output) {
        for (group, note) in &output.notes {
            self.line(format!("  note {group}: {}", shorten(note)));
        }
        for record in &output.records {
            self.line(format!("  record {}", shorten(&show_record(record))));
        }
        for (token, response) in &output.answers {
            self.answer(*token, response);
        }
        if let Some(token) = asked
            && output.answers.iter().all(|(answered, _)| *answered != token)
        {
            self.line(format!("  {}: parked", token.0));
        }
    }

    fn answer(&mut self, token: Token, response: &Response) {
        self.line(format!("  {}: {}", token.0, shorten(&show(response))));
    }
}

fn subscription(topics: &[(String, String)]) -> Vec<u8> {
    let topics = topics.iter().map(|(topic, _)| topic.as_str().into()).collect();
    let subscription = ConsumerProtocolSubscription { topics, ..Default::default() };
    encode_versioned(&subscription, 1).expect("a subscription")
}

fn show(response: &Response) -> String {
    let code = |code: i16| ErrorCode(code).to_string();
    match response {
        Response::Join(r) => show_join(r),
        Response::Sync(r) if r.error_code != 0 => code(r.error_code),
        Response::Sync(r) => format!(
            "assigned {} in {} {}",
            bytes(&r.assignment),
            r.protocol_type.as_deref().unwrap_or("-"),
            r.protocol_name.as_deref().unwrap_or("-")
        ),
        Response::Heartbeat(r) => code(r.error_code),
        Response::Leave(r) => {
            let member = |m: &_| show_left(m);
            let members: Vec<String> = r.members.iter().map(member).collect();
            format!("{} [{}]", code(r.error_code), members.join(", "))
        }
        Response::Commit(r) => {
            let partition = |t: &str, p: i32, e: i16| format!("{t}-{p} {}", code(e));
            let topics = r.topics.iter().flat_map(|t| {
                t.partitions.iter().map(|p| partition(&t.name, p.partition_index, p.error_code))
            });
            topics.collect::<Vec<_>>().join(", ")
        }
        Response::Fetch(r) => {
            let topics = r.topics.iter().flat_map(|t| {
                t.partitions.iter().map(|p| {
                    let (index, offset) = (p.partition_index, p.committed_offset);
                    let epoch = p.committed_leader_epoch;
                    let metadata = p.metadata.as_deref().unwrap_or("null");
                    format!("{}-{index} {offset} epoch {epoch} {metadata:?}", t.name)
                })
            });
            format!("{} [{}]", code(r.error_code), topics.collect::<Vec<_>>().join(", "))
        }
        Response::Describe(r) => {
            let mut text =
                format!("{} {} {:?}", code(r.error_code), r.group_state, r.protocol_type);
            write!(text, " {:?}", r.protocol_data).expect("a string");
            for m in &r.members {
                let instance = m.group_instance_id.as_deref().unwrap_or("-");
                let (metadata, assignment) =
                    (bytes(&m.member_metadata), bytes(&m.member_assignment));
                let (id, client, host) = (&m.member_id, &m.client_id, &m.client_host);
                write!(text, "\n    {id} {instance} {client} {host} {metadata} {assignment}")
                    .expect("a string");
            }
            text
        }
        Response::List(groups) => {
            let group = |g: &ottla_protocol::messages::list_groups_response::ListedGroup<'_>| {
                format!("{} {:?} {} {}", g.group_id, g.protocol_type, g.group_state, g.group_type)
            };
            format!("[{}]", groups.iter().map(group).collect::<Vec<_>>().join(", "))
        }
        Response::Delete(error) => error.to_string(),
        Response::TopicsDeleted(count) => format!("{count} offsets"),
        Response::OffsetDelete(r) => {
            let topics = r.topics.iter().flat_map(|t| {
                t.partitions
                    .iter()
                    .map(|p| format!("{}-{} {}", t.name, p.partition_index, code(p.error_code)))
            });
            format!("{} [{}]", code(r.error_code), topics.collect::<Vec<_>>().join(", "))
        }
    }
}

fn show_join(r: &JoinGroupResponse<'_>) -> String {
    if r.error_code != 0 {
        assert_eq!((r.generation_id, r.members.len(), &*r.leader), (-1, 0, ""));
        return format!("{} member {:?}", ErrorCode(r.error_code), r.member_id);
    }
    let member =
        |m: &ottla_protocol::messages::join_group_response::JoinGroupResponseMember<'_>| {
            let instance = m.group_instance_id.as_ref().map_or(String::new(), |i| format!("({i})"));
            format!("{}{instance}={}", m.member_id, bytes(&m.metadata))
        };
    let members: Vec<String> = r.members.iter().map(member).collect();
    format!(
        "joined {} as {} of {} {}, leader {}{} [{}]",
        r.generation_id,
        r.member_id,
        r.protocol_type.as_deref().unwrap_or("-"),
        r.protocol_name.as_deref().unwrap_or("-"),
        r.leader,
        if r.skip_assignment { ", skip assignment" } else { "" },
        members.join(", ")
    )
}

fn show_left(m: &ottla_protocol::messages::leave_group_response::MemberResponse<'_>) -> String {
    let instance = m.group_instance_id.as_ref().map_or(String::new(), |i| format!("({i})"));
    format!("{}{instance} {}", m.member_id, ErrorCode(m.error_code))
}

fn show_record(record: &Record) -> String {
    let mut d = Decoder::new(&record.key);
    match d.i16("type").expect("a record type") {
        1 => {
            let key = OffsetCommitKey::decode(&mut d, 0).expect("a key");
            let name = format!("offset {} {}-{}", key.group, key.topic, key.partition);
            let Some(value) = &record.value else { return format!("{name} deleted") };
            let (version, v) = decode_versioned::<OffsetCommitValue<'_>>(value).expect("a value");
            let times = (v.commit_timestamp, v.expire_timestamp);
            format!(
                "{name} v{version}: {} epoch {} {:?} at {} until {}",
                v.offset, v.leader_epoch, v.metadata, times.0, times.1
            )
        }
        2 => {
            let key = GroupMetadataKey::decode(&mut d, 0).expect("a key");
            let Some(value) = &record.value else { return format!("group {} deleted", key.group) };
            let (version, v) = decode_versioned::<GroupMetadataValue<'_>>(value).expect("a value");
            let mut text = format!(
                "group {} v{version}: {:?} generation {} protocol {} leader {} since {}",
                key.group,
                v.protocol_type,
                v.generation,
                v.protocol.as_deref().unwrap_or("-"),
                v.leader.as_deref().unwrap_or("-"),
                v.current_state_timestamp
            );
            for m in &v.members {
                let instance = m.group_instance_id.as_deref().unwrap_or("-");
                write!(text, "\n    {} {instance} {} {}", m.member_id, m.client_id, m.client_host)
                    .and_then(|()| write!(text, " {} {}", m.session_timeout, m.rebalance_timeout))
                    .and_then(|()| {
                        write!(text, " {} {}", bytes(&m.subscription), bytes(&m.assignment))
                    })
                    .expect("a string");
            }
            text
        }
        other => panic!("record type {other}"),
    }
}

fn bytes(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}
