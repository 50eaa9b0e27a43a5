//! A look at a tree of znodes: what `tree.py` printed, with names in the place of what is another
//! value on each run.
//!
//! Owns: the names. Must not know: what is right.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Outcome;

/// What each path has, key by key: `version`, `data.partitions.0`…
pub(super) type Tree = BTreeMap<String, BTreeMap<String, String>>;

/// A tree as it was after a step.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) step: &'static str,
    pub(super) tree: Tree,
}

/// What the values of one run are called. A value has the same name wherever it is seen, which tells
/// where and when that was first; so two runs give the same names if the same values are the same.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// When each step began, in milliseconds since the epoch.
    steps: Vec<(&'static str, i64)>,
    /// Sessions and ids.
    seen: BTreeMap<String, String>,
    ports: Vec<(u16, &'static str)>,
}

impl Names {
    /// From now on things happen in `step`.
    pub(super) fn begin(&mut self, step: &'static str, now_ms: i64) {
        self.steps.push((step, now_ms));
    }

    /// What a port is called. Several may have one name.
    pub(super) fn port(&mut self, port: u16, name: &'static str) {
        self.ports.push((port, name));
    }

    /// Reads the lines of `tree.py`.
    pub(super) fn read(&mut self, lines: &str) -> Outcome<Look> {
        let mut tree = Tree::new();
        for line in lines.lines() {
            let node: Value = serde_json::from_str(line)?;
            let path = node["path"].as_str().ok_or("a node without a path")?;
            tree.insert(path.to_owned(), self.node(path, &node)?);
        }
        Ok(Look { step: self.step(), tree })
    }

    fn step(&self) -> &'static str {
        self.steps.last().map_or("the beginning", |(step, _)| step)
    }

    fn node(&mut self, path: &str, node: &Value) -> Outcome<BTreeMap<String, String>> {
        let mut keys = BTreeMap::new();
        for key in ["acl", "version", "cversion", "aversion", "children"] {
            keys.insert(key.to_owned(), node[key].to_string());
        }
        for key in ["ctime", "mtime"] {
            keys.insert(key.to_owned(), self.time(node[key].as_i64()));
        }
        if let Some(owner) = node["owner"].as_i64().filter(|owner| *owner != 0) {
            let owner = self.name(&format!("session {owner}"), path);
            keys.insert("owner".to_owned(), owner);
        }
        match node["data"].as_str() {
            None => drop(keys.insert("data".to_owned(), "null".to_owned())),
            Some(text) => match serde_json::from_str(text) {
                Ok(json @ Value::Object(_)) => self.keys("data", &json, path, &mut keys),
                _ => drop(keys.insert("data".to_owned(), format!("{text:?}"))),
            },
        }
        Ok(keys)
    }

    /// Takes apart what is made of parts; one that has none has a text too.
    fn keys(&mut self, key: &str, value: &Value, path: &str, keys: &mut BTreeMap<String, String>) {
        let last = key.rsplit('.').find(|part| part.parse::<usize>().is_err()).unwrap_or(key);
        let name = match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(k, v)| self.keys(&format!("{key}.{k}"), v, path, keys));
                return;
            }
            Value::Array(list) if !list.is_empty() => {
                let numbered = list.iter().enumerate();
                numbered.for_each(|(n, v)| self.keys(&format!("{key}.{n}"), v, path, keys));
                return;
            }
            Value::String(id) if ["id", "topic_id", "log_dirs"].contains(&last) => {
                self.name(&format!("id {id}"), path)
            }
            Value::String(time) if last == "timestamp" => {
                format!("\"{}\"", self.time(time.parse().ok()))
            }
            Value::String(_) | Value::Number(_) => self.with_named_ports(value, last),
            value => value.to_string(),
        };
        keys.insert(key.to_owned(), name);
    }

    fn with_named_ports(&self, value: &Value, key: &str) -> String {
        let mut text = value.to_string();
        for (port, name) in &self.ports {
            match value {
                Value::Number(number)
                    if key == "port" && number.as_u64() == Some((*port).into()) =>
                {
                    return format!("port {name}");
                }
                _ => text = text.replace(&format!(":{port}\""), &format!(":port {name}\"")),
            }
        }
        text
    }

    fn name(&mut self, value: &str, path: &str) -> String {
        let step = self.step();
        let kind = value.split(' ').next().unwrap_or_default();
        let name = || format!("{kind} first seen at {path} after {step}");
        self.seen.entry(value.to_owned()).or_insert_with(name).clone()
    }

    /// The step in which a time was.
    fn time(&self, time_ms: Option<i64>) -> String {
        let begun = |(_, began_ms): &&(_, i64)| time_ms.is_some_and(|time_ms| *began_ms <= time_ms);
        match self.steps.iter().rev().find(begun) {
            Some((step, _)) => format!("in {step}"),
            None => format!("{time_ms:?}"),
        }
    }
}

