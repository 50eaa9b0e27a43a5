//! A whole tree that is read, and made elsewhere.

use std::sync::Arc;
use std::time::Duration;

use ottla_keeper::machine::{AccessList, Acl, Copied, Identity, acl};
use ottla_metadata::copy::{CopyError, Settled, read, write};
use ottla_metadata::tree::{CreateMode, Op, SessionId};
use ottla_metadata::{Tree, ZooKeeper};
use ottla_runtime::{Spawner, time};

use super::ensemble::{Ensemble, simulate};

const BYTES_MAX: usize = 1 << 20;
const WRITES_MAX: u64 = 1_000;

fn on(tree: &ZooKeeper) -> &dyn Tree {
    tree
}

async fn make(tree: &ZooKeeper, ops: Vec<Op>) {
    for op in ops {
        let about = format!("{op:?}");
        on(tree).multi(vec![op]).await.unwrap_or_else(|error| panic!("{about}: {error}"));
    }
}

fn sequential(path: &str) -> Op {
    Op::create_as(path, None, CreateMode::PersistentSequential)
}

fn only(permissions: i32, scheme: &str, id: &str) -> AccessList {
    AccessList::new(vec![Acl { permissions, identity: Identity::new(scheme, id) }])
}

/// A tree with a bit of everything below `/k`.
async fn fill(tree: &ZooKeeper) {
    let ten_times = |path: &str| (0..10).map(|n| Op::set(path, vec![n], i32::from(n))).collect();
    make(tree, vec![Op::create("/k", None), Op::create("/k/empty", Some(Vec::new()))]).await;
    let no_admin = only(acl::ALL & !acl::ADMIN, "world", "anyone");
    make(tree, vec![Op::create("/k/seqid", None), Op::create("/k/cluster", None)]).await;
    make(tree, ten_times("/k/seqid")).await;
    make(tree, vec![Op::create("/k/cluster/id", Some(b"abc".to_vec()))]).await;
    make(tree, vec![Op::create("/k/changes", None)]).await;
    make(tree, (0..5).map(|_| sequential("/k/changes/change_")).collect()).await;
    let gone = |n: u32| Op::delete(format!("/k/changes/change_{n:010}"), 0);
    make(tree, vec![gone(0), gone(1), gone(4)]).await;
    let set = Op::SetAcl { path: "/k/changes".to_owned(), acl: no_admin, version: 0 };
    make(tree, vec![set]).await;
    let ephemeral = Op::create_as("/k/changes/mine", None, CreateMode::Ephemeral);
    make(tree, vec![ephemeral]).await;
}

async fn settled(from: &ZooKeeper, top: &str) -> Result<Settled, CopyError> {
    read(from, top, BYTES_MAX).await?.settled()
}

fn of<'a>(nodes: &'a [Copied], path: &str) -> &'a Copied {
    nodes.iter().find(|node| node.path == path).unwrap_or_else(|| panic!("no {path}"))
}

#[test]
fn all_that_clients_are_told_is_read() {
    simulate(async {
        let ensemble = Ensemble::start(1);
        let tree = ensemble.session().await;
        fill(&tree).await;
        let whole = read(&tree, "", BYTES_MAX).await.unwrap();
        let ephemeral = of(&whole.nodes, "/k/changes/mine");
        assert_eq!(ephemeral.stat.ephemeral_owner, tree.session());
        assert!(!whole.nodes.iter().any(|node| Copied::is_own(&node.path)));
        let Settled { nodes, last_zxid, ephemerals } = whole.settled().unwrap();
        assert_eq!((nodes.len(), ephemerals), (9, 1));
        let direct = on(&tree).get("/k/seqid").await.unwrap().unwrap();
        let seqid = of(&nodes, "/k/seqid");
        assert_eq!((seqid.stat, seqid.data.as_deref()), (direct.stat, Some(&[9][..])));
        assert_eq!(seqid.stat.version, 10);
        assert_eq!(of(&nodes, "/k/changes").creates(), 6);
        assert_eq!(of(&nodes, "/k/changes").acl[0].permissions, 15);
        assert_eq!(of(&nodes, "/k").data, None);
        assert_eq!(of(&nodes, "/k/empty").data.as_deref(), Some(&[][..]));
        // The session of another one has a number of its own.
        assert!(nodes.iter().all(|node| node.stat.pzxid <= last_zxid));
        let later = ensemble.session_at(9).await;
        assert!(read(&later, "", BYTES_MAX).await.unwrap().last_zxid > last_zxid);

        let below = settled(&tree, "/k/changes").await.unwrap().nodes;
        let paths: Vec<&str> = below.iter().map(|node| &*node.path).collect();
        assert_eq!(paths, ["/", "/change_0000000002", "/change_0000000003"]);
        let missing = settled(&tree, "/none").await.unwrap_err();
        assert_eq!(missing, CopyError::Missing { path: "/none".to_owned() });
        let large = read(&tree, "", 1_000).await.unwrap_err();
        assert_eq!(large, CopyError::TooLarge { bytes_max: 1_000 });
    });
}

