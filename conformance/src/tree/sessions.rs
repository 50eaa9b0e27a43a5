//! Sessions with a real ensemble: below a node, with access lists, and their end.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use ottla_metadata::admin;
use ottla_metadata::tree::{
    ANY_VERSION, CreateMode, Error, Op, SessionState, TreeError, Watch, Written,
};

use super::{open, options};
use crate::Outcome;
use crate::zookeeper::SESSION_TIMEOUT;

/// Fails with `what` unless `holds`.
fn ensure(holds: bool, what: &str) -> Outcome<()> {
    if holds { Ok(()) } else { Err(what.into()) }
}

pub(super) async fn chroot(all: &str) -> Outcome<String> {
    let outer = open(options(all)).await?;
    let inner = open(options(&format!("{all}/made/when missing"))).await?;
    let mut changes = inner.watch(vec![Watch::Children("/".to_owned())]).await?;
    let written = inner.multi(vec![Op::create("/a", Some(b"x".to_vec()))]).await?;
    ensure(
        matches!(&written[..], [Written::Created { path, .. }] if path == "/a"),
        "the created path has the chroot in it",
    )?;
    ensure(outer.exists("/made/when missing/a").await?.is_some(), "it is not below the chroot")?;
    ensure(inner.children("/").await? == Some(vec!["a".to_owned()]), "children of the root")?;
    let told = changes.next().await;
    ensure(format!("{told:?}").contains("\"/a\""), &format!("told {told:?}"))?;
    // Whoever comes second finds it.
    open(options(&format!("{all}/made/when missing"))).await?.delete("/a", 0).await?;
    Ok(String::new())
}

pub(super) async fn access_lists(all: &str) -> Outcome<String> {
    let connect = format!("{all}/secure");
    let mut secure = options(&connect);
    secure.set_acl = true;
    secure.auths = vec![("digest".to_owned(), b"kafka:secret".to_vec())];
    let broker = open(secure.clone()).await?;
    admin::create_top_level_paths(&*broker).await?;
    for path in ["/config/users/alice", "/config/topics/t", "/consumers/g"] {
        broker.create(path, Some(b"{}".to_vec())).await?;
    }
    let stranger = open(options(&connect)).await?;
    ensure(
        stranger.get("/config/topics/t").await?.is_some(),
        "everyone may read a topic's config",
    )?;
    let refused =
        |result: Result<(), TreeError>| matches!(result, Err(error) if error.is(Error::NoAuth));
    for path in ["/config/users/alice", "/config/users", "/config/brokers"] {
        let read = stranger.get(path).await.map(drop);
        ensure(refused(read), &format!("a stranger reads {path}"))?;
    }
    let set = stranger.set("/config/topics/t", Vec::new(), ANY_VERSION).await.map(drop);
    ensure(refused(set), "a stranger writes a topic's config")?;
    ensure(refused(stranger.create("/brokers/ids/1", None).await), "a stranger registers")?;
    ensure(stranger.create("/consumers/stranger", None).await.is_ok(), "/consumers is not open")?;

    let again = open(secure.clone()).await?;
    ensure(again.get("/config/users/alice").await?.is_some(), "its creator may not read it")?;
    again.set("/config/users/alice", b"{1}".to_vec(), 0).await?;
    secure.auths = vec![("digest".to_owned(), b"kafka:guess".to_vec())];
    let guesser = open(secure).await?;
    ensure(refused(guesser.get("/config/users/alice").await.map(drop)), "a guess opens it")?;
    Ok(String::new())
}

/// Another process shows the same session and ends it, as a start after a crash does.
pub(super) async fn taken(all: &str) -> Outcome<String> {
    let file = env::temp_dir().join(format!("ottla-conformance-session-{}", std::process::id()));
    let mut kept = options(&format!("{all}/taken"));
    kept.session_file = Some(file.clone());
    let registration = || vec![Op::create_as("/broker", None, CreateMode::Ephemeral)];
    let first = open(kept.clone()).await?;
    first.multi(registration()).await?;
    ensure(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600, "others may read the file")?;
    let mut state = first.state();
    let mut changes = first.watch(vec![Watch::Node("/broker".to_owned())]).await?;

    let began = Instant::now();
    let second = open(kept).await?;
    second.multi(registration()).await?;
    let took = began.elapsed();
    ensure(took < SESSION_TIMEOUT / 2, "it waited for the first session's timeout")?;
    state.wait_for(|state| *state == SessionState::Expired).await?;
    while changes.next().await.is_some() {}
    let refused = first.multi(registration()).await;
    ensure(
        matches!(&refused, Err(error) if error.is(Error::SessionExpired)),
        &format!("the session that is over writes: {refused:?}"),
    )?;
    second.close().await?;
    ensure(!file.exists(), "the file of a session that was closed is left")?;
    first.renew().await?;
    first.multi(registration()).await?;
    first.close().await?;
    Ok(format!(", after {} ms", took.as_millis()))
}

/// A client that goes without a word: its nodes stay until its time is over.
pub(super) async fn vanished(all: &str) -> Outcome<String> {
    let connect = format!("{all}/vanished");
    let (client, observer) = (open(options(&connect)).await?, open(options(&connect)).await?);
    client.multi(vec![Op::create_as("/e", None, CreateMode::Ephemeral)]).await?;
    let mut changes = observer.watch(vec![Watch::Node("/e".to_owned())]).await?;
    while observer.exists("/e").await?.is_none() {
        changes.next().await;
    }
    let began = Instant::now();
    drop(client);
    while observer.exists("/e").await?.is_some() {
        changes.next().await;
    }
    let took = began.elapsed();
    ensure(took > SESSION_TIMEOUT / 2, "its node went before its time")?;
    ensure(took < SESSION_TIMEOUT + Duration::from_secs(5), "its node stayed beyond its time")?;
    Ok(format!(": its node went after {} ms", took.as_millis()))
}
