//! What becomes of a session with ZooKeeper when its connection is lost.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ottla_fake::Dice;
use ottla_metadata::tree::{
    ANY_VERSION, Changed, Changes, CreateMode, Error, Op, SessionState, TreeError, Watch, Written,
};
use ottla_metadata::{Tree, ZooKeeper};
use ottla_runtime::{Spawner, time};

use super::ensemble::{Ensemble, SESSION_TIMEOUT, simulate};

/// Long enough to give a silent connection up, and too short to end the session.
const SILENCE: Duration = Duration::from_secs(9);

/// An ensemble, a session that is interrupted, and one of a host that is not.
struct Scene {
    ensemble: Ensemble,
    tree: Arc<dyn Tree>,
    observer: Arc<dyn Tree>,
}

impl Scene {
    async fn new() -> Self {
        let ensemble = Ensemble::start(1);
        let tree: Arc<dyn Tree> = ensemble.session().await;
        let observer: Arc<dyn Tree> = ensemble.session_at(3).await;
        observer.create("/a", Some(b"0".to_vec())).await.unwrap();
        observer.create("/parent", None).await.unwrap();
        // From here on the session knows of all that.
        tree.get("/a").await.unwrap();
        Self { ensemble, tree, observer }
    }

    /// What `ops` are answered when the answer of the first try is lost, and `meanwhile` happens before
    /// the session goes on.
    async fn lose_answer(
        &self,
        ops: Vec<Op>,
        meanwhile: impl Future<Output = ()>,
    ) -> Result<Vec<Written>, TreeError> {
        self.ensemble.cut_answers();
        self.interrupted(ops, meanwhile).await
    }

    /// The same, where already the request is held up. It is let go before the session goes on.
    async fn lose_request(
        &self,
        ops: Vec<Op>,
        meanwhile: impl Future<Output = ()>,
    ) -> Result<Vec<Written>, TreeError> {
        self.ensemble.cut_requests();
        self.interrupted(ops, meanwhile).await
    }

    async fn interrupted(
        &self,
        ops: Vec<Op>,
        meanwhile: impl Future<Output = ()>,
    ) -> Result<Vec<Written>, TreeError> {
        let write = self.tree.multi(ops);
        let heal = async {
            time::sleep(SILENCE).await;
            meanwhile.await;
            self.ensemble.network.heal();
        };
        tokio::join!(write, heal).0
    }

    async fn write_theirs(&self, version: i32) {
        self.observer.set("/a", b"theirs".to_vec(), version).await.unwrap();
    }

    async fn data(&self, path: &str) -> Option<String> {
        let node = self.observer.get(path).await.unwrap()?;
        Some(String::from_utf8(node.data.unwrap_or_default().to_vec()).unwrap())
    }
}

async fn nothing() {}

async fn next(changes: &mut Changes) -> Option<Changed> {
    time::timeout(SILENCE, changes.next()).await.expect("nothing was told")
}

fn is_unknown<T: std::fmt::Debug>(result: &Result<T, TreeError>) {
    assert!(matches!(result, Err(TreeError::Unavailable { .. })), "{result:?}");
}

#[test]
fn a_set_whose_answer_was_lost_is_recognised() {
    simulate(async {
        let scene = Scene::new().await;
        let set = vec![Op::set("/a", b"mine".to_vec(), 0)];
        let written = scene.lose_answer(set, nothing()).await.unwrap();
        let [Written::Set { stat }] = &written[..] else { panic!("{written:?}") };
        assert_eq!(scene.observer.exists("/a").await.unwrap(), Some(*stat));
        assert_eq!(stat.version, 1);
    });
}

#[test]
fn a_set_that_never_arrived_is_done_once() {
    simulate(async {
        let scene = Scene::new().await;
        let set = vec![Op::set("/a", b"mine".to_vec(), ANY_VERSION)];
        let written = scene.lose_request(set, nothing()).await;
        // It was held up, and may have been let through before the session went on elsewhere.
        if let Ok(written) = &written {
            assert!(matches!(&written[..], [Written::Set { stat }] if stat.version == 1));
        } else {
            is_unknown(&written);
        }
        assert_eq!(scene.observer.exists("/a").await.unwrap().unwrap().version, 1);
    });
}