#[test]
fn a_kafka_at_work_is_told_by_name() {
    simulate(async {
        let ensemble = Ensemble::start(1);
        let tree = ensemble.session().await;
        let at_work = |paths: &[&str]| {
            Err(CopyError::AtWork { paths: paths.iter().map(ToString::to_string).collect() })
        };
        let paths = ["/k", "/k/brokers", "/k/brokers/ids", "/k/brokers/ids-of", "/controller"];
        make(&tree, paths.map(|path| Op::create(path, None)).to_vec()).await;
        let quiet = settled(&tree, "").await.unwrap();
        assert_eq!(quiet.nodes.len(), 1 + paths.len());
        make(&tree, vec![Op::create_as("/k/brokers/ids/1", None, CreateMode::Ephemeral)]).await;
        assert_eq!(settled(&tree, "").await, at_work(&["/k/brokers/ids/1"]));
        // A controller of KRaft that has taken over has no session.
        make(&tree, vec![Op::create("/k/controller", None)]).await;
        assert_eq!(settled(&tree, "").await, at_work(&["/k/controller", "/k/brokers/ids/1"]));
        assert_eq!(settled(&tree, "/k").await, at_work(&["/controller", "/brokers/ids/1"]));
        let told = settled(&tree, "/k").await.unwrap_err().to_string();
        assert!(told.contains("(/controller, /brokers/ids/1): stop its brokers"), "{told}");
    });
}

#[test]
fn a_node_that_may_not_be_read_is_told_by_name() {
    simulate(async {
        let ensemble = Ensemble::start(1);
        let mut options = ensemble.options();
        options.auths = vec![("digest".to_owned(), b"bob:secret".to_vec())];
        let bob = ensemble.session_as(options).await;
        let anyone = ensemble.session().await;
        let secret = Op::Create {
            path: "/a/secret".to_owned(),
            data: None,
            mode: CreateMode::Persistent,
            acl: AccessList::new(vec![Acl {
                permissions: acl::ALL,
                identity: Identity::new("auth", ""),
            }]),
        };
        make(&bob, vec![Op::create("/a", None), Op::create("/a/b", None), secret]).await;
        let refused = settled(&anyone, "").await.unwrap_err();
        assert!(
            matches!(&refused, CopyError::Tree { path: Some(path), .. } | CopyError::Unreadable { path } if path == "/a/secret"),
            "{refused:?}"
        );
        let nodes = settled(&bob, "").await.unwrap().nodes;
        assert_eq!(&*of(&nodes, "/a/secret").acl[0].identity.scheme, "digest");
        // ZooKeeper hides the hash from who may read, and not change, the list.
        let hidden = only(acl::READ, "digest", "bob:x");
        let set = Op::SetAcl { path: "/a/b".to_owned(), acl: hidden, version: 0 };
        make(&bob, vec![Op::delete("/a/secret", 0), set]).await;
        let shown = settled(&bob, "").await.unwrap_err();
        assert!(
            matches!(&shown, CopyError::HiddenAcl { path } | CopyError::Unreadable { path } if path == "/a/b"),
            "{shown:?}"
        );
    });
}

#[test]
fn a_tree_that_is_written_to_is_read_again_and_then_refused() {
    simulate(async {
        let ensemble = Ensemble::start(1);
        let tree = ensemble.session().await;
        fill(&tree).await;
        let other = ensemble.session_at(9).await;
        let writer = Arc::clone(&other);
        let writing = Spawner::current().spawn(async move {
            loop {
                let _ = on(&writer).set("/k/empty", vec![1], -1).await;
            }
        });
        let refused = settled(&tree, "").await.unwrap_err();
        let CopyError::Changing { from, to } = refused else { panic!("{refused}") };
        assert!(from < to);
        // One that ends soon only makes it read once more.
        Spawner::current().detach(async move {
            time::sleep(Duration::from_millis(5)).await;
            drop(writing);
        });
        settled(&tree, "").await.unwrap();
    });
}

