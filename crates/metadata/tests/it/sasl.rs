//! The login by SASL, at a server before the keeper that lets nobody through without one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use md5::{Digest, Md5};
use ottla_keeper::wire::jute::{Reader, Write};
use ottla_keeper::wire::number::{code, op};
use ottla_metadata::tree::SessionState;
use ottla_metadata::{SaslLogin, Tree, ZooKeeper, ZooKeeperOptions};
use ottla_runtime::net::{ListenOptions, Network, Stream, accept, read_exact, readable, write_all};
use ottla_runtime::{Spawner, Task, time};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::ensemble::{Ensemble, SESSION_TIMEOUT, simulate};

/// The host of the server.
const GATE: u8 = 4;
const GATE_ADDRESS: &str = "10.0.0.4:2181";
const CHALLENGE: &str =
    r#"realm="zk-sasl-md5",nonce="9hxSHHGbgl0=",charset=utf-8,algorithm=md5-sess"#;

/// How a server answers to SASL.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// As one whose section `Server` has the user `kafka` with this password.
    Knows(&'static str),
    /// As one without such a section.
    HasNone,
    /// As one that sends a challenge of another mechanism.
    IsOther,
    /// As one that goes on with whoever fails (`zookeeper.allowSaslFailedClients`).
    Tolerates,
    /// As one that does not know the password and wants to be believed nevertheless.
    Pretends,
}

struct Gate {
    manner: Mutex<Manner>,
    /// How often somebody was let in, and how often not.
    let_in: AtomicU32,
    refused: watch::Sender<u32>,
    connections: Mutex<Vec<Task<()>>>,
}

impl Gate {
    /// Ends all connections.
    fn hang_up(&self) {
        self.connections.lock().clear();
    }

    async fn accept(self: Arc<Self>, network: Arc<dyn Network>) {
        let listening = ListenOptions { backlog: 8, send_buffer: None, receive_buffer: None };
        let address = network.resolve("10.0.0.4", 2181).unwrap();
        let mut listener = network.listen(address, listening).unwrap();
        loop {
            let client = accept(&mut *listener).await.unwrap().into_stream().unwrap();
            let (gate, network) = (Arc::clone(&self), Arc::clone(&network));
            let connection = Spawner::current().spawn(async move {
                // Its end is what the client sees.
                let _ = gate.serve(&*client, &*network).await;
            });
            self.connections.lock().push(connection);
        }
    }

    async fn serve(&self, client: &dyn Stream, network: &dyn Network) -> io::Result<()> {
        let keeper = network.connect("10.0.0.1", 2181).await?;
        put(&*keeper, &take(client).await?).await?;
        put(client, &take(&*keeper).await?).await?;
        let mut step = 0;
        loop {
            let request = take(client).await?;
            let mut body = Reader::new(&request);
            let (xid, kind) = (body.i32().unwrap(), body.i32().unwrap());
            if kind != op::SASL {
                let refusal = code::SESSION_CLOSED_REQUIRE_SASL_AUTH;
                return put(client, &answer(xid, refusal, None)).await;
            }
            let token = body.buffer().unwrap().unwrap();
            let manner = *self.manner.lock();
            let said = match step {
                0 => {
                    assert_eq!(token, b"");
                    Ok(challenge(manner))
                }
                _ => verdict(manner, std::str::from_utf8(token).unwrap()),
            };
            match said {
                Ok(token) => put(client, &answer(xid, code::OK, token.as_deref())).await?,
                Err(code) => {
                    self.refused.send_modify(|refused| *refused += 1);
                    return put(client, &answer(xid, code, None)).await;
                }
            }
            step += 1;
            if step == 2 {
                break;
            }
        }
        self.let_in.fetch_add(1, Ordering::Relaxed);
        tokio::try_join!(copy(client, &*keeper), copy(&*keeper, client)).map(drop)
    }
}