#[test]
fn a_set_that_was_refused_is_not_claimed() {
    simulate(async {
        let scene = Scene::new().await;
        let set = vec![Op::set("/a", b"mine".to_vec(), 7)];
        let refused = scene.lose_answer(set, nothing()).await.unwrap_err();
        assert!(refused.is(Error::BadVersion), "{refused}");
    });
}

#[test]
fn what_another_one_wrote_is_not_claimed() {
    simulate(async {
        let scene = Scene::new().await;
        // Over it: whether ours was there in between cannot be seen.
        let over = async { scene.write_theirs(1).await };
        let set = vec![Op::set("/a", b"mine".to_vec(), 0)];
        is_unknown(&scene.lose_answer(set, over).await);
        assert_eq!(scene.data("/a").await.as_deref(), Some("theirs"));
    });
    simulate(async {
        let scene = Scene::new().await;
        // Instead of it, while ours was held up.
        let instead = async { scene.write_theirs(0).await };
        let set = vec![Op::set("/a", b"mine".to_vec(), 0)];
        let refused = scene.lose_request(set, instead).await.unwrap_err();
        assert!(refused.is(Error::BadVersion), "{refused}");
        assert_eq!(scene.data("/a").await.as_deref(), Some("theirs"));
    });
}

#[test]
fn a_create_whose_answer_was_lost() {
    simulate(async {
        let scene = Scene::new().await;
        let create = vec![Op::create("/parent/n", Some(b"mine".to_vec()))];
        let written = scene.lose_answer(create, nothing()).await.unwrap();
        assert!(matches!(&written[..], [Written::Created { path, .. }] if path == "/parent/n"));
        // Nothing tells who made a node without data.
        let bare = vec![Op::create("/parent/bare", None)];
        is_unknown(&scene.lose_answer(bare, nothing()).await);
        assert_eq!(scene.data("/parent/bare").await.as_deref(), Some(""));
    });
}

#[test]
fn a_registration_whose_answer_was_lost() {
    simulate(async {
        let scene = Scene::new().await;
        let register = vec![
            Op::create_as("/parent/1", None, CreateMode::Ephemeral),
            Op::set("/parent/1", b"broker".to_vec(), 0),
            Op::create_as("/parent/note_", None, CreateMode::PersistentSequential),
        ];
        let written = scene.lose_answer(register, nothing()).await.unwrap();
        let [Written::Created { .. }, Written::Set { stat }, Written::Created { path, .. }] =
            &written[..]
        else {
            panic!("{written:?}")
        };
        let there = scene.observer.exists("/parent/1").await.unwrap().unwrap();
        assert_eq!((stat.czxid, stat.version), (there.czxid, 1));
        assert_eq!(stat.ephemeral_owner, scene.tree.session());
        assert_eq!(path, "/parent/note_0000000001");
        assert_eq!(scene.observer.children("/parent").await.unwrap().unwrap().len(), 2);
    });
}

#[test]
fn a_delete_whose_answer_was_lost_is_not_claimed() {
    simulate(async {
        let scene = Scene::new().await;
        is_unknown(&scene.lose_answer(vec![Op::delete("/a", 0)], nothing()).await);
        assert_eq!(scene.data("/a").await, None);
    });
}

#[test]
fn what_was_refused_is_not_done_out_of_its_turn() {
    simulate(async {
        let scene = Scene::new().await;
        scene.ensemble.cut_answers();
        // Refused, for it is the next one that makes the version which it demands.
        let early = scene.tree.multi_all(vec![vec![Op::set("/a", b"early".to_vec(), 1)]]);
        let late = scene.tree.multi_all(vec![vec![Op::set("/a", b"late".to_vec(), 0)]]);
        let heal = async {
            time::sleep(SILENCE).await;
            scene.ensemble.network.heal();
        };
        let (early, late, ()) = tokio::join!(early, late, heal);
        is_unknown(&early);
        assert!(late.unwrap()[0].is_ok());
        assert_eq!(scene.data("/a").await.as_deref(), Some("late"));
    });
}

