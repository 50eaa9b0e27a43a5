//! What a server of ZooKeeper's protocol answers to the crate zookeeper-client, as text.
//!
//!     ottla-conformance-zookeeper HOST:PORT
//!
//! Each step is a line, with its answer or its error. What depends on turns is told by its outcome.
#![allow(
    clippy::disallowed_methods,
    reason = "a client of another's library, outside of the product"
)]

use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use zookeeper_client::{
    Acl, Acls, AddWatchMode, AuthId, Client, CreateMode, CreateOptions, EnsembleUpdate, Error,
    LockPrefix, MultiReadResult, OneshotWatcher, Permission, PersistentWatcher, SessionState, Stat,
    WatchedEvent,
};

const PATIENCE: Duration = Duration::from_secs(20);
const PARTIES: usize = 3;
const OPEN: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

type Outcome = Result<(), Error>;

struct Script {
    address: String,
    section: &'static str,
    steps: usize,
    zk: Client,
}

impl Script {
    fn begin(&mut self, section: &'static str) {
        self.section = section;
        self.steps = 0;
    }

    fn say(&mut self, step: &str, answer: Result<String, impl Display>) {
        self.steps += 1;
        let answer = answer.unwrap_or_else(|error| format!("error {error}"));
        println!("rust {} {} {step} => {answer}", self.section, self.steps);
    }

    async fn client(&self) -> Result<Client, Error> {
        Client::connector()
            .with_session_timeout(Duration::from_secs(30))
            .connect(&self.address)
            .await
    }
}

fn show(stat: &Stat) -> String {
    let owner = if stat.ephemeral_owner > 0 { "a session" } else { "none" };
    format!(
        "[c{} m{} p{} v{},{},{} owner {owner} size {} children {}]",
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.version,
        stat.cversion,
        stat.aversion,
        stat.data_length,
        stat.num_children
    )
}

fn debug(value: impl Debug) -> String {
    format!("{value:?}")
}

fn sorted<T: Ord + Debug>(mut values: Vec<T>) -> String {
    values.sort();
    debug(values)
}

fn told(event: &WatchedEvent) -> String {
    format!("{:?} {:?} {}", event.event_type, event.session_state, event.path)
}

async fn once(watcher: OneshotWatcher) -> Result<String, &'static str> {
    timeout(PATIENCE, watcher.changed()).await.map(|event| told(&event)).map_err(|_| "no event")
}

async fn next(watcher: &mut PersistentWatcher) -> Result<String, &'static str> {
    timeout(PATIENCE, watcher.changed()).await.map(|event| told(&event)).map_err(|_| "no event")
}

async fn creates(script: &mut Script) {
    script.begin("creates");
    let zk = script.zk.clone();
    let modes = [
        CreateMode::Persistent,
        CreateMode::PersistentSequential,
        CreateMode::Ephemeral,
        CreateMode::EphemeralSequential,
        CreateMode::Container,
    ];
    for mode in modes {
        let path = format!("/{mode:?}-");
        for _ in 0..2 {
            let answer = zk.create(&path, b"x", &mode.with_acls(Acls::anyone_all())).await;
            script.say(
                &format!("create {path}"),
                answer.map(|(stat, sequence)| format!("{} {sequence}", show(&stat))),
            );
        }
    }
    let brief = OPEN.with_ttl(Duration::from_secs(100));
    script.say("a time to live", zk.create("/ttl", b"", &brief).await.map(|(stat, _)| show(&stat)));
    script.say(
        "without a parent",
        zk.create("/none/x", b"", &OPEN).await.map(|(stat, _)| show(&stat)),
    );
    script.say(
        "below an ephemeral",
        zk.create("/Ephemeral-/x", b"", &OPEN).await.map(|(stat, _)| show(&stat)),
    );
    script.say("with parents", zk.mkdir("/deep/er/est", &OPEN).await.map(debug));
}

async fn reads(script: &mut Script) {
    script.begin("reads");
    let zk = script.zk.clone();
    for path in ["/Persistent-", "/Ephemeral-", "/none", "/"] {
        script.say(
            &format!("stat {path}"),
            zk.check_stat(path).await.map(|stat| debug(stat.as_ref().map(show))),
        );
        let data = zk.get_data(path).await;
        script.say("get", data.map(|(data, stat)| format!("{data:?} {}", show(&stat))));
        let children = zk.get_children(path).await;
        script.say(
            "children",
            children.map(|(names, stat)| format!("{} {}", sorted(names), show(&stat))),
        );
        let list = zk.get_acl(path).await;
        script.say("acl", list.map(|(list, stat)| format!("{list:?} {}", show(&stat))));
        script.say("descendants", zk.count_descendants_number(path).await.map(debug));
        script.say("ephemerals", zk.list_ephemerals(path).await.map(sorted));
        script.say("sync", zk.sync(path).await.map(debug));
    }
}

