//! Finding out what became of lost writes: what is to be read for that, and what follows.

use std::collections::BTreeMap;

use super::link::Link;
use super::lost::{self, Seen, Verdict};
use super::packet::{Answer, Ask, unavailable};
use super::session::{End, Sent, Session};
use crate::changes::parent;
use crate::tree::{Op, Stat, TreeError, Written, Zxid};

/// So many nodes are read in one request.
const NODES_AT_ONCE: usize = 64;

/// So many numbered children are looked at to find one's own; the newest have the highest numbers.
const NUMBERED_MAX: usize = 512;

/// A lost write and its place among all that was lost.
type Lost = (usize, Sent);

impl Session {
    /// Answers those of the lost writes that were done, or of which that cannot be known. The others
    /// are put into `again`; so are all that are left when the connection is lost meanwhile.
    pub(super) async fn judge_writes(
        &mut self,
        link: &mut Link,
        mut writes: Vec<Lost>,
        again: &mut Vec<Lost>,
    ) -> Result<(), End> {
        let result = self.try_judge(link, &mut writes, again).await;
        again.append(&mut writes);
        result
    }

    async fn try_judge(
        &mut self,
        link: &mut Link,
        writes: &mut Vec<Lost>,
        again: &mut Vec<Lost>,
    ) -> Result<(), End> {
        let paths = writes.iter().flat_map(|(_, sent)| lost::witnesses(ops(sent)));
        let mut paths: Vec<String> = paths.collect();
        paths.sort_unstable();
        paths.dedup();
        let seen = self.look(link, paths).await?;
        let judge = |(_, sent): &Lost| lost::judge(ops(sent), self.id, sent.base, &seen);
        let mut verdicts: Vec<Verdict> = writes.iter().map(judge).collect();
        // Two writes cannot be one change: which of them it was is not known.
        let mut claims: BTreeMap<Zxid, usize> = BTreeMap::new();
        for verdict in &verdicts {
            if let Verdict::Done(zxid) = verdict {
                *claims.entry(*zxid).or_default() += 1;
            }
        }
        for verdict in &mut verdicts {
            if matches!(verdict, Verdict::Done(zxid) if claims[zxid] > 1) {
                *verdict = Verdict::Unknown;
            }
        }
        // Requests are worked off in their order: one that was not done and stands before one that
        // was, or may have been, was refused. To send it now would be to do it out of its turn.
        let mut is_passed = false;
        for verdict in verdicts.iter_mut().rev() {
            match verdict {
                Verdict::NotDone if is_passed => *verdict = Verdict::Unknown,
                Verdict::NotDone => {}
                Verdict::Done(_) | Verdict::Unknown => is_passed = true,
            }
        }
        for verdict in verdicts {
            let answer = match verdict {
                Verdict::Done(zxid) => self.answer_of(link, ops(&writes[0].1), zxid, &seen).await?,
                Verdict::Unknown => None,
                Verdict::NotDone => {
                    again.push(writes.remove(0));
                    continue;
                }
            };
            let (_, sent) = writes.remove(0);
            sent.request.answer(answer.map(|done| Answer::Written(Ok(done))).ok_or_else(unknown));
        }
        Ok(())
    }

    /// What is answered to a write that was done; `None` if a part of that is gone.
    async fn answer_of(
        &mut self,
        link: &mut Link,
        ops: &[Op],
        zxid: Zxid,
        seen: &Seen,
    ) -> Result<Option<Vec<Written>>, End> {
        let mut numbered: Vec<(String, Stat)> = Vec::new();
        for prefix in lost::prefixes(ops) {
            let parent = parent(prefix).unwrap_or("/").to_owned();
            let Answer::Children(mut children) =
                self.ask(link, Ask::Children(vec![parent.clone()])).await?
            else {
                continue;
            };
            let names = children.pop().flatten().unwrap_or_default();
            let slash = if parent == "/" { "" } else { "/" };
            let mut paths: Vec<String> = names
                .iter()
                .map(|name| format!("{}{slash}{name}", parent.trim_end_matches('/')))
                .filter(|path| lost::is_numbered(path, prefix))
                .collect();
            paths.sort_unstable_by(|a, b| b.cmp(a));
            paths.truncate(NUMBERED_MAX);
            let found = self.look(link, paths).await?;
            numbered.extend(found.into_iter().filter_map(|(path, node)| Some((path, node?.stat))));
        }
        Ok(lost::answer(ops, zxid, seen, &numbered))
    }

    async fn look(&mut self, link: &mut Link, paths: Vec<String>) -> Result<Seen, End> {
        let mut seen = Seen::new();
        for some in paths.chunks(NODES_AT_ONCE) {
            if let Answer::Nodes(nodes) = self.ask(link, Ask::Get(some.to_vec())).await? {
                seen.extend(some.iter().cloned().zip(nodes));
            }
        }
        Ok(seen)
    }
}

fn ops(sent: &Sent) -> &[Op] {
    match &sent.request.ask {
        Ask::Write(ops) => ops,
        _ => &[],
    }
}

fn unknown() -> TreeError {
    unavailable(
        "the connection with ZooKeeper was lost while this was under way, and the tree does not show \
         whether it was done: read it again",
    )
}
