//! What every provider of the tree does, whoever provides it.
//!
//! Each case begins with a tree of its own, empty but for what the service itself keeps there, and
//! opens sessions with it. The tests of this crate run them on the keeper, in the process and over
//! ZooKeeper's protocol; the suite `tree` of `conformance` includes this file and runs them on ensembles
//! of Apache ZooKeeper.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ottla_metadata::Tree;
use ottla_metadata::tree::{
    ANY_VERSION, Changed, Changes, CreateMode, Error, Failure, Op, SessionState, TreeError, Watch,
    Written,
};
use ottla_runtime::time;

/// Opens another session with the tree of a case.
pub(crate) type Open = Arc<dyn Fn() -> Opening + Send + Sync>;
pub(crate) type Opening = Pin<Box<dyn Future<Output = Arc<dyn Tree>> + Send>>;

/// A case and its name.
pub(crate) type Case = (&'static str, fn(Open) -> Pin<Box<dyn Future<Output = ()> + Send>>);

/// All cases.
pub(crate) const CASES: [Case; 13] = [
    ("single calls", |open| Box::pin(single_calls(open))),
    ("null and empty data are two things", |open| Box::pin(null_and_empty(open))),
    ("a multi is all or nothing", |open| Box::pin(multis(open))),
    ("calls take effect in their order", |open| Box::pin(order(open))),
    ("sequential nodes are numbered", |open| Box::pin(sequential(open))),
    ("an ephemeral node goes with its session", |open| Box::pin(ephemeral(open))),
    ("another session after the end of one", |open| Box::pin(renewal(open))),
    ("long lists are read as they are asked", |open| Box::pin(long_lists(open))),
    ("what is too large is refused", |open| Box::pin(too_large(open))),
    ("what is no path is refused", |open| Box::pin(no_paths(open))),
    ("watches of a node", |open| Box::pin(watch_node(open))),
    ("watches of children", |open| Box::pin(watch_children(open))),
    ("no change is missed behind a watch", |open| Box::pin(nothing_missed(open))),
];

/// What is awaited must happen within this time.
const SOON: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

async fn single_calls(open: Open) {
    let tree = open().await;
    assert_eq!(tree.get("/a").await, Ok(None));
    assert_eq!(tree.children("/a").await, Ok(None));
    tree.create("/a", None).await.unwrap();
    let exists = tree.create("/a", None).await.unwrap_err();
    assert!(exists.is(Error::NodeExists), "{exists:?}");
    let stat = tree.set("/a", b"x".to_vec(), 0).await.unwrap();
    assert_eq!((stat.version, stat.data_length), (1, 1));
    assert!(tree.set("/a", b"y".to_vec(), 0).await.unwrap_err().is(Error::BadVersion));
    assert_eq!(tree.exists("/a").await.unwrap(), Some(stat));
    let node = tree.get("/a").await.unwrap().unwrap();
    assert_eq!((node.data.as_deref(), node.stat), (Some(&b"x"[..]), stat));
    tree.create("/a/b", None).await.unwrap();
    assert_eq!(tree.children("/a").await.unwrap(), Some(vec!["b".to_owned()]));
    assert!(tree.delete("/a", ANY_VERSION).await.unwrap_err().is(Error::NotEmpty));
    tree.delete("/a/b", 0).await.unwrap();
    tree.delete("/a", 1).await.unwrap();
    assert_eq!(tree.exists("/a").await, Ok(None));
}

async fn null_and_empty(open: Open) {
    let tree = open().await;
    tree.create("/null", None).await.unwrap();
    tree.create("/empty", Some(Vec::new())).await.unwrap();
    let paths = ["/null", "/empty"].map(str::to_owned).to_vec();
    let nodes = tree.get_all(paths).await.unwrap();
    let data: Vec<_> = nodes.into_iter().map(|node| node.unwrap().data).collect();
    assert_eq!(data, [None, Some(Arc::from([]))]);
}

async fn multis(open: Open) {
    let tree = open().await;
    let results = tree
        .multi_all(vec![
            vec![Op::create("/a", None), Op::check("/a", 0)],
            vec![Op::create("/b", None), Op::create("/a", None)],
            vec![Op::create("/c", None)],
            vec![],
        ])
        .await
        .unwrap();
    let first = results[0].as_ref().unwrap();
    assert!(
        matches!(&first[..], [Written::Created { path, .. }, Written::Checked] if path == "/a")
    );
    assert_eq!(results[1], Err(Failure { op: 1, error: Error::NodeExists }));
    assert!(results[2].is_ok());
    assert_eq!(results[3], Ok(vec![]));
    let found = tree.get_all(["/a", "/b", "/c"].map(str::to_owned).to_vec()).await.unwrap();
    let found: Vec<bool> = found.iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, true]);
    let mixed = vec![
        Op::set("/a", b"x".to_vec(), 0),
        Op::delete("/c", ANY_VERSION),
        Op::create_as("/e", Some(b"e".to_vec()), CreateMode::Ephemeral),
    ];
    let written = tree.multi(mixed).await.unwrap();
    let [Written::Set { stat }, Written::Deleted, Written::Created { stat: created, .. }] =
        &written[..]
    else {
        panic!("{written:?}")
    };
    assert_eq!((stat.mzxid, stat.version), (created.czxid, 1));
    assert_eq!(created.ephemeral_owner, tree.session());
}