#[test]
fn one_change_is_not_claimed_by_two_writes() {
    simulate(async {
        let scene = Scene::new().await;
        scene.ensemble.cut_answers();
        // The second one is refused, and what it would have made is there.
        let register = || Op::create_as("/parent/1", None, CreateMode::Ephemeral);
        let first = scene.tree.multi_all(vec![vec![register()]]);
        let second = scene.tree.multi_all(vec![vec![register()]]);
        let heal = async {
            time::sleep(SILENCE).await;
            scene.ensemble.network.heal();
        };
        let (first, second, ()) = tokio::join!(first, second, heal);
        is_unknown(&first);
        is_unknown(&second);
    });
}

#[test]
fn reads_and_what_comes_later_wait_for_the_connection() {
    simulate(async {
        let scene = Scene::new().await;
        let mut state = scene.tree.state();
        state.borrow_and_update();
        scene.ensemble.cut_answers();
        let read = scene.tree.get("/a");
        let later = scene.tree.multi_all(
            (0..30).map(|n| vec![Op::create(format!("/parent/{n}"), Some(vec![n]))]).collect(),
        );
        let heal = async {
            state.wait_for(|state| *state == SessionState::Disconnected).await.unwrap();
            time::sleep(Duration::from_secs(2)).await;
            scene.ensemble.network.heal();
        };
        let (read, later, ()) = tokio::join!(read, later, heal);
        assert_eq!(read.unwrap().unwrap().data.as_deref(), Some(&b"0"[..]));
        assert!(later.unwrap().iter().all(Result::is_ok));
        state.wait_for(|state| *state == SessionState::Connected).await.unwrap();
        assert_eq!(scene.observer.children("/parent").await.unwrap().unwrap().len(), 30);
    });
}

#[test]
fn after_a_gap_all_is_to_be_read_again() {
    simulate(async {
        let scene = Scene::new().await;
        let mut changes = scene.tree.watch(vec![Watch::Node("/a".to_owned())]).await.unwrap();
        scene.ensemble.cut_answers();
        // Nobody is there to be told of it.
        time::sleep(SILENCE).await;
        scene.observer.set("/a", b"1".to_vec(), 0).await.unwrap();
        scene.ensemble.network.heal();
        assert_eq!(next(&mut changes).await, Some(Changed::All));
        scene.observer.set("/a", b"2".to_vec(), 1).await.unwrap();
        let told = next(&mut changes).await;
        assert!(matches!(told, Some(Changed::Paths(paths)) if paths.contains("/a")));
    });
}

#[test]
fn a_session_that_is_away_too_long_expires() {
    simulate(async {
        let scene = Scene::new().await;
        let ephemeral = Op::create_as("/e", None, CreateMode::Ephemeral);
        scene.tree.multi(vec![ephemeral.clone()]).await.unwrap();
        let mut changes = scene.tree.watch(vec![Watch::Node("/a".to_owned())]).await.unwrap();
        let mut gone = scene.observer.watch(vec![Watch::Node("/e".to_owned())]).await.unwrap();
        scene.ensemble.cut_answers();
        scene.ensemble.cut_requests();
        // A call does not wait for ever.
        let began = time::now();
        is_unknown(&scene.tree.get("/a").await);
        assert_eq!(time::now() - began, SESSION_TIMEOUT);
        time::timeout(2 * SESSION_TIMEOUT, gone.next()).await.unwrap().unwrap();
        assert_eq!(scene.observer.exists("/e").await, Ok(None));
        assert_eq!(*scene.tree.state().borrow(), SessionState::Disconnected);
        scene.ensemble.network.heal();
        scene.tree.state().wait_for(|state| *state == SessionState::Expired).await.unwrap();
        assert_eq!(next(&mut changes).await, None);
        let former = scene.tree.session();
        assert!(scene.tree.get("/a").await.unwrap_err().is(Error::SessionExpired));
        scene.tree.renew().await.unwrap();
        assert_ne!(scene.tree.session(), former);
        scene.tree.multi(vec![ephemeral]).await.unwrap();
    });
}

