//! `ottla keeper import` and `ottla keeper export`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use ottla_config::Sources;
use ottla_keeper::machine::Copied;
use ottla_keeper::shell::{is_new_directory, make_directory, read_directory};
use ottla_keeper::{Limits, Tree};
use ottla_metadata::copy::{CopyError, Made, Settled, Whole, read, write};
use ottla_metadata::{ConnectString, SaslLogin, Tree as _, ZooKeeper, ZooKeeperOptions};
use ottla_runtime::World;
use ottla_server::config::ZooKeeperTls;
use ottla_server::zookeeper_client;
use ottla_tls::Client;

use super::restore;
use crate::exit::{Exit, Failure, Outcome};
use crate::terminal::print_all;

/// Nobody may write meanwhile: no Kafka may be at work on the tree, and a change of anybody's is
/// noticed. Versions, zxids, times and access lists are kept, and the next zxid is above any of the
/// ensemble's. Ephemeral nodes are left out, for they belong to sessions. Containers and nodes with a
/// time to live stay for good from here on, for no client is told that they are some. With a path behind
/// the servers, what is below it is taken, and the path itself becomes the root.
#[derive(Args, Debug)]
pub(super) struct Import {
    /// The servers of ZooKeeper, or the clients' address of a keeper
    #[arg(long, value_name = "HOST:PORT,…[/PATH]")]
    from: ConnectString,
    /// The directory of the keeper: new, or empty. That of a broker is __cluster_metadata-1 in its first
    /// log.dirs
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Whom to show to the servers, as in digest:user:password or sasl:user:password; may be given again
    #[arg(long, value_name = "SCHEME:PROOF", value_parser = auth)]
    auth: Vec<Auth>,
    #[command(flatten)]
    encryption: Encryption,
}

/// Nobody may write meanwhile: no Kafka may be at work on the tree. The versions of nodes and the
/// numbers of sequential ones become what they were, by writing as often; times and zxids begin anew, so
/// brokers have to be started after it. Ephemeral nodes are left out. With a path behind the servers of
/// --to, the tree is put there.
#[derive(Args, Debug)]
pub(super) struct Export {
    /// The clients' address of a keeper that runs, or servers of ZooKeeper
    #[arg(long, value_name = "HOST:PORT,…[/PATH]", conflicts_with = "data_dir")]
    #[arg(required_unless_present = "data_dir")]
    from: Option<ConnectString>,
    /// The directory of a keeper that is stopped, and that is its quorum alone
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The servers of ZooKeeper, which have no such path, or without a path nothing at all
    #[arg(long, value_name = "HOST:PORT,…[/PATH]")]
    to: ConnectString,
    /// Whom to show to all servers, as in digest:user:password; may be given again. A keeper has no login
    /// by SASL: sasl:user:password is for --to alone
    #[arg(long, value_name = "SCHEME:PROOF", value_parser = auth)]
    auth: Vec<Auth>,
    /// How often to write only to make versions and numbers what they were
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    max_writes: u64,
    #[command(flatten)]
    encryption: Encryption,
}

#[derive(Args, Debug)]
struct Encryption {
    /// A file with Kafka's keys zookeeper.ssl.*, by which connections with ZooKeeper are encrypted; in
    /// an export those of --to. Other keys in it are passed over
    #[arg(long, value_name = "FILE")]
    zk_tls_config_file: Option<PathBuf>,
}

impl Encryption {
    fn client(&self, world: &World) -> Result<Option<Client>, Failure> {
        let Some(path) = &self.zk_tls_config_file else { return Ok(None) };
        let path = path.display().to_string();
        let wrong = |reason: String| Failure::new(Exit::Configuration, reason);
        let text = fs::read_to_string(&path)
            .map_err(|error| wrong(format!("cannot read {path}: {error}")))?;
        let settings = Sources::new().properties(&path, &text).merge([]);
        let config = ZooKeeperTls::load(&settings).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
            wrong(lines.join("\nottla: "))
        })?;
        let Some(config) = config else {
            return Err(wrong(format!(
                "{path} does not set zookeeper.ssl.client.enable=true: nothing would be encrypted"
            )));
        };
        zookeeper_client(&config, world).map(Some).map_err(|error| wrong(error.to_string()))
    }
}

/// Whom to show to servers.
#[derive(Clone, Debug)]
enum Auth {
    Scheme(String, Vec<u8>),
    Sasl(SaslLogin),
}