async fn order(open: Open) {
    let tree = open().await;
    let create = tree.multi_all(vec![vec![Op::create("/a", None)]]);
    let set = tree.multi_all(vec![vec![Op::set("/a", b"x".to_vec(), 0)]]);
    let delete = tree.multi_all(vec![vec![Op::delete("/a", 1)]]);
    // Awaited the other way round.
    assert!(delete.await.unwrap()[0].is_ok());
    assert!(set.await.unwrap()[0].is_ok());
    assert!(create.await.unwrap()[0].is_ok());
}

async fn sequential(open: Open) {
    let tree = open().await;
    tree.create("/q", None).await.unwrap();
    for number in 0..3 {
        let op = Op::create_as("/q/n_", None, CreateMode::PersistentSequential);
        let written = tree.multi(vec![op]).await.unwrap();
        let [Written::Created { path, .. }] = &written[..] else { panic!("{written:?}") };
        assert_eq!(*path, format!("/q/n_{number:010}"));
    }
    let nameless = Op::create_as("/q/", None, CreateMode::EphemeralSequential);
    let written = tree.multi(vec![nameless]).await.unwrap();
    assert!(matches!(&written[..], [Written::Created { path, .. }] if path == "/q/0000000003"));
}

async fn ephemeral(open: Open) {
    let (tree, other) = (open().await, open().await);
    let op = Op::create_as("/e", None, CreateMode::Ephemeral);
    other.multi(vec![op]).await.unwrap();
    // A session may know of another one's writes later than that one does.
    let owner = await_node(&*tree, "/e").await;
    assert_eq!(owner, other.session());
    assert_ne!(owner, tree.session());
    other.close().await.unwrap();
    await_gone(&*tree, "/e").await;
    let expired = other.create("/x", None).await.unwrap_err();
    assert!(expired.is(Error::SessionExpired), "{expired:?}");
    assert_eq!(tree.exists("/x").await, Ok(None));
}

