//! ZooKeeper's rules, one table per rule.

use ottla_keeper::{
    ANY_VERSION, Caller, CreateMode, Error, Failure, Op, Reply, Request, SessionId, Stat, Tree,
    Written,
};

use ottla_keeper::machine::acl::{ADMIN, ALL, CREATE, DELETE, READ, WRITE};
use ottla_keeper::machine::{AccessList, Acl, ChangeKind, Copied, Identity, NodeChange};
use ottla_keeper::{Command, Node};

use super::{NOW_MS, OPEN, apply, session_of};

/// A tree with one session.
struct World {
    tree: Tree,
    session: Caller,
}

impl World {
    fn new() -> Self {
        let mut tree = Tree::new();
        let session = session_of(&apply(&mut tree, Caller::default(), OPEN));
        Self { tree, session }
    }

    fn multi(&mut self, ops: Vec<Op>) -> Result<Vec<Written>, Failure> {
        match apply(&mut self.tree, self.session, Request::Write(ops)).result {
            Ok(Reply::Written(written)) => Ok(written),
            Ok(reply) => panic!("{reply:?}"),
            Err(failure) => Err(failure),
        }
    }

    fn one(&mut self, op: Op) -> Result<Written, Error> {
        self.multi(vec![op]).map(|mut written| written.remove(0)).map_err(|failure| failure.error)
    }

    fn create(&mut self, path: &str) {
        self.one(Op::create(path, Some(b"x".to_vec()))).unwrap();
    }

    fn stat(&self, path: &str) -> Stat {
        self.tree.exists(path).unwrap()
    }

    fn children(&self, path: &str) -> Vec<&str> {
        self.tree.children(path).unwrap().collect()
    }
}

fn ephemeral(path: &str) -> Op {
    Op::create_as(path, None, CreateMode::Ephemeral)
}

fn sequential(path: &str) -> Op {
    Op::create_as(path, None, CreateMode::PersistentSequential)
}

#[test]
fn a_new_tree_has_zookeepers_own_nodes() {
    let tree = Tree::new();
    assert_eq!(tree.children("/").unwrap().collect::<Vec<_>>(), ["zookeeper"]);
    assert_eq!(tree.children("/zookeeper").unwrap().collect::<Vec<_>>(), ["config", "quota"]);
    assert_eq!(tree.last_zxid(), 0);
}

#[test]
fn refusals_are_zookeepers() {
    let cases: [(Op, Error); 21] = [
        (Op::create("/a", None), Error::NodeExists),
        (Op::create("/", None), Error::NodeExists),
        (Op::create("/none/b", None), Error::NoNode),
        (Op::create("relative/b", None), Error::NoNode),
        (Op::create("b", None), Error::BadArguments),
        (Op::create("", None), Error::BadArguments),
        (Op::create("/a/", None), Error::BadArguments),
        (Op::create("/none/", None), Error::NoNode),
        (Op::create("//b", None), Error::BadArguments),
        (Op::create("/a/..", None), Error::BadArguments),
        (Op::create("/b\0", None), Error::BadArguments),
        (Op::create("/e/b", None), Error::NoChildrenForEphemerals),
        (sequential("/e/b"), Error::NoChildrenForEphemerals),
        (Op::set("/none", vec![], ANY_VERSION), Error::NoNode),
        (Op::set("/a", vec![], 1), Error::BadVersion),
        (Op::delete("/none", ANY_VERSION), Error::NoNode),
        (Op::delete("/a", 1), Error::BadVersion),
        (Op::delete("/p", ANY_VERSION), Error::NotEmpty),
        (Op::delete("/", ANY_VERSION), Error::BadArguments),
        (Op::delete("/zookeeper/quota", ANY_VERSION), Error::BadArguments),
        (Op::check("/a", 1), Error::BadVersion),
    ];
    let mut world = World::new();
    world.create("/a");
    world.create("/p");
    world.create("/p/c");
    world.one(ephemeral("/e")).unwrap();
    for (op, error) in cases {
        let before = world.tree.clone();
        assert_eq!(world.one(op.clone()), Err(error), "{op:?}");
        // Nothing but the last zxid has changed.
        let nodes = |tree: &Tree| ["/", "/a", "/p", "/p/c", "/e"].map(|path| tree.get(path));
        assert_eq!(nodes(&world.tree), nodes(&before), "{op:?}");
        assert_eq!(world.tree.last_zxid(), before.last_zxid() + 1);
    }
}