async fn writes(script: &mut Script) -> Outcome {
    script.begin("writes");
    let zk = script.zk.clone();
    for version in [Some(3), Some(0), None] {
        let set = zk.set_data("/Persistent-", b"new", version).await;
        script.say(&format!("set at {version:?}"), set.map(|stat| show(&stat)));
    }
    for path in ["/deep", "/Persistent-", "/none", "/"] {
        script.say(&format!("delete {path}"), zk.delete(path, None).await.map(debug));
    }
    let below = zk.clone().chroot("/deep").map_err(|_| Error::UnexpectedError("no root".into()))?;
    script.say("below a root of one's own", below.list_children("/").await.map(debug));
    script.say("configuration", zk.get_config().await.map(|(data, _)| debug(data)));
    Ok(())
}

async fn transactions(script: &mut Script) -> Outcome {
    script.begin("multi");
    let zk = script.zk.clone();
    let mut writer = zk.new_multi_writer();
    writer.add_create("/m", b"1", &OPEN)?;
    writer.add_create(
        "/m/e-",
        b"",
        &CreateMode::EphemeralSequential.with_acls(Acls::anyone_all()),
    )?;
    writer.add_set_data("/m", b"2", Some(0))?;
    writer.add_check_version("/m", 1)?;
    writer.add_create("/m/x", b"", &OPEN)?;
    writer.add_delete("/m/x", None)?;
    script.say("all of it", writer.commit().await.map(|results| debug(results.len())));
    let mut writer = zk.new_multi_writer();
    writer.add_create("/m/y", b"", &OPEN)?;
    writer.add_check_version("/m", 7)?;
    script.say("none of it", writer.commit().await.map(|results| debug(results.len())));
    let mut writer = zk.new_check_writer("/m", Some(1))?;
    writer.add_set_data("/m", b"3", None)?;
    script.say("checked first", writer.commit().await.map(|results| debug(results.len())));
    let mut writer = zk.new_check_writer("/m", Some(1))?;
    writer.add_set_data("/m", b"4", None)?;
    script.say("and stale", writer.commit().await.map(|results| debug(results.len())));
    let mut reader = zk.new_multi_reader();
    reader.add_get_data("/m")?;
    reader.add_get_children("/m")?;
    reader.add_get_data("/none")?;
    let kind = |result: &MultiReadResult| match result {
        MultiReadResult::Data { data, stat } => {
            format!("{data:?} {}", show(stat))
        }
        MultiReadResult::Children { children } => debug(children),
        MultiReadResult::Error { err } => format!("error {err}"),
        other => debug(other),
    };
    script.say(
        "read",
        reader.commit().await.map(|results| debug(results.iter().map(kind).collect::<Vec<_>>())),
    );
    Ok(())
}

async fn access(script: &mut Script) -> Outcome {
    script.begin("access");
    let (zk, bob) = (script.zk.clone(), script.client().await?);
    script.say("as bob", bob.auth("digest", b"bob:secret").await.map(debug));
    let users = bob.list_auth_users().await;
    script.say(
        "who am I",
        users.map(|users| {
            sorted(users.iter().map(|u| format!("{}:{}", u.scheme(), u.user())).collect())
        }),
    );
    let own = CreateMode::Persistent.with_acls(Acls::creator_all());
    script.say("bob's", bob.create("/bob", b"b", &own).await.map(|(stat, _)| show(&stat)));
    script.say("its list", bob.get_acl("/bob").await.map(|(list, _)| debug(list)));
    script.say("another", zk.get_data("/bob").await.map(|(data, _)| debug(data)));
    let lists =
        [Acl::new(Permission::ALL, AuthId::authed()), Acl::new(Permission::READ, AuthId::anyone())];
    let opened = bob.set_acl("/bob", &lists, Some(0)).await;
    script.say("opened to read", opened.map(|stat| show(&stat)));
    script.say("another reads", zk.get_data("/bob").await.map(|(data, _)| debug(data)));
    script.say("and sees the list", zk.get_acl("/bob").await.map(|(list, _)| debug(list)));
    script.say("but cannot write", zk.set_data("/bob", b"", None).await.map(|stat| show(&stat)));
    let nobody = script.client().await?;
    script.say("a scheme that is not there", nobody.auth("unknown", b"x").await.map(debug));
    Ok(())
}

async fn watches(script: &mut Script) -> Outcome {
    script.begin("watch");
    let zk = script.zk.clone();
    let (_, created) = zk.check_and_watch_stat("/w").await?;
    let mut standing = zk.watch("/w", AddWatchMode::Persistent).await?;
    let other = script.client().await?;
    let mut recursive = other.watch("/w", AddWatchMode::PersistentRecursive).await?;
    zk.create("/w", b"", &OPEN).await?;
    script.say("created", once(created).await);
    let (_, _, changed) = zk.get_and_watch_data("/w").await?;
    let (_, _, child) = zk.get_and_watch_children("/w").await?;
    zk.set_data("/w", b"1", None).await?;
    script.say("changed", once(changed).await);
    zk.create("/w/a", b"", &OPEN).await?;
    script.say("a child", once(child).await);
    let (_, _, deleted) = zk.get_and_watch_data("/w").await?;
    let (_, _, gone) = zk.get_and_watch_children("/w").await?;
    let (_, removed) = zk.check_and_watch_stat("/w").await?;
    drop(removed);
    zk.delete("/w/a", None).await?;
    script.say("no child", once(gone).await);
    zk.delete("/w", None).await?;
    script.say("deleted", once(deleted).await);
    for _ in 0..5 {
        script.say("standing", next(&mut standing).await);
    }
    for _ in 0..5 {
        script.say("recursive", next(&mut recursive).await);
    }
    drop(standing);
    zk.create("/w", b"", &OPEN).await?;
    script.say("the other is still there", next(&mut recursive).await);
    Ok(())
}