async fn renewal(open: Open) {
    let tree = open().await;
    let former = tree.session();
    tree.renew().await.unwrap();
    assert_eq!(tree.session(), former, "there was one");
    let mut changes = tree.watch(vec![Watch::Node("/".to_owned())]).await.unwrap();
    let mut state = tree.state();
    assert_eq!(*state.borrow_and_update(), SessionState::Connected);
    tree.multi(vec![Op::create_as("/e", None, CreateMode::Ephemeral)]).await.unwrap();
    tree.close().await.unwrap();
    soon("the end", state.wait_for(|state| *state == SessionState::Expired)).await.unwrap();
    soon("the end of watches", async { while changes.next().await.is_some() {} }).await;
    assert!(tree.watch(vec![]).await.is_err());

    tree.renew().await.unwrap();
    assert_ne!(tree.session(), former);
    assert_eq!(*tree.state().borrow(), SessionState::Connected);
    await_gone(&*tree, "/e").await;
    tree.multi(vec![Op::create_as("/e", None, CreateMode::Ephemeral)]).await.unwrap();
    assert_eq!(await_node(&*tree, "/e").await, tree.session());
}

async fn long_lists(open: Open) {
    let tree = open().await;
    let paths: Vec<String> = (0..2000).map(|n| format!("/n{n}")).collect();
    // Every third one is missing.
    let exists = |n: usize| !n.is_multiple_of(3);
    let creates = paths.iter().enumerate().filter(|(n, _)| exists(*n));
    let creates: Vec<_> =
        creates.map(|(n, path)| vec![Op::create(path, Some(n.to_string().into()))]).collect();
    assert!(tree.multi_all(creates).await.unwrap().iter().all(Result::is_ok));
    let nodes = tree.get_all(paths.clone()).await.unwrap();
    let children = tree.children_all(paths.clone()).await.unwrap();
    assert_eq!((nodes.len(), children.len()), (2000, 2000));
    for (n, (node, children)) in nodes.into_iter().zip(children).enumerate() {
        let data = node.and_then(|node| node.data);
        let expected = exists(n).then(|| Arc::from(n.to_string().as_bytes()));
        assert_eq!((data, children), (expected, exists(n).then(Vec::new)), "{n}");
    }
    // Together they are more than one answer may be.
    let large: Vec<String> = paths.iter().take(8).map(|path| format!("{path}-large")).collect();
    let creates = large.iter().map(|path| vec![Op::create(path, Some(vec![7; 900_000]))]);
    assert!(tree.multi_all(creates.collect()).await.unwrap().iter().all(Result::is_ok));
    let nodes = tree.get_all(large).await.unwrap();
    let lengths = nodes.into_iter().map(|node| node.unwrap().data.unwrap().len());
    assert_eq!(lengths.collect::<Vec<_>>(), [900_000; 8]);
}

async fn too_large(open: Open) {
    let tree = open().await;
    let refused = tree.create("/a", Some(vec![0; 17 << 20])).await;
    assert!(matches!(refused, Err(TreeError::TooLarge { .. })), "{refused:?}");
    tree.create("/a", None).await.unwrap();
}

async fn no_paths(open: Open) {
    let tree = open().await;
    for path in ["", "a", "/a/", "//a", "/a/../b"] {
        for op in [Op::create(path, None), Op::set(path, vec![], 0), Op::delete(path, 0)] {
            let refused = tree.multi(vec![op.clone()]).await.unwrap_err();
            assert!(
                refused.is(Error::BadArguments) || refused.is(Error::NoNode),
                "{op:?} {refused}"
            );
        }
    }
    tree.create("/a", None).await.unwrap();
}

async fn watch_node(open: Open) {
    let (tree, other) = (open().await, open().await);
    let mut changes = tree.watch(vec![Watch::Node("/a".to_owned())]).await.unwrap();
    let mut more =
        tree.watch(["/a", "/b"].map(|path| Watch::Node(path.to_owned())).to_vec()).await.unwrap();
    other.create("/a", None).await.unwrap();
    expect(&mut changes, &["/a"]).await;
    other.set("/a", b"x".to_vec(), 0).await.unwrap();
    expect(&mut changes, &["/a"]).await;
    other.create("/a/b", None).await.unwrap();
    expect(&mut changes, &["/a"]).await;
    other.delete("/a/b", 0).await.unwrap();
    expect(&mut changes, &["/a"]).await;
    // Many changes are told at once.
    other.create("/b", None).await.unwrap();
    expect(&mut more, &["/a", "/b"]).await;
    // What one lets go the other still has.
    drop(more);
    other.delete("/b", 0).await.unwrap();
    other.delete("/a", 1).await.unwrap();
    expect(&mut changes, &["/a"]).await;
    drop(changes);
    let mut again = tree.watch(vec![Watch::Node("/a".to_owned())]).await.unwrap();
    other.create("/a", None).await.unwrap();
    expect(&mut again, &["/a"]).await;
}