#[test]
fn a_stat_tells_each_change_where_it_belongs() {
    let mut world = World::new();
    let first = world.tree.last_zxid();
    world.create("/p"); // first + 1
    world.create("/p/a"); // first + 2
    world.create("/p/b"); // first + 3
    world.one(Op::set("/p/a", b"longer".to_vec(), 0)).unwrap(); // first + 4
    world.one(Op::delete("/p/b", 0)).unwrap(); // first + 5
    let parent = Stat {
        czxid: first + 1,
        mzxid: first + 1,
        pzxid: first + 5,
        ctime_ms: NOW_MS,
        mtime_ms: NOW_MS,
        version: 0,
        cversion: 3,
        aversion: 0,
        ephemeral_owner: SessionId::NONE,
        data_length: 1,
        num_children: 1,
    };
    assert_eq!(world.stat("/p"), parent);
    let child = Stat {
        czxid: first + 2,
        mzxid: first + 4,
        pzxid: first + 2,
        version: 1,
        cversion: 0,
        data_length: 6,
        num_children: 0,
        ..parent
    };
    assert_eq!(world.stat("/p/a"), child);
}

#[test]
fn a_sequence_number_counts_the_creations_below_its_parent() {
    let mut world = World::new();
    world.create("/s");
    world.one(sequential("/s/n_")).unwrap();
    world.one(sequential("/s/n_")).unwrap();
    world.one(Op::delete("/s/n_0000000000", 0)).unwrap();
    world.one(sequential("/s/n_")).unwrap();
    world.create("/s/plain");
    let written = world.one(sequential("/s/")).unwrap();
    let Written::Created { path, .. } = written else { panic!("{written:?}") };
    assert_eq!(path, "/s/0000000004");
    assert_eq!(world.children("/s"), ["0000000004", "n_0000000001", "n_0000000002", "plain"]);
    // 2 x creations - children.
    assert_eq!(world.stat("/s").cversion, 2 * 5 - 4);
}

#[test]
fn a_multi_does_all_or_nothing_under_one_zxid() {
    let mut world = World::new();
    world.create("/a");
    world.create("/a/old");
    let before = world.tree.clone();
    let failing = vec![
        Op::create("/b", None),
        sequential("/a/s_"),
        Op::set("/a", b"new".to_vec(), 0),
        Op::delete("/a/old", 0),
        ephemeral("/a/e"),
        Op::set("/a", b"newer".to_vec(), 1),
        Op::check("/a", 1),
    ];
    let failure = Failure { op: 6, error: Error::BadVersion };
    assert_eq!(world.multi(failing.clone()), Err(failure));
    let mut expected = before;
    apply(&mut expected, world.session, Request::Write(vec![]));
    assert_eq!(world.tree, expected);

    let mut passing = failing;
    passing[6] = Op::check("/a", 2);
    let written = world.multi(passing).unwrap();
    assert_eq!(written.len(), 7);
    let zxid = world.tree.last_zxid();
    let a = world.stat("/a");
    assert_eq!((a.mzxid, a.pzxid, a.version), (zxid, zxid, 2));
    assert_eq!(world.children("/a"), ["e", "s_0000000001"]);
    assert_eq!(world.stat("/b").czxid, zxid);
}

