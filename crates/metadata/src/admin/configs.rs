//! Configs of topics, brokers, clients, users and addresses.

use super::AdminError;
use crate::cluster::Config;
use crate::tree::{ANY_VERSION, CreateMode, Error, Failure, Multi, Node, Op, Tree, TreeError};
use crate::znodes::{
    CONFIG_CHANGE_PREFIX, CONFIG_CHANGES, ConfigChange, ConfigEntity, decode_config, encode_config,
};

/// How long the note of a change stays for brokers that were away, in milliseconds (Kafka's own).
const CHANGE_KEPT_MS: i64 = 15 * 60 * 1000;

/// What was set for an entity; nothing where it has no znode.
pub async fn read_config(tree: &dyn Tree, entity: &ConfigEntity) -> Result<Config, AdminError> {
    let path = entity.path();
    decode(&path, tree.get(&path).await?.as_ref())
}

/// Changes what is set for an entity and leaves a note for the other brokers, both or neither.
/// Returns what is set now.
///
/// `change` is called again with the newer config where another broker wrote one in between. The
/// node of a quota goes with its last key.
pub async fn update_config(
    tree: &dyn Tree,
    entity: &ConfigEntity,
    mut change: impl FnMut(&mut Config),
) -> Result<Config, AdminError> {
    let path = entity.path();
    let note = ConfigChange { entity: entity.clone() }.encode();
    loop {
        let node = tree.get(&path).await?;
        let mut config = decode(&path, node.as_ref())?;
        change(&mut config);
        let mut ops = missing_parents(tree, &path).await?;
        match node {
            Some(node) if config.is_empty() && entity.is_quota() && node.stat.num_children == 0 => {
                ops.push(Op::delete(&path, node.stat.version));
            }
            Some(node) => ops.push(Op::set(&path, encode_config(&config), node.stat.version)),
            None if config.is_empty() && entity.is_quota() => return Ok(config),
            None => ops.push(Op::create(&path, Some(encode_config(&config)))),
        }
        let note_op = ops.len();
        ops.push(Op::create_as(
            CONFIG_CHANGE_PREFIX,
            Some(note.clone()),
            CreateMode::PersistentSequential,
        ));
        match tree.multi(ops).await {
            Ok(_) => return Ok(config),
            // Another broker wrote what was looked at. The note looks at nothing.
            Err(TreeError::Refused(Failure { op, error })) if op < note_op && is_race(error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Deletes the notes that every living broker has had time to read.
pub async fn purge_config_changes(tree: &dyn Tree, now_ms: i64) -> Result<(), AdminError> {
    let names = tree.children(CONFIG_CHANGES).await?.unwrap_or_default();
    let paths: Vec<String> = names.iter().map(|name| format!("{CONFIG_CHANGES}/{name}")).collect();
    let nodes = tree.get_all(paths.clone()).await?;
    let is_old = |node: &Node| now_ms.saturating_sub(node.stat.ctime_ms) > CHANGE_KEPT_MS;
    let old = paths.into_iter().zip(nodes).filter(|(_, node)| node.as_ref().is_some_and(is_old));
    let deletes: Vec<Multi> = old.map(|(path, _)| vec![Op::delete(path, ANY_VERSION)]).collect();
    if !deletes.is_empty() {
        for result in tree.multi_all(deletes).await? {
            // Another broker may have deleted it.
            if let Err(failure) = result
                && failure.error != Error::NoNode
            {
                return Err(TreeError::Refused(failure).into());
            }
        }
    }
    Ok(())
}

fn decode(path: &str, node: Option<&Node>) -> Result<Config, AdminError> {
    decode_config(node.and_then(|node| node.data.as_deref())).map_err(AdminError::malformed(path))
}

/// The creation of the parents that a path lacks: those of `/config/users/<u>/clients/<c>`.
async fn missing_parents(tree: &dyn Tree, path: &str) -> Result<Multi, AdminError> {
    let ends = path.match_indices('/').skip(1).map(|(at, _)| at);
    let parents: Vec<String> = ends.map(|at| path[..at].to_owned()).collect();
    let nodes = tree.get_all(parents.clone()).await?;
    let missing = parents.into_iter().zip(nodes).filter(|(_, node)| node.is_none());
    Ok(missing.map(|(path, _)| Op::create(path, None)).collect())
}

/// What an operation meets where another broker wrote its node or its parent in between.
fn is_race(error: Error) -> bool {
    matches!(error, Error::BadVersion | Error::NodeExists | Error::NoNode | Error::NotEmpty)
}