async fn watch_children(open: Open) {
    let (tree, other) = (open().await, open().await);
    other.create("/p", None).await.unwrap();
    await_node(&*tree, "/p").await;
    let mut node = tree.watch(vec![Watch::Node("/p".to_owned())]).await.unwrap();
    let mut changes = tree.watch(vec![Watch::Children("/p".to_owned())]).await.unwrap();
    other.create("/p/a", None).await.unwrap();
    expect(&mut changes, &["/p/a"]).await;
    expect(&mut node, &["/p"]).await;
    other.set("/p/a", b"x".to_vec(), 0).await.unwrap();
    expect(&mut changes, &["/p/a"]).await;
    // What is further down is not told; the next change is.
    other.create("/p/a/deep", None).await.unwrap();
    other.set("/p/a/deep", b"x".to_vec(), 0).await.unwrap();
    other.create("/p/b", None).await.unwrap();
    expect(&mut changes, &["/p/b"]).await;
    other.set("/p", b"x".to_vec(), 0).await.unwrap();
    expect(&mut changes, &["/p"]).await;
    other.delete("/p/b", 0).await.unwrap();
    expect(&mut changes, &["/p/b"]).await;
}

/// One writes numbers, the other one reads when it is told, and ends up with the last.
async fn nothing_missed(open: Open) {
    const LAST: i32 = 200;
    let (tree, other) = (open().await, open().await);
    other.create("/n", Some(b"0".to_vec())).await.unwrap();
    await_node(&*tree, "/n").await;
    let mut changes = tree.watch(vec![Watch::Node("/n".to_owned())]).await.unwrap();
    let write = async {
        for version in 0..LAST {
            let number = (version + 1).to_string().into_bytes();
            other.set("/n", number, version).await.unwrap();
        }
    };
    let read = async {
        let mut seen = 0;
        while seen != LAST {
            let node = tree.get("/n").await.unwrap().unwrap();
            let now = std::str::from_utf8(&node.data.unwrap()).unwrap().parse().unwrap();
            assert!(seen <= now, "{now} after {seen}");
            seen = now;
            if seen != LAST {
                soon("a change", changes.next()).await.unwrap();
            }
        }
    };
    tokio::join!(write, read);
}

/// Waits until `paths` were told, and nothing else was.
async fn expect(changes: &mut Changes, paths: &[&str]) {
    let mut missing: BTreeSet<&str> = paths.iter().copied().collect();
    while !missing.is_empty() {
        match soon("a change", changes.next()).await {
            Some(Changed::Paths(told)) => {
                for path in &told {
                    assert!(paths.contains(&&**path), "{path} is not among {paths:?}");
                    missing.remove(&**path);
                }
            }
            told => panic!("{told:?} instead of {paths:?}"),
        }
    }
}

/// Waits for a node, and tells who owns it.
async fn await_node(tree: &dyn Tree, path: &str) -> ottla_metadata::tree::SessionId {
    let mut changes = tree.watch(vec![Watch::Node(path.to_owned())]).await.unwrap();
    loop {
        if let Some(stat) = tree.exists(path).await.unwrap() {
            return stat.ephemeral_owner;
        }
        soon(path, changes.next()).await;
    }
}

async fn await_gone(tree: &dyn Tree, path: &str) {
    let mut changes = tree.watch(vec![Watch::Node(path.to_owned())]).await.unwrap();
    while tree.exists(path).await.unwrap().is_some() {
        soon(path, changes.next()).await;
    }
}
