//! Starting nodes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ottla_config::Sources;
use ottla_runtime::World;
use ottla_server::config::BrokerConfig;
use ottla_server::{Node, StartError};

/// A directory of a test, removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("ottla-server-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts a node with its logs in `dir` on a free port; `settings` are `key=value`.
pub(crate) async fn try_start(dir: &Path, settings: &[&str]) -> Result<Node, StartError> {
    start_in(World::system(), dir, settings).await
}

/// Starts a node in another world.
pub(crate) async fn start_in(
    world: World,
    dir: &Path,
    settings: &[&str],
) -> Result<Node, StartError> {
    let log_dirs = format!("log.dirs={}", dir.display());
    let base = ["listeners=PLAINTEXT://127.0.0.1:0", "num.network.threads=2", &log_dirs];
    let sources = Sources::new().command_line(base.iter().chain(settings).copied());
    let (config, warnings) = BrokerConfig::load(sources).expect("a configuration");
    assert!(warnings.is_empty(), "{warnings:?}");
    Node::start(world, config).await
}

pub(crate) async fn start(dir: &Path, settings: &[&str]) -> Node {
    try_start(dir, settings).await.expect("starts")
}

pub(crate) fn address(node: &Node) -> SocketAddr {
    node.listening()[0].address
}