/// A key of a znode that is not the same in two trees. A side that has no such key, or no such znode,
/// has `None`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference<'a> {
    pub(super) path: &'a str,
    pub(super) key: &'a str,
    pub(super) values: [Option<&'a str>; 2],
}

/// How two trees differ.
pub(super) fn differences<'a>(one: &'a Tree, other: &'a Tree) -> Vec<Difference<'a>> {
    let keys = |tree: &'a Tree| {
        tree.iter().flat_map(|(path, keys)| keys.keys().map(move |key| (&**path, &**key)))
    };
    let mut all: Vec<(&str, &str)> = keys(one).chain(keys(other)).collect();
    all.sort_unstable();
    all.dedup();
    let value = |tree: &'a Tree, path, key| Some(tree.get(path)?.get(key)?.as_str());
    let compared = all.into_iter().map(|(path, key)| Difference {
        path,
        key,
        values: [value(one, path, key), value(other, path, key)],
    });
    compared.filter(|difference| difference.values[0] != difference.values[1]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str, owner: i64, ctime: i64, data: &str) -> String {
        let data = if data == "null" { data.to_owned() } else { format!("{data:?}") };
        format!(
            r#"{{"path":"{path}","owner":{owner},"acl":["world:anyone=31"],"version":0,"cversion":0,
               "aversion":0,"children":0,"ctime":{ctime},"mtime":{ctime},"data":{data}}}"#
        )
        .replace('\n', " ")
    }

    fn look(owner: i64, begin_ms: i64, id: &str, port: u16, last: &str) -> Tree {
        let mut names = Names::default();
        names.begin("start", begin_ms);
        names.port(port, "one");
        let broker = format!(
            r#"{{"id":"{id}","timestamp":"{}","port":{port},"endpoints":["A://h:{port}"],"m":{{}}}}"#,
            begin_ms + 5
        );
        let lines = [
            line("/a", owner, begin_ms + 7, &broker),
            line("/b", owner, begin_ms, &format!(r#"{{"topic_id":"{id}"}}"#)),
            line("/c", 0, begin_ms - 1, last),
        ];
        names.read(&lines.join("\n")).unwrap().tree
    }

    #[test]
    fn what_is_another_value_on_each_run_is_not_another_tree() {
        let (one, other) = (look(7, 1000, "x", 99, "null"), look(8, 2000, "y", 98, "null"));
        assert_eq!(one["/a"]["owner"], "session first seen at /a after start");
        assert_eq!(one["/b"]["data.topic_id"], "id first seen at /a after start");
        assert_eq!(one["/a"]["data.endpoints.0"], r#""A://h:port one""#);
        let found = differences(&one, &other);
        // What was there before is no name of a step.
        assert_eq!(
            found.iter().map(|d| (d.path, d.key)).collect::<Vec<_>>(),
            [("/c", "ctime"), ("/c", "mtime")]
        );
    }

    #[test]
    fn what_is_written_otherwise_is_a_difference() {
        let one = look(7, 1000, "x", 99, "null");
        for (last, values) in
            [("", [Some("null"), Some(r#""""#)]), ("7", [Some("null"), Some(r#""7""#)])]
        {
            let other = look(7, 1000, "x", 99, last);
            let found = differences(&one, &other);
            assert_eq!(found, [Difference { path: "/c", key: "data", values }]);
        }
        let mut other = one.clone();
        other.remove("/b");
        other.get_mut("/a").unwrap().insert("data.m".to_owned(), "1".to_owned());
        let found = differences(&one, &other);
        assert_eq!(found[0].values, [Some("{}"), Some("1")]);
        assert!(found[1..].iter().all(|d| d.path == "/b" && d.values[1].is_none()));
    }
}