#[test]
fn a_session_takes_its_ephemeral_nodes_with_it() {
    let mut world = World::new();
    let other = session_of(&apply(&mut world.tree, Caller::default(), OPEN));
    assert_ne!(other, world.session);
    world.create("/p");
    world.one(ephemeral("/p/mine")).unwrap();
    world.one(Op::create_as("/p/seq_", None, CreateMode::EphemeralSequential)).unwrap();
    apply(&mut world.tree, other, Request::Write(vec![ephemeral("/p/theirs")])).result.unwrap();
    assert_eq!(world.stat("/p/mine").ephemeral_owner, world.session.session);

    apply(&mut world.tree, world.session, Request::CloseSession).result.unwrap();
    assert_eq!(world.children("/p"), ["theirs"]);
    assert_eq!(world.stat("/p").pzxid, world.tree.last_zxid());
    let expired = Err(Failure { op: 0, error: Error::SessionExpired });
    assert_eq!(world.multi(vec![Op::create("/q", None)]), expired);
    let again = apply(&mut world.tree, world.session, Request::CloseSession);
    assert_eq!(again.result.unwrap_err().error, Error::SessionExpired);
}

#[test]
fn an_epoch_begins_without_sessions_and_far_ahead() {
    let mut world = World::new();
    world.create("/a");
    world.one(ephemeral("/a/e")).unwrap();
    let other = session_of(&apply(&mut world.tree, Caller::default(), OPEN));
    let last = world.tree.last_zxid();
    world.tree.begin_epoch();
    // A log that is lost may have gone on for so long.
    assert!(world.tree.last_zxid() - last >= 1 << 32);
    assert_eq!(world.tree.last_zxid(), 2 << 32);
    assert_eq!(world.tree.sessions().len(), 0);
    assert_eq!(world.children("/a"), [""; 0]);
    assert_eq!((world.stat("/a").pzxid, world.stat("/a").cversion), (2 << 32, 2));
    assert!(world.tree.check_session(other).is_err());
    let next = session_of(&apply(&mut world.tree, Caller::default(), OPEN));
    assert_eq!(next.session, SessionId((2 << 32) + 1));
    world.tree.begin_epoch();
    assert_eq!(world.tree.last_zxid(), 4 << 32);
}