async fn locks(script: &mut Script) -> Outcome {
    script.begin("lock");
    script.zk.mkdir("/locks", &OPEN).await?;
    let counts = Arc::new([const { AtomicUsize::new(0) }; 3]);
    let mut parties = Vec::new();
    for _ in 0..PARTIES {
        let (zk, counts) = (script.client().await?, counts.clone());
        parties.push(tokio::spawn(async move {
            let [inside, most, turns] = &*counts;
            for _ in 0..5 {
                let prefix = LockPrefix::new_curator("/locks", "lock-")?;
                let lock = zk.lock(prefix, b"", Acls::anyone_all()).await?;
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                turns.fetch_add(1, Ordering::SeqCst);
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(lock);
            }
            Ok::<(), Error>(())
        }));
    }
    for party in parties {
        let ended = party.await.map_err(|error| Error::UnexpectedError(error.to_string()))?;
        script.say("a party", ended.map(debug));
    }
    let [_, most, turns] = &*counts;
    script.say("turns", Ok::<_, Error>(debug(turns)));
    script.say("at most inside", Ok::<_, Error>(debug(most)));
    let zk = script.zk.clone();
    let lock = zk.lock(LockPrefix::new_shared("/locks/shared-")?, b"", Acls::anyone_all()).await?;
    let written = lock.create("/locked", b"", &OPEN).await;
    script.say("written under a lock", written.map(|_| "done".to_owned()));
    zk.delete(lock.lock_path(), None).await?;
    let written = lock.set_data("/locked", b"", None).await;
    script.say("written without it", written.map(|stat| show(&stat)));
    Ok(())
}

async fn sessions(script: &mut Script) -> Outcome {
    script.begin("session");
    let zk = script.zk.clone();
    let connector =
        Client::connector().with_session_timeout(Duration::from_secs(30)).with_detached();
    let first = connector.connect(&script.address).await?;
    first.create("/mine", b"", &CreateMode::Ephemeral.with_acls(Acls::anyone_all())).await?;
    let (id, mut states) = (first.session_id(), first.state_watcher());
    script.say("timeout", Ok::<_, Error>(debug(first.session_timeout())));
    let session = first.into_session();
    while timeout(PATIENCE, states.changed()).await.is_ok_and(|state| state != SessionState::Closed)
    {
    }
    script.say("left alone", zk.check_stat("/mine").await.map(|stat| debug(stat.is_some())));
    let connector =
        Client::connector().with_session_timeout(Duration::from_secs(30)).with_session(session);
    let heir = connector.connect(&script.address).await?;
    script.say("the same session", Ok::<_, Error>(debug(heir.session_id() == id)));
    script.say("its nodes", heir.list_ephemerals("/").await.map(debug));
    let (_, _, gone) = zk.get_and_watch_data("/mine").await?;
    let session = heir.session().clone();
    drop(heir);
    script.say("gone with the session", once(gone).await);
    let connector =
        Client::connector().with_session_timeout(Duration::from_secs(30)).with_session(session);
    script.say(
        "cannot go on",
        connector.connect(&script.address).await.map(|_| "connected".to_owned()),
    );
    Ok(())
}

/// Last, as what is refused takes a zxid at one server and not at another.
async fn reconfigure(script: &mut Script) {
    script.begin("reconfigure");
    let ensemble = ["server.2=a:1:2:participant;3"].into_iter();
    let update = EnsembleUpdate::New { ensemble };
    let answer = script.zk.update_ensemble(update, None).await;
    script.say("a server more", answer.map(|(data, _)| debug(data)));
}

async fn run(address: String) -> Outcome {
    let connector = Client::connector().with_session_timeout(Duration::from_secs(30));
    let zk = connector.connect(&address).await?;
    let mut script = Script { address, section: "", steps: 0, zk };
    creates(&mut script).await;
    reads(&mut script).await;
    writes(&mut script).await?;
    transactions(&mut script).await?;
    access(&mut script).await?;
    watches(&mut script).await?;
    locks(&mut script).await?;
    sessions(&mut script).await?;
    reconfigure(&mut script).await;
    Ok(())
}

#[tokio::main]
async fn main() -> Outcome {
    let address = std::env::args().nth(1).ok_or(Error::NoHosts)?;
    tokio::select! {
        outcome = run(address) => outcome,
        () = sleep(6 * PATIENCE) => Err(Error::Timeout),
    }
}