#[test]
fn a_start_ends_the_session_that_a_crash_left() {
    simulate(async {
        let ensemble = Ensemble::start(1);
        let mut options = ensemble.options();
        options.session_file = Some(PathBuf::from("/client/zookeeper-session"));
        let ephemeral = || vec![Op::create_as("/e", None, CreateMode::Ephemeral)];
        let crashed: Arc<dyn Tree> = ensemble.session_as(options.clone()).await;
        crashed.multi(ephemeral()).await.unwrap();
        // Nothing of it is heard any more; the ensemble waits for its timeout.
        ensemble.cut_requests();
        drop(crashed);
        time::sleep(Duration::from_millis(100)).await;
        ensemble.network.heal();
        let again: Arc<dyn Tree> = ensemble.session_as(options.clone()).await;
        again.multi(ephemeral()).await.unwrap();
        again.close().await.unwrap();
        let file = options.session_file.clone().unwrap();
        assert!(!ensemble.client().disk.exists(&file), "there is no session to be ended");
        ensemble.session_as(options).await;
    });
}

#[test]
fn nobody_there_is_said_in_time() {
    simulate(async {
        let ensemble = Ensemble::start(1);
        let mut options = ensemble.options();
        options.connect = "10.0.0.9:2181,10.0.0.8:2181/x".parse().unwrap();
        options.connection_timeout = Duration::from_secs(5);
        let began = time::now();
        let error = ZooKeeper::connect(&ensemble.client(), options).await.unwrap_err();
        assert!(error.to_string().contains("10.0.0.9:2181"), "{error}");
        assert_eq!(time::now() - began, Duration::from_secs(5));
    });
}

/// One writes over its own versions, in a network that fails at random. It is the only writer: so it is
/// refused only if it was not told of its own success.
#[test]
fn one_writer_in_storms() {
    for seed in 1..=20 {
        simulate(storm(seed));
    }
}

async fn storm(seed: u64) {
    let ensemble = Ensemble::start(seed);
    let tree: Arc<dyn Tree> = ensemble.session().await;
    let observer: Arc<dyn Tree> = ensemble.session_at(3).await;
    tree.create("/n", Some(b"-".to_vec())).await.unwrap();
    let network = ensemble.network.clone();
    let mut dice = Dice::new(seed);
    let storm = Spawner::current().spawn(async move {
        loop {
            time::sleep(Duration::from_millis(dice.roll(3000))).await;
            match dice.roll(3) {
                0 => network.cut(super::ensemble::SERVER, super::ensemble::CLIENT),
                1 => network.cut(super::ensemble::CLIENT, super::ensemble::SERVER),
                _ => {}
            }
            time::sleep(Duration::from_millis(dice.roll(11_000))).await;
            network.heal();
        }
    });
    let (mut version, mut unknown) = (0, 0);
    for number in 0..200 {
        let bytes = format!("{seed}-{number}").into_bytes();
        match tree.set("/n", bytes.clone(), version).await {
            Ok(stat) => {
                version += 1;
                assert_eq!(stat.version, version);
            }
            Err(TreeError::Unavailable { .. }) => {
                unknown += 1;
                version = settled(&*tree, version, &bytes).await;
            }
            Err(error) if error.is(Error::SessionExpired) => tree.renew().await.unwrap(),
            Err(error) => panic!("seed {seed}, write {number}: {error}"),
        }
        time::sleep(Duration::from_millis(200)).await;
    }
    drop(storm);
    ensemble.network.heal();
    assert_eq!(observer.exists("/n").await.unwrap().unwrap().version, version, "seed {seed}");
    eprintln!("seed {seed}: {version} of 200 done, {unknown} unknown at first");
}

/// What became of a write of which that was not known.
async fn settled(tree: &dyn Tree, version: i32, bytes: &[u8]) -> i32 {
    loop {
        match tree.get("/n").await {
            Ok(node) => {
                let node = node.unwrap();
                let is_done = node.data.as_deref() == Some(bytes);
                assert_eq!(node.stat.version, version + i32::from(is_done));
                return node.stat.version;
            }
            Err(error) if error.is(Error::SessionExpired) => {
                let _ = tree.renew().await;
            }
            Err(TreeError::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
