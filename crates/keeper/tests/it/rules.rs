//! ZooKeeper's rules, one table per rule.

use ottla_keeper::{
    ANY_VERSION, Caller, CreateMode, Error, Failure, Op, Reply, Request, SessionId, Stat, Tree,
    Written,
};

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
fn null_and_empty_data_differ() {
    let mut world = World::new();
    world.one(Op::create("/null", None)).unwrap();
    world.one(Op::create("/empty", Some(vec![]))).unwrap();
    assert_eq!(world.tree.get("/null").unwrap().data, None);
    assert_eq!(world.tree.get("/empty").unwrap().data.as_deref(), Some(&[][..]));
    world.one(Op::set("/null", vec![], 0)).unwrap();
    assert_eq!(world.tree.get("/null").unwrap().data.as_deref(), Some(&[][..]));
}
