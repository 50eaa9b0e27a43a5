//! How long it takes to write and to read what a controller reads at its election.

use std::env;
use std::time::Instant;

use ottla_metadata::tree::{Multi, Op};

use super::{open, options};
use crate::Outcome;

/// How many nodes, unless `OTTLA_TREE_NODES` says otherwise.
const NODES: usize = 2_000;
const OPS_IN_A_MULTI: usize = 500;
/// So many of them are written over, each by a multi of its own.
const SETS: usize = 5_000;

/// As long as the state of a partition is.
const STATE: &[u8] =
    br#"{"controller_epoch":1,"leader":1,"version":1,"leader_epoch":0,"isr":[1,2,3]}"#;

pub(super) async fn many_nodes(all: &str) -> Outcome<String> {
    let nodes = match env::var("OTTLA_TREE_NODES") {
        Ok(nodes) => nodes.parse()?,
        Err(_) => NODES,
    };
    let tree = open(options(&format!("{all}/many"))).await?;
    let paths: Vec<String> = (0..nodes).map(|n| format!("/partition-{n}")).collect();
    let creates: Vec<Op> =
        paths.iter().map(|path| Op::create(path, Some(STATE.to_vec()))).collect();
    let multis: Vec<Multi> = creates.chunks(OPS_IN_A_MULTI).map(<[Op]>::to_vec).collect();
    let began = Instant::now();
    let results = tree.multi_all(multis).await?;
    let created = began.elapsed();
    if let Some(failure) = results.into_iter().find_map(Result::err) {
        return Err(format!("{failure:?}").into());
    }
    let began = Instant::now();
    let read = tree.get_all(paths.clone()).await?;
    let took = began.elapsed();
    if !read.iter().flatten().all(|node| node.data.as_deref() == Some(STATE)) || read.len() != nodes
    {
        return Err("what was read is not what was written".into());
    }
    let began = Instant::now();
    let sets = paths.iter().take(SETS).map(|path| vec![Op::set(path, STATE.to_vec(), 0)]);
    let sets: Vec<Multi> = sets.collect();
    let set_count = sets.len();
    let results = tree.multi_all(sets).await?;
    let set = began.elapsed();
    if results.iter().any(Result::is_err) {
        return Err("not all nodes were set".into());
    }
    Ok(format!(
        ": {nodes} created in {} ms, read in {} ms, {set_count} set one by one in {} ms",
        created.as_millis(),
        took.as_millis(),
        set.as_millis()
    ))
}
