//! What holds of every course of events.

use std::collections::{BTreeMap, BTreeSet};

use ottla_group::{Caller, GroupConfig, GroupMachine, Output, Request, Response, Token};
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    GroupMetadataValue, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    SyncGroupRequest,
};
use ottla_protocol::{ErrorCode, decode_versioned};
use proptest::prelude::*;

use crate::world::World;

/// Something a client does, or that happens. Members are picked from those that were ever told
/// their id, by number.
#[derive(Clone, Debug)]
enum Event {
    JoinNew { api_version: i16, instance: Option<u8> },
    Rejoin { member: usize, metadata: u8 },
    Sync { member: usize },
    Heartbeat { member: usize },
    Leave { member: usize },
    Commit { member: usize, offset: i64 },
    Wait { ms: u64 },
    Reload,
}

fn event() -> impl Strategy<Value = Event> {
    let member = 0..4_usize;
    let wait = prop_oneof![8 => Just(0_u64), 8 => 0..4_000_u64, 1 => 0..70_000_u64];
    prop_oneof![
        4 => (prop_oneof![Just(3_i16), Just(9)], proptest::option::of(0..2_u8))
            .prop_map(|(api_version, instance)| Event::JoinNew { api_version, instance }),
        6 => (member.clone(), prop_oneof![4 => Just(0_u8), 1 => Just(1)])
            .prop_map(|(member, metadata)| Event::Rejoin { member, metadata }),
        10 => member.clone().prop_map(|member| Event::Sync { member }),
        2 => member.clone().prop_map(|member| Event::Heartbeat { member }),
        2 => member.clone().prop_map(|member| Event::Leave { member }),
        2 => (member, 0..100_i64).prop_map(|(member, offset)| Event::Commit { member, offset }),
        6 => wait.prop_map(|ms| Event::Wait { ms }),
        1 => Just(Event::Reload),
    ]
}

/// A member as its client knows it.
#[derive(Clone)]
struct Client {
    id: String,
    instance: Option<String>,
    generation: i32,
    leads: bool,
}

/// A request that was not answered yet.
enum Asked {
    Join { instance: Option<String> },
    Sync { id: String, is_static: bool, generation: i32 },
    Other,
}

struct Course {
    world: World,
    open: BTreeMap<Token, Asked>,
    clients: Vec<Client>,
    /// Who was asked to assign in which generation, since the machine was loaded.
    leaders: BTreeMap<i32, BTreeSet<String>>,
    stored_generation: i32,
}

impl Course {
    fn new(initial_rebalance_delay_ms: i32) -> Self {
        let config = GroupConfig { initial_rebalance_delay_ms, ..GroupConfig::default() };
        Self {
            world: World::new(config),
            open: BTreeMap::new(),
            clients: Vec::new(),
            leaders: BTreeMap::new(),
            stored_generation: 0,
        }
    }

    fn play(&mut self, event: &Event) {
        match event {
            Event::JoinNew { api_version, instance } => {
                let instance = instance.map(|i| format!("i{i}"));
                self.join("", instance, *api_version, 0);
            }
            Event::Rejoin { member, metadata } => {
                if let Some(client) = self.client(*member) {
                    self.join(&client.id, client.instance, 9, *metadata);
                }
            }
            Event::Sync { member } => self.sync(*member),
            Event::Heartbeat { member } => {
                let Some(client) = self.client(*member) else { return };
                let body = HeartbeatRequest {
                    group_id: "g".into(),
                    generation_id: client.generation,
                    member_id: client.id.into(),
                    group_instance_id: client.instance.map(Into::into),
                };
                self.ask(Asked::Other, Request::Heartbeat(&body));
            }
            Event::Leave { member } => {
                let Some(client) = self.client(*member) else { return };
                let (group_id, member_id) = ("g".into(), client.id.into());
                let body = LeaveGroupRequest { group_id, member_id, ..Default::default() };
                self.ask(Asked::Other, Request::Leave { api_version: 0, body: &body });
            }
            Event::Commit { member, offset } => self.commit(*member, *offset),
            Event::Wait { ms } => self.wait(*ms),
            Event::Reload => self.reload(),
        }
    }

    fn client(&self, number: usize) -> Option<Client> {
        // The latest are the likeliest to be members still.
        self.clients.iter().rev().nth(number).cloned()
    }