fn challenge(manner: Manner) -> Option<String> {
    match manner {
        Manner::HasNone => None,
        Manner::IsOther => Some("r=fyko+d2lbbFgONRv9qkxdawL,s=QSXCR+Q6sek8bf92,i=4096".to_owned()),
        _ => Some(CHALLENGE.to_owned()),
    }
}

fn verdict(manner: Manner, response: &str) -> Result<Option<String>, i32> {
    match manner {
        Manner::Knows(password)
            if value(response, "response") == hash(response, password, true) =>
        {
            Ok(Some(format!("rspauth={}", hash(response, password, false))))
        }
        Manner::Pretends => Ok(Some(format!("rspauth={}", hash(response, "a guess", false)))),
        Manner::Tolerates => Ok(None),
        _ => Err(code::AUTH_FAILED),
    }
}

/// What a client sends, or is sent, if it has this password.
fn hash(response: &str, password: &str, is_client: bool) -> String {
    let hex = |hash: Md5| -> String {
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let of = |name| value(response, name);
    assert_eq!((of("username"), of("authzid")), ("kafka".to_owned(), "kafka".to_owned()));
    assert_eq!((of("qop"), of("charset")), ("auth".to_owned(), "utf-8".to_owned()));
    assert_eq!(of("nonce"), "9hxSHHGbgl0=");
    assert!(of("cnonce").len() >= 16);
    let secret = Md5::digest(format!("kafka:zk-sasl-md5:{password}"));
    let session = Md5::new_with_prefix(secret);
    let session =
        session.chain_update(format!(":{}:{}:{}", of("nonce"), of("cnonce"), of("authzid")));
    let about = if is_client { "AUTHENTICATE" } else { "" };
    let about = Md5::new_with_prefix(format!("{about}:zookeeper/zk-sasl-md5"));
    let rest = format!(":{}:{}:{}:auth:", of("nonce"), of("nc"), of("cnonce"));
    hex(Md5::new_with_prefix(format!("{}{rest}{}", hex(session), hex(about))))
}

/// The value of `name` in a response, in which none has a comma.
fn value(response: &str, name: &str) -> String {
    let values = response.split(',').filter_map(|part| part.split_once('='));
    let (_, value) = values.into_iter().find(|(its, _)| *its == name).unwrap();
    value.trim_matches('"').to_owned()
}

fn answer(xid: i32, code: i32, token: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    out.i32(xid);
    out.i64(0);
    out.i32(code);
    out.buffer(token.map(str::as_bytes));
    out
}

async fn take(stream: &dyn Stream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    read_exact(stream, &mut length).await?;
    let mut packet = vec![0; u32::from_be_bytes(length) as usize];
    read_exact(stream, &mut packet).await?;
    Ok(packet)
}

async fn put(stream: &dyn Stream, packet: &[u8]) -> io::Result<()> {
    write_all(stream, &(packet.len() as u32).to_be_bytes()).await?;
    write_all(stream, packet).await
}

async fn copy(from: &dyn Stream, to: &dyn Stream) -> io::Result<()> {
    let mut bytes = [0; 1024];
    loop {
        match from.try_read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => write_all(to, &bytes[..read]).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => readable(from).await?,
            Err(error) => return Err(error),
        }
    }
}

struct Scene {
    ensemble: Ensemble,
    gate: Arc<Gate>,
    _accepting: Task<()>,
}

impl Scene {
    fn new(manner: Manner) -> Self {
        let ensemble = Ensemble::start(1);
        let gate = Arc::new(Gate {
            manner: Mutex::new(manner),
            let_in: AtomicU32::new(0),
            refused: watch::Sender::new(0),
            connections: Mutex::default(),
        });
        let accepting = Arc::clone(&gate).accept(ensemble.network.host(GATE));
        Self { ensemble, gate, _accepting: Spawner::current().spawn(accepting) }
    }

    fn options(&self, at: &str, password: Option<&str>) -> ZooKeeperOptions {
        let mut options = self.ensemble.options();
        options.connect = at.parse().unwrap();
        options.sasl = password.map(|password| SaslLogin {
            username: "kafka".to_owned(),
            password: password.to_owned(),
        });
        options
    }

