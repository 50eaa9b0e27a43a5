//! The reference table of keys, as Markdown.

use std::fmt::Write;

use crate::Key;

/// A table with one row for each key, in the order given.
pub fn reference<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    let mut table = String::from(
        "| Key | Type | Default | Range | Changes | Meaning |\n|---|---|---|---|---|---|\n",
    );
    for key in keys {
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} | {} | {} |",
            key.name,
            key.ty.to_string().to_lowercase(),
            default(key),
            range(key),
            key.update,
            meaning(key)
        );
    }
    table
}

fn default(key: &Key) -> String {
    match key.default {
        None => "unset".into(),
        Some("") => "empty".into(),
        Some(text) => format!("`{text}`"),
    }
}

fn range(key: &Key) -> String {
    if key.words.is_empty() {
        return key.check.to_string();
    }
    key.words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn meaning(key: &Key) -> String {
    let names = || {
        let names: Vec<_> = key.synonyms.iter().map(|s| format!("`{}`", s.name)).collect();
        names.join(", ")
    };
    let doc = key.doc.trim_start().replace('|', "\\|");
    match key.topic_key {
        Some(topic_key) => format!("Default of `{topic_key}`. {doc}"),
        None if !key.synonyms.is_empty() => format!("{doc} Default from {}.", names()),
        None => doc,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BrokerSynonym, Check, Update};

    #[test]
    fn golden() {
        const TOPIC: Key = Key::topic("segment.bytes")
            .default("1024")
            .field::<i32>()
            .doc(" Size of a segment file, in bytes.")
            .synonyms(&[BrokerSynonym::new("log.segment.bytes")]);
        let broker = TOPIC.broker_keys().next().unwrap();
        let keys = [
            Key::broker("num.partitions")
                .default("1")
                .field::<i32>()
                .check(Check::AtLeast(1))
                .doc(" Partitions of a new topic."),
            Key { words: &["a", "b"], ..Key::broker("mode") }
                .update(Update::ClusterWide)
                .doc(" Either a|b."),
            TOPIC,
            broker,
        ];
        assert_eq!(
            reference(&keys),
            "\
| Key | Type | Default | Range | Changes | Meaning |
|---|---|---|---|---|---|
| `num.partitions` | int | `1` | at least 1 | read-only | Partitions of a new topic. |
| `mode` | string | unset | `a`, `b` | cluster-wide | Either a\\|b. |
| `segment.bytes` | int | `1024` |  | per topic | Size of a segment file, in bytes. Default from `log.segment.bytes`. |
| `log.segment.bytes` | int | `1024` |  | cluster-wide | Default of `segment.bytes`. Size of a segment file, in bytes. |
"
        );
    }
}