#[test]
fn a_tree_is_made_elsewhere_with_its_versions_and_counters() {
    simulate(async {
        let (from, to) = (Ensemble::start(1), Ensemble::start(2));
        let source = from.session().await;
        fill(&source).await;
        let nodes = settled(&source, "/k").await.unwrap().nodes;
        let target = to.session().await;

        let few = write(&target, "/x/y", &nodes, 10).await.unwrap_err();
        let CopyError::TooManyWrites { writes, path, .. } = few else { panic!("{few}") };
        // 10 writes, and 4 children that are gone: 3 of them and an ephemeral one.
        assert_eq!((writes, &*path), (18, "/seqid"));
        assert_eq!(on(&target).exists("/x").await, Ok(None), "nothing was begun");
        let made = write(&target, "/x/y", &nodes, WRITES_MAX).await.unwrap();
        assert_eq!((made.nodes, made.extra), (nodes.len(), 18));

        let copy = settled(&target, "/x/y").await.unwrap().nodes;
        for node in &nodes {
            let there = of(&copy, &node.path);
            assert_eq!((&there.data, &there.acl), (&node.data, &node.acl), "{}", node.path);
            assert_eq!(there.stat.version, node.stat.version, "{}", node.path);
            assert_eq!(there.stat.ephemeral_owner, SessionId::NONE, "{}", node.path);
        }
        make(&target, vec![sequential("/x/y/changes/change_")]).await;
        assert!(on(&target).exists("/x/y/changes/change_0000000006").await.unwrap().is_some());
        // No broker takes half of it for its cluster.
        let last = copy.iter().max_by_key(|node| node.stat.czxid).unwrap();
        assert_eq!(last.path, "/cluster/id");

        let again = write(&target, "/x/y", &nodes, WRITES_MAX).await.unwrap_err();
        assert_eq!(again, CopyError::NotEmpty { paths: vec!["/x/y".to_owned()] });
        let top = write(&target, "", &nodes, WRITES_MAX).await.unwrap_err();
        assert_eq!(top, CopyError::NotEmpty { paths: vec!["/x".to_owned()] });
    });
}

#[test]
fn a_root_that_is_bare_gets_a_whole_tree() {
    simulate(async {
        let (from, to) = (Ensemble::start(1), Ensemble::start(2));
        let source = from.session().await;
        fill(&source).await;
        make(&source, vec![Op::set("/", b"root".to_vec(), -1)]).await;
        let nodes = settled(&source, "").await.unwrap().nodes;
        let target = to.session().await;
        write(&target, "", &nodes, WRITES_MAX).await.unwrap();
        let copy = settled(&target, "").await.unwrap().nodes;
        assert_eq!(of(&copy, "/").data.as_deref(), Some(&b"root"[..]));
        assert_eq!(copy.len(), nodes.len());
    });
}

#[test]
fn many_nodes_are_made_in_many_requests() {
    simulate(async {
        let (from, to) = (Ensemble::start(1), Ensemble::start(2));
        let source = from.session().await;
        make(&source, vec![Op::create("/many", None)]).await;
        for part in 0..3 {
            let create = |n| Op::create(format!("/many/{part}-{n}"), Some(vec![7; 400]));
            on(&source).multi((0..900).map(create).collect()).await.unwrap();
        }
        let nodes = read(&source, "", 16 * BYTES_MAX).await.unwrap().settled().unwrap().nodes;
        assert_eq!(nodes.len(), 2_702);
        let target = to.session().await;
        assert_eq!(write(&target, "/all", &nodes, 0).await.unwrap().nodes, 2_702);
        let open_read = vec![Acl { permissions: acl::READ, identity: Identity::anyone() }];
        let locked =
            nodes.into_iter().take(3).map(|node| Copied { acl: open_read.clone(), ..node });
        let refused = write(&target, "/locked", &locked.collect::<Vec<_>>(), 10_000).await;
        let path = "/locked/many".to_owned();
        assert_eq!(refused, Err(CopyError::Unwritable { path }));
    });
}