    async fn session(&self) -> Arc<dyn Tree> {
        self.ensemble.session_as(self.options(GATE_ADDRESS, Some("secret"))).await
    }
}

#[test]
fn a_session_logs_in_on_each_connection() {
    simulate(async {
        let scene = Scene::new(Manner::Knows("secret"));
        let tree = scene.session().await;
        let session = tree.session();
        tree.create("/a", None).await.unwrap();
        assert_eq!(scene.gate.let_in.load(Ordering::Relaxed), 1);
        scene.gate.hang_up();
        assert!(tree.exists("/a").await.unwrap().is_some());
        assert_eq!(scene.gate.let_in.load(Ordering::Relaxed), 2);
        assert_eq!(tree.session(), session);
    });
}

#[test]
fn a_start_is_told_at_once_why_it_is_not_let_in() {
    let not_let_in = |manner, at: &str, password| {
        simulate(async {
            let scene = Scene::new(manner);
            let began = time::now();
            let (world, options) = (scene.ensemble.client(), scene.options(at, password));
            let told = ZooKeeper::connect(&world, options).await.unwrap_err().to_string();
            assert!(time::now() - began < Duration::from_secs(1), "{told}");
            told
        })
    };
    let gate = GATE_ADDRESS;
    for (manner, at, password, reason) in [
        (Manner::Knows("secret"), gate, Some("guess"), "it refuses the login by SASL of `kafka`"),
        (Manner::Knows("secret"), gate, None, "serves only who logs in: set zookeeper.sasl.jaas"),
        (Manner::HasNone, gate, Some("secret"), "it has no login by SASL: its JAAS file needs"),
        // A keeper.
        (Manner::HasNone, "10.0.0.1:2181", Some("secret"), "it has no login by SASL"),
        (Manner::IsOther, gate, Some("secret"), "is not SASL's DIGEST-MD5 (RFC 2831)"),
        (Manner::Tolerates, gate, Some("secret"), "it does not show that it knows the password"),
        (Manner::Pretends, gate, Some("secret"), "it does not show that it knows the password"),
    ] {
        let told = not_let_in(manner, at, password);
        assert!(told.contains(reason), "{told}");
        assert!(!told.contains("secret") && !told.contains("guess"), "{told}");
    }
}

#[test]
fn a_session_goes_on_when_its_password_is_right_again() {
    simulate(async {
        let scene = Scene::new(Manner::Knows("secret"));
        let tree = scene.session().await;
        let (session, mut state) = (tree.session(), tree.state());
        tree.create("/a", None).await.unwrap();
        *scene.gate.manner.lock() = Manner::Knows("another");
        scene.gate.hang_up();
        state.wait_for(|state| *state == SessionState::Disconnected).await.unwrap();
        let mut refused = scene.gate.refused.subscribe();
        time::timeout(SESSION_TIMEOUT, refused.wait_for(|refused| *refused >= 3))
            .await
            .expect("it tries again")
            .unwrap();
        *scene.gate.manner.lock() = Manner::Knows("secret");
        state.wait_for(|state| *state == SessionState::Connected).await.unwrap();
        assert!(tree.exists("/a").await.unwrap().is_some());
        assert_eq!(tree.session(), session);
    });
}

/// The keeper knows nothing of the login, as a ZooKeeper does not that was not told to count it.
#[test]
fn who_is_nobody_to_the_ensemble_is_told_so() {
    simulate(async {
        let scene = Scene::new(Manner::Knows("secret"));
        let mut options = scene.options(GATE_ADDRESS, Some("secret"));
        options.set_acl = true;
        let tree: Arc<dyn Tree> = scene.ensemble.session_as(options).await;
        let told = tree.create("/a", None).await.unwrap_err().to_string();
        assert!(told.contains("its servers need authProvider.1="), "{told}");
    });
}