    fn join(&mut self, id: &str, instance: Option<String>, api_version: i16, metadata: u8) {
        let body = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 30_000,
            member_id: id.to_owned().into(),
            group_instance_id: instance.clone().map(Into::into),
            protocol_type: "consumer".into(),
            protocols: vec![JoinGroupRequestProtocol {
                name: "range".into(),
                metadata: vec![metadata].into(),
            }],
            ..Default::default()
        };
        let caller = Caller { client_id: "c", client_host: "/h", api_version };
        let fresh = self.world.fresh();
        self.ask(Asked::Join { instance }, Request::Join { caller, fresh, body: &body });
    }

    fn sync(&mut self, member: usize) {
        let Some(client) = self.client(member) else { return };
        let is_static = client.instance.is_some();
        let assign = |to: &Client| SyncGroupRequestAssignment {
            member_id: to.id.clone().into(),
            assignment: assignment(client.generation, &to.id).into(),
        };
        let body = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: client.generation,
            member_id: client.id.clone().into(),
            group_instance_id: client.instance.map(Into::into),
            assignments: match client.leads {
                true => self.clients.iter().map(assign).collect(),
                false => Vec::new(),
            },
            ..Default::default()
        };
        let (id, is_static) = (client.id, is_static);
        let asked = Asked::Sync { id, is_static, generation: client.generation };
        self.ask(asked, Request::Sync(&body));
    }

    fn commit(&mut self, member: usize, committed_offset: i64) {
        let Some(client) = self.client(member) else { return };
        let partition = OffsetCommitRequestPartition { committed_offset, ..Default::default() };
        let topic = OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let body = OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: client.generation,
            member_id: client.id.into(),
            group_instance_id: client.instance.map(Into::into),
            topics: vec![topic],
            ..Default::default()
        };
        self.ask(Asked::Other, Request::Commit { api_version: 8, body: &body });
    }

    fn ask(&mut self, asked: Asked, request: Request<'_>) {
        let (token, output) = self.world.handle(request);
        self.open.insert(token, asked);
        self.observe(&output);
    }

    fn wait(&mut self, ms: u64) {
        let end = self.world.now_ms + ms;
        while let Some(deadline) = self.world.machine.next_deadline_ms().filter(|d| *d <= end) {
            self.world.now_ms = self.world.now_ms.max(deadline);
            let output = self.world.fire().expect("what is due fires");
            self.observe(&output);
        }
        self.world.now_ms = end;
    }

    fn reload(&mut self) {
        let (live, loaded) = (committed(&mut self.world), committed_of(&mut self.world.loaded()));
        if live.0 == "Stable" || loaded.0 == "Stable" && live.0 == "Empty" {
            assert_eq!(live, loaded, "the log does not tell what the machine knows");
        }
        assert_eq!(live.2, loaded.2, "committed offsets");
        let (left, output) = self.world.reload();
        for (token, response) in left {
            self.answered(token, &response);
        }
        assert!(
            !self.open.values().any(|asked| !matches!(asked, Asked::Other)),
            "a parked request was forgotten"
        );
        self.leaders.clear();
        self.observe(&output);
    }

    fn observe(&mut self, output: &Output) {
        for record in output.records.iter().filter(|record| record.key[..2] == [0, 2]) {
            let value = record.value.as_ref().expect("no group is deleted");
            let (_, value) = decode_versioned::<GroupMetadataValue<'_>>(value).expect("our own");
            // A static member that came back is stored in the same generation.
            assert!(value.generation >= self.stored_generation, "the generation went back");
            self.stored_generation = value.generation;
        }
        for (token, response) in &output.answers {
            self.answered(*token, response);
        }
    }

    fn answered(&mut self, token: Token, response: &Response) {
        let asked = self.open.remove(&token).expect("answered twice, or never asked");
        match (response, asked) {
            (Response::Join(r), Asked::Join { instance }) => {
                let is_id = r.error_code == 0 || r.error_code == ErrorCode::MEMBER_ID_REQUIRED.0;
                if !is_id {
                    return;
                }
                let leads = r.leader == r.member_id && r.error_code == 0;
                if !r.members.is_empty() && !r.skip_assignment {
                    self.leaders.entry(r.generation_id).or_default().insert(r.leader.to_string());
                }
                self.clients.retain(|client| client.id != r.member_id);
                let (id, generation) = (r.member_id.to_string(), r.generation_id);
                self.clients.push(Client { id, instance, generation, leads });
            }
            (Response::Sync(r), Asked::Sync { id, is_static, generation }) => {
                // A leader that its own answer did not reach assigns nothing.
                if r.error_code == 0 && !r.assignment.is_empty() {
                    // A static member keeps what its earlier id was assigned.
                    let whose = if is_static { "" } else { &id };
                    let own = assignment(generation, whose);
                    assert!(r.assignment.starts_with(&own), "{id} was assigned {:?}", r.assignment);
                }
            }
            (_, Asked::Other) => {}
            (response, _) => panic!("the wrong answer: {response:?}"),
        }
    }

    /// All timers fire until nothing is left to happen.
    fn end(&mut self) {
        for _ in 0..1_000 {
            match self.world.machine.next_deadline_ms() {
                Some(deadline) => self.wait(deadline.saturating_sub(self.world.now_ms)),
                None => break,
            }
        }
        assert_eq!(self.world.machine.next_deadline_ms(), None, "timers go on for ever");
        assert!(self.open.is_empty(), "{} requests were never answered", self.open.len());
        for (generation, leaders) in &self.leaders {
            assert!(leaders.len() == 1, "generation {generation} was assigned by {leaders:?}");
        }
    }
}

fn assignment(generation: i32, id: &str) -> Vec<u8> {
    format!("{generation}/{id}").into_bytes()
}

/// State, members and committed offsets, as operators see them.
fn committed(world: &mut World) -> (String, String, String) {
    committed_of(&mut world.machine)
}

fn committed_of(machine: &mut GroupMachine) -> (String, String, String) {
    let now = ottla_group::Now { elapsed_ms: 0, wall_ms: 0, batch_bytes_max: 0 };
    let describe = Request::Describe { api_version: 5, group_id: "g" };
    let fetch = Request::Fetch { group_id: "g", topics: None };
    let mut answer = |request| machine.handle(now, Token(0), request).answers.remove(0).1;
    let (Response::Describe(group), Response::Fetch(offsets)) = (answer(describe), answer(fetch))
    else {
        panic!("the wrong answers");
    };
    (group.group_state.to_string(), format!("{:?}", group.members), format!("{:?}", offsets.topics))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    /// Every request is answered exactly once; generations never go back; what a member is
    /// assigned is what the leader of its generation decided; and the log tells all that a stable
    /// group knows.
    #[test]
    fn every_course_of_events(
        delay_ms in prop_oneof![Just(0), Just(3_000)],
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut course = Course::new(delay_ms);
        for event in &events {
            course.play(event);
        }
        course.end();
    }
}