#[test]
fn a_tree_is_put_together_from_what_clients_are_told() {
    let mut world = World::new();
    world.create("/a");
    world.one(Op::create("/a/null", None)).unwrap();
    world.one(Op::set("/a", b"again".to_vec(), 0)).unwrap();
    (0..3).for_each(|_| drop(world.one(sequential("/a/s_")).unwrap()));
    world.one(Op::delete("/a/s_0000000002", 0)).unwrap();
    let acl = access(&[(READ, "digest", "bob:hash"), (ADMIN, "world", "anyone")]);
    let set_acl = Op::SetAcl { path: "/a".to_owned(), acl, version: ANY_VERSION };
    world.one(set_acl).unwrap();
    world.one(Op::set("/", b"root".to_vec(), 0)).unwrap();
    let last_zxid = world.tree.last_zxid();
    apply(&mut world.tree, world.session, Request::CloseSession).result.unwrap();

    let told: Vec<Copied> = world.tree.copy().collect();
    assert_eq!(
        told.iter().map(|node| &*node.path).collect::<Vec<_>>()[..3],
        ["/", "/a", "/a/null"]
    );
    let mut copy = Tree::of(last_zxid, told.clone()).unwrap();
    assert_eq!(copy.bytes(), world.tree.bytes());
    assert!(copy.copy().eq(told.iter().cloned()));
    assert_eq!(copy.exists("/zookeeper/config"), Tree::new().exists("/zookeeper/config"));
    // Numbers go on where they were, the one that was deleted is not given out again.
    let session = session_of(&apply(&mut copy, Caller::default(), OPEN));
    apply(&mut copy, session, Request::Write(vec![sequential("/a/s_")])).result.unwrap();
    assert!(copy.exists("/a/s_0000000004").is_some(), "{:?}", copy.copy().collect::<Vec<_>>());

    let wrong = |change: &dyn Fn(&mut Vec<Copied>)| {
        let mut nodes = told.clone();
        change(&mut nodes);
        Tree::of(last_zxid, nodes).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(wrong(&|all| drop(all.remove(1))), "/a/null has no parent, or is there twice");
    assert_eq!(wrong(&|all| all.push(all[1].clone())), "/a has no parent, or is there twice");
    assert_eq!(wrong(&|all| all[1].path.push('/')), "/a/ is no path");
    assert!(wrong(&|all| all[1].stat.ephemeral_owner = SessionId(1)).contains("is ephemeral"));
    assert!(wrong(&|all| all[1].stat.mzxid = last_zxid + 1).contains("is newer"));
    assert!(Tree::of(i64::MAX / 2, []).is_err());
}

#[test]
fn null_and_empty_data_differ() {
    let mut world = World::new();
    world.one(Op::create("/null", None)).unwrap();
    world.one(Op::create("/empty", Some(vec![]))).unwrap();
    assert_eq!(world.tree.get("/null").unwrap().data, None);
    assert_eq!(world.tree.get("/empty").unwrap().data.as_deref(), Some(&[][..]));
    world.one(Op::set("/null", vec![], 0)).unwrap();
    assert_eq!(world.tree.get("/null").unwrap().data.as_deref(), Some(&[][..]));
}

fn access(entries: &[(i32, &str, &str)]) -> AccessList {
    let acl = |&(permissions, scheme, id): &(i32, &str, &str)| {
        let identity = Identity::new(scheme, id);
        Acl { permissions, identity }
    };
    AccessList::new(entries.iter().map(acl).collect())
}

#[test]
fn an_access_list_says_who_may_do_what() {
    let mut world = World::new();
    let bob = Identity::new("digest", "bob:hash");
    let mode = CreateMode::Persistent;
    let acl = access(&[(READ | CREATE, "world", "anyone"), (ALL, "digest", "bob:hash")]);
    world.one(Op::Create { path: "/a".to_owned(), data: None, mode, acl: acl.clone() }).unwrap();
    let (session, mut try_as) = (world.session, |shown: Vec<Identity>, op: Op| {
        let command = Command { caller: world.session, shown, request: Request::Write(vec![op]) };
        let result = world.tree.apply(NOW_MS, &command, &mut Vec::new()).result;
        result.map(drop).map_err(|failure| failure.error)
    });
    let cases = |acl: AccessList| {
        [
            (Op::create("/a/b", None), Ok(())),
            (Op::check("/a", 0), Ok(())),
            (Op::set("/a", vec![], 0), Err(Error::NoAuth)),
            // It is the parent that is asked.
            (Op::delete("/a/b", 0), Err(Error::NoAuth)),
            (Op::SetAcl { path: "/a".to_owned(), acl, version: 0 }, Err(Error::NoAuth)),
        ]
    };
    let other = Identity::new("digest", "eve:hash");
    for (op, expected) in cases(acl.clone()) {
        assert_eq!(try_as(vec![other.clone()], op.clone()), expected, "{op:?}");
        if expected.is_err() {
            assert_eq!(try_as(vec![other.clone(), bob.clone()], op.clone()), Ok(()), "{op:?}");
        }
    }
    let (list, stat) = world.tree.acl("/a").unwrap();
    assert_eq!((list, stat.aversion, stat.version), (acl.list(), 1, 1));
    let stale = Op::SetAcl { path: "/a".to_owned(), acl, version: 0 };
    assert_eq!(world.one(stale), Err(Error::BadVersion));
    assert_eq!(world.tree.allows("/a", WRITE | DELETE | ADMIN, &[other]), Some(false));
    assert_eq!(world.tree.allows("/b", READ, &[]), None);

    // A multi that fails takes back what it changed of lists too.
    let before = world.tree.acl("/a");
    let open = Op::SetAcl { path: "/a".to_owned(), acl: AccessList::default(), version: 1 };
    assert!(world.multi(vec![open, Op::check("/a", 7)]).is_err());
    assert_eq!(world.tree.acl("/a"), before);
    assert_eq!(session, world.session);
}

#[test]
fn containers_and_nodes_with_a_time_to_live_go_when_their_time_has_come() {
    let mut world = World::new();
    let create = |path: &str, mode| Op::create_as(path, None, mode);
    world.one(create("/new", CreateMode::Container)).unwrap();
    world.one(create("/used", CreateMode::Container)).unwrap();
    world.create("/used/child");
    world.one(create("/ttl", CreateMode::Ttl(1_000))).unwrap();
    world.create("/ttl/child");
    let Written::Created { path, .. } =
        world.one(create("/s_", CreateMode::TtlSequential(1_000))).unwrap()
    else {
        panic!("no path");
    };
    // As in ZooKeeper, a stat does not tell them from persistent ones.
    assert_eq!(world.stat("/new").ephemeral_owner, SessionId::NONE);
    assert_eq!(world.stat("/ttl").ephemeral_owner, SessionId::NONE);

    assert_eq!(world.tree.overdue(NOW_MS + 1_000), [""; 0]);
    assert_eq!(world.tree.overdue(NOW_MS + 1_001), [&*path]);
    world.one(Op::delete("/used/child", 0)).unwrap();
    world.one(Op::delete("/ttl/child", 0)).unwrap();
    let later = NOW_MS + 1_001;
    assert_eq!(world.tree.overdue(later), [&*path, "/ttl", "/used"]);
    // What changed in between stays.
    world.create("/used/again");
    let paths = ["/new", &*path, "/ttl", "/used", "/none"].map(str::to_owned).to_vec();
    let mut changes = Vec::new();
    let sweep = Command::new(Caller::default(), Request::Sweep(paths));
    let outcome = world.tree.apply(later, &sweep, &mut changes);
    assert_eq!(outcome.result, Ok(Reply::Swept(2)));
    let told = changes.iter().map(|change| (&*change.path, change.kind));
    let expected = [(&*path, ChangeKind::Deleted), ("/ttl", ChangeKind::Deleted)];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert_eq!(world.children("/"), ["new", "used", "zookeeper"]);
}

#[test]
fn what_changed_is_told_and_what_was_taken_back_is_not() {
    let mut world = World::new();
    let mut changes = Vec::new();
    let mut write = |ops: Vec<Op>| {
        changes.clear();
        let command = Command::new(world.session, Request::Write(ops));
        let _ = world.tree.apply(NOW_MS, &command, &mut changes);
        let told = changes.iter().map(|change| (change.path.to_string(), change.kind));
        told.collect::<Vec<_>>()
    };
    let (e, s) = ("/e".to_owned(), "/s_0000000001".to_owned());
    let created = write(vec![ephemeral("/e"), sequential("/s_"), Op::set("/e", vec![], 0)]);
    let kinds = [ChangeKind::Created, ChangeKind::Created, ChangeKind::DataChanged];
    assert_eq!(
        created,
        [e.clone(), s.clone(), e.clone()].into_iter().zip(kinds).collect::<Vec<_>>()
    );
    assert_eq!(write(vec![Op::delete(&*s, 0), Op::check("/none", 0)]), []);
    assert_eq!(write(vec![Op::delete(&*s, 0)]), [(s, ChangeKind::Deleted)]);
    let close = Command::new(world.session, Request::CloseSession);
    changes.clear();
    world.tree.apply(NOW_MS, &close, &mut changes).result.unwrap();
    let open = AccessList::default();
    let (kind, acl, parent_acl) = (ChangeKind::Deleted, open.clone(), open);
    let zxid = world.tree.last_zxid();
    assert_eq!(changes, [NodeChange { path: e.into(), kind, zxid, acl, parent_acl }]);
    assert_eq!(world.tree.get("/e"), None::<Node>);
}
