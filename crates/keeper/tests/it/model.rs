//! The machine against a naive model: a map that is copied for each multi and searched for
//! children.

use std::collections::BTreeMap;

use ottla_keeper::machine::{decode_tree, encode_tree};
use ottla_keeper::{
    ANY_VERSION, Caller, Command, CreateMode, Error, Failure, Op, Password, Reply, Request,
    SessionId, Stat, Tree, Written,
};
use proptest::prelude::*;

const TIMEOUT_MS: u32 = 4_000;

#[derive(Clone)]
struct ModelNode {
    data: Option<Vec<u8>>,
    stat: Stat,
    creates: i32,
}

#[derive(Clone)]
struct Model {
    nodes: BTreeMap<String, ModelNode>,
    /// Each with the number of its last attachment, and its password.
    sessions: BTreeMap<i64, (i64, Password)>,
    zxid: i64,
    attachments: i64,
}

impl Model {
    fn new() -> Self {
        let mut model =
            Self { nodes: BTreeMap::new(), sessions: BTreeMap::new(), zxid: 0, attachments: 0 };
        for path in ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
            model.put(path, Some(Vec::new()), SessionId::NONE, 0);
            if path != "/" {
                model.nodes.get_mut(parent(path)).unwrap().creates = 0;
            }
        }
        model
    }

    fn put(&mut self, path: &str, data: Option<Vec<u8>>, owner: SessionId, time_ms: i64) {
        let stat = Stat {
            czxid: self.zxid,
            mzxid: self.zxid,
            pzxid: self.zxid,
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            version: 0,
            cversion: 0,
            // Nobody may write where ZooKeeper tells who votes.
            aversion: if path == "/zookeeper/config" { -1 } else { 0 },
            ephemeral_owner: owner,
            data_length: 0,
            num_children: 0,
        };
        self.nodes.insert(path.to_owned(), ModelNode { data, stat, creates: 0 });
    }

    fn children(&self, path: &str) -> Vec<String> {
        let prefix = if path == "/" { "/".to_owned() } else { format!("{path}/") };
        let below = self.nodes.keys().filter_map(|other| other.strip_prefix(&prefix));
        below.filter(|name| !name.is_empty() && !name.contains('/')).map(str::to_owned).collect()
    }

    fn stat(&self, path: &str) -> Stat {
        let node = &self.nodes[path];
        let children = self.children(path).len() as i32;
        Stat {
            cversion: 2 * node.creates - children,
            num_children: children,
            data_length: node.data.as_ref().map_or(0, Vec::len) as i32,
            ..node.stat
        }
    }

    fn versioned(&mut self, path: &str, version: i32) -> Result<&mut ModelNode, Error> {
        let node = self.nodes.get_mut(path).ok_or(Error::NoNode)?;
        if version == ANY_VERSION || version == node.stat.version {
            Ok(node)
        } else {
            Err(Error::BadVersion)
        }
    }

    fn delete(&mut self, path: &str) {
        self.nodes.remove(path);
        self.nodes.get_mut(parent(path)).unwrap().stat.pzxid = self.zxid;
    }

    fn op(&mut self, op: &Op, session: SessionId, time_ms: i64) -> Result<Written, Error> {
        match op {
            Op::Create { path, data, mode, .. } => {
                let up = self.nodes.get(parent(path)).ok_or(Error::NoNode)?.clone();
                let number = if mode.is_sequential() {
                    format!("{:010}", up.creates)
                } else {
                    String::new()
                };
                let path = format!("{path}{number}");
                if self.nodes.contains_key(&path) {
                    return Err(Error::NodeExists);
                }
                if up.stat.ephemeral_owner != SessionId::NONE {
                    return Err(Error::NoChildrenForEphemerals);
                }
                let owner = if mode.is_ephemeral() { session } else { SessionId::NONE };
                self.put(&path, data.as_ref().map(|d| d.to_vec()), owner, time_ms);
                let zxid = self.zxid;
                let up = self.nodes.get_mut(parent(&path)).unwrap();
                up.creates += 1;
                up.stat.pzxid = zxid;
                Ok(Written::Created { stat: self.stat(&path), path })
            }
            Op::Set { path, data, version } => {
                let zxid = self.zxid;
                let node = self.versioned(path, *version)?;
                node.data = data.as_ref().map(|d| d.to_vec());
                node.stat.version += 1;
                node.stat.mzxid = zxid;
                node.stat.mtime_ms = time_ms;
                Ok(Written::Set { stat: self.stat(path) })
            }
            Op::Delete { path, version } => {
                self.versioned(path, *version)?;
                if !self.children(path).is_empty() {
                    return Err(Error::NotEmpty);
                }
                self.delete(path);
                Ok(Written::Deleted)
            }
            Op::Check { path, version } => self.versioned(path, *version).map(|_| Written::Checked),
            Op::SetAcl { .. } | Op::Invalid(_) => unreachable!("not drawn"),
        }
    }

    fn apply(&mut self, time_ms: i64, command: &Command) -> Result<Reply, Failure> {
        let Caller { session, attachment } = command.caller;
        let failure = |op, error| Failure { op, error };
        if command.request == Request::Sync {
            return Ok(Reply::Synced);
        }
        self.zxid += i64::from(!matches!(command.request, Request::Attach { .. }));
        if let Request::OpenSession { password, .. } = command.request {
            self.attachments += 1;
            let (session, attachment) = (SessionId(self.zxid), self.attachments);
            self.sessions.insert(session.0, (attachment, password));
            return Ok(Reply::SessionOpened(Caller { session, attachment }));
        }
        let Some((attached, known)) = self.sessions.get_mut(&session.0) else {
            return Err(failure(0, Error::SessionExpired));
        };
        match &command.request {
            Request::Attach { password } if password != known => {
                Err(failure(0, Error::SessionExpired))
            }
            Request::Attach { .. } => {
                self.attachments += 1;
                *attached = self.attachments;
                Ok(Reply::Attached { timeout_ms: TIMEOUT_MS, attachment: *attached })
            }
            _ if *attached != attachment => Err(failure(0, Error::SessionMoved)),
            Request::CloseSession => {
                self.sessions.remove(&session.0);
                let owned = self.nodes.iter().filter(|(_, n)| n.stat.ephemeral_owner == session);
                for path in owned.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
                    self.delete(&path);
                }
                Ok(Reply::SessionClosed)
            }
            Request::Write(ops) => {
                let mut copy = self.clone();
                let mut written = Vec::new();
                for (index, op) in ops.iter().enumerate() {
                    let done = copy.op(op, session, time_ms);
                    written.push(done.map_err(|error| failure(index, error))?);
                }
                *self = copy;
                Ok(Reply::Written(written))
            }
            other => unreachable!("{other:?} is answered above, or not drawn"),
        }
    }

    fn check(&self, tree: &Tree) -> Result<(), TestCaseError> {
        for (path, node) in &self.nodes {
            let found = tree.get(path).expect(path);
            prop_assert_eq!(found.data.as_deref(), node.data.as_deref(), "{}", path);
            prop_assert_eq!(found.stat, self.stat(path), "{}", path);
            let children: Vec<&str> = tree.children(path).unwrap().collect();
            prop_assert_eq!(children, self.children(path), "{}", path);
        }
        let sessions = self.sessions.iter().map(|(&id, &(at, _))| (id, at));
        prop_assert!(tree.sessions().map(|s| (s.session.0, s.attachment)).eq(sessions));
        prop_assert_eq!(tree.last_zxid(), self.zxid);
        Ok(())
    }
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "a-b"]), 1..4)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn data() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..6))
}