impl Import {
    pub(super) async fn run(self) -> Outcome {
        let world = World::system();
        let dir = &self.data_dir;
        is_new_directory(&*world.disk, dir).map_err(restore::failure)?;
        let tls = self.encryption.client(&world)?;
        let whole = fetch(&world, &self.from, &self.auth, tls).await?;
        let quotas = whole.quotas.clone();
        let Settled { nodes, last_zxid, ephemerals } = whole.settled().map_err(failure)?;
        let count = nodes.len();
        let tree = Tree::of(last_zxid, nodes).map_err(CopyError::NoTree).map_err(failure)?;
        make_directory(&world.disk, dir, tree).map_err(restore::failure)?;
        if !quotas.is_empty() {
            print_all(&format!(
                "left out: quotas, which a keeper has none of: {}\n",
                quotas.join(", ")
            ))?;
        }
        print_all(&format!(
            "{} has {count} nodes, as of zxid {last_zxid:#x}; {ephemerals} ephemeral ones were left \
             out. Start its keeper, which is the only voter of a new quorum, and add others to it.\n",
            dir.display()
        ))
    }
}

impl Export {
    pub(super) async fn run(self) -> Outcome {
        let world = World::system();
        let tls = self.encryption.client(&world)?;
        let whole = match (&self.from, &self.data_dir) {
            (Some(from), _) => {
                let is_for_both = |auth: &&Auth| !matches!(auth, Auth::Sasl(_));
                let auth: Vec<_> = self.auth.iter().filter(is_for_both).cloned().collect();
                fetch(&world, from, &auth, None).await?
            }
            (None, Some(dir)) => stopped(&world, dir)?,
            (None, None) => return Err(Failure::usage("say --from or --data-dir")),
        };
        let Settled { nodes, ephemerals, .. } = whole.settled().map_err(failure)?;
        let to = connect(&world, &self.to, &self.auth, tls).await?;
        let made = write(&to, &self.to.chroot, &nodes, self.max_writes).await;
        end(&to).await;
        let Made { nodes, extra } = made.map_err(failure)?;
        print_all(&format!(
            "{nodes} nodes are there, and were compared; {extra} writes made versions and numbers what \
             they were, {ephemerals} ephemeral nodes were left out. Times, zxids and the versions of \
             access lists are new: start brokers that know the former ones again.\n"
        ))
    }
}

/// Reads what servers have.
async fn fetch(
    world: &World,
    from: &ConnectString,
    auth: &[Auth],
    tls: Option<Client>,
) -> Result<Whole, Failure> {
    let tree = connect(world, from, auth, tls).await?;
    let whole = read(&tree, &from.chroot, Limits::default().tree_bytes).await;
    end(&tree).await;
    whole.map_err(failure)
}

/// Reads the directory of a keeper that is stopped.
fn stopped(world: &World, dir: &Path) -> Result<Whole, Failure> {
    let tree = read_directory(&world.disk, dir).map_err(restore::failure)?;
    let nodes: Vec<Copied> = tree.copy().collect();
    Ok(Whole { nodes, last_zxid: tree.last_zxid(), quotas: Vec::new() })
}

async fn connect(
    world: &World,
    to: &ConnectString,
    auth: &[Auth],
    tls: Option<Client>,
) -> Result<ZooKeeper, Failure> {
    // A session makes its chroot where it is missing: whether it is there is to be found out.
    let mut options = ZooKeeperOptions::new(ConnectString { chroot: String::new(), ..to.clone() });
    for auth in auth.iter().cloned() {
        match auth {
            Auth::Scheme(scheme, proof) => options.auths.push((scheme, proof)),
            Auth::Sasl(login) if options.sasl.is_none() => options.sasl = Some(login),
            Auth::Sasl(_) => {
                return Err(Failure::usage("only one --auth can be of the scheme sasl"));
            }
        }
    }
    options.tls = tls;
    let connected = ZooKeeper::connect(world, options).await;
    connected.map_err(|error| Failure::new(Exit::Unreachable, error))
}

async fn end(tree: &ZooKeeper) {
    // Without this it ends by itself, after its timeout.
    let _ = tree.close().await;
}

fn failure(error: CopyError) -> Failure {
    Failure::failed(error)
}

/// Reads `scheme:proof`; a proof may have colons of its own.
fn auth(text: &str) -> Result<Auth, String> {
    match text.split_once(':') {
        Some(("sasl", login)) => match login.split_once(':') {
            Some((username, password)) if !username.is_empty() => {
                let (username, password) = (username.to_owned(), password.to_owned());
                Ok(Auth::Sasl(SaslLogin { username, password }))
            }
            _ => Err("not of the form sasl:USER:PASSWORD".to_owned()),
        },
        Some((scheme, proof)) if !scheme.is_empty() && !proof.is_empty() => {
            Ok(Auth::Scheme(scheme.to_owned(), proof.as_bytes().to_vec()))
        }
        _ => Err("not of the form SCHEME:PROOF, as in digest:user:password".to_owned()),
    }
}