fn op() -> impl Strategy<Value = Op> {
    let mode = prop::sample::select(vec![
        CreateMode::Persistent,
        CreateMode::Persistent,
        CreateMode::Ephemeral,
        CreateMode::PersistentSequential,
        CreateMode::EphemeralSequential,
    ]);
    let version = || -1..3i32;
    prop_oneof![
        6 => (path(), data(), mode).prop_map(|(p, d, m)| Op::create_as(p, d, m)),
        2 => (path(), prop::collection::vec(any::<u8>(), 0..6), version())
            .prop_map(|(p, d, v)| Op::set(p, d, v)),
        2 => (path(), version()).prop_map(|(p, v)| Op::delete(p, v)),
        1 => (path(), version()).prop_map(|(p, v)| Op::check(p, v)),
    ]
}

fn password() -> impl Strategy<Value = Password> {
    prop::sample::select(vec![Password([1; 16]), Password([2; 16])])
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    let opening = password().prop_map(open);
    let request = prop_oneof![
        1 => opening,
        1 => password().prop_map(|password| Request::Attach { password }),
        1 => Just(Request::CloseSession),
        1 => Just(Request::Sync),
        24 => prop::collection::vec(op(), 1..5).prop_map(Request::Write),
    ];
    // Mostly as it was opened: two are, before all else, as the first and the second.
    let caller = (1..4i64, prop_oneof![8 => Just(0), 1 => 1..9i64]);
    (caller, request).prop_map(|((session, later), request)| {
        let attachment = session.max(later);
        Command::new(Caller { session: SessionId(session), attachment }, request)
    })
}

fn open(password: Password) -> Request {
    Request::OpenSession { timeout_ms: TIMEOUT_MS, password }
}

proptest! {
    #[test]
    fn the_tree_does_what_the_model_does(
        commands in prop::collection::vec((0..5_000i64, command()), 1..60),
    ) {
        let (mut tree, mut model) = (Tree::new(), Model::new());
        for byte in [1, 2] {
            let request = open(Password([byte; 16]));
            let opening = Command::new(Caller::default(), request);
            prop_assert_eq!(tree.apply(0, &opening, &mut Vec::new()).result, model.apply(0, &opening));
        }
        for (time_ms, command) in &commands {
            let outcome = tree.apply(*time_ms, command, &mut Vec::new());
            prop_assert_eq!(outcome.result, model.apply(*time_ms, command), "{:?}", command);
            model.check(&tree)?;
        }
        // A tree that was decoded goes on as the one that was encoded; equality has its estimate
        // of bytes in it, which decoding counts anew.
        let mut bytes = Vec::new();
        encode_tree(&tree, &mut bytes);
        prop_assert_eq!(decode_tree(&bytes), Ok(tree));
    }
}
