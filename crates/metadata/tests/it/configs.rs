//! Configs in the tree.

use std::collections::BTreeMap;

use ottla_metadata::admin;
use ottla_metadata::znodes::ConfigEntity;

use super::{NOW_MS, Node, run};

fn entries(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn put(key: &'static str, value: &'static str) -> impl FnMut(&mut BTreeMap<String, String>) {
    move |config| drop(config.insert(key.to_owned(), value.to_owned()))
}

#[test]
fn a_config_is_changed_together_with_its_note() {
    run(async {
        let node = Node::started().await;
        let entity = ConfigEntity::Broker(None);
        assert_eq!(admin::read_config(&*node.tree, &entity).await, Ok(entries(&[])));
        admin::update_config(&*node.tree, &entity, put("a", "1")).await.unwrap();
        let now = admin::update_config(&*node.tree, &entity, put("b", "2")).await.unwrap();
        assert_eq!(now, entries(&[("a", "1"), ("b", "2")]));
        assert_eq!(admin::read_config(&*node.tree, &entity).await, Ok(now));
        assert_eq!(
            node.text("/config/brokers/<default>"),
            r#"{"version":1,"config":{"a":"1","b":"2"}}"#
        );
        let notes = node.children("/config/changes");
        assert_eq!(notes, ["config_change_0000000000", "config_change_0000000001"]);
        assert_eq!(
            node.text("/config/changes/config_change_0000000001"),
            r#"{"version":2,"entity_path":"brokers/<default>"}"#
        );
        // Of a broker an empty config stays.
        admin::update_config(&*node.tree, &entity, BTreeMap::clear).await.unwrap();
        assert_eq!(node.text("/config/brokers/<default>"), r#"{"version":1,"config":{}}"#);
    });
}

#[test]
fn the_node_of_a_quota_goes_with_its_last_key() {
    run(async {
        let node = Node::started().await;
        let tree = &*node.tree;
        let user = ConfigEntity::User(Some("u".to_owned()));
        let both =
            ConfigEntity::UserClient { user: Some("u".to_owned()), client: Some("c".to_owned()) };
        admin::update_config(tree, &both, put("producer_byte_rate", "1")).await.unwrap();
        // The user's own node is only a parent: it has no config.
        assert_eq!(admin::read_config(tree, &user).await, Ok(entries(&[])));
        admin::update_config(tree, &user, put("producer_byte_rate", "2")).await.unwrap();
        // It stays as a parent.
        admin::update_config(tree, &user, BTreeMap::clear).await.unwrap();
        assert!(node.exists("/config/users/u"));
        admin::update_config(tree, &both, BTreeMap::clear).await.unwrap();
        assert!(!node.exists("/config/users/u/clients/c"));
        let notes = node.children("/config/changes").len();
        admin::update_config(tree, &both, BTreeMap::clear).await.unwrap();
        assert_eq!(node.children("/config/changes").len(), notes, "nothing changed");
    });
}

#[test]
fn notes_stay_for_a_quarter_of_an_hour() {
    run(async {
        let node = Node::started().await;
        let entity = ConfigEntity::Topic("t".to_owned());
        admin::update_config(&*node.tree, &entity, put("a", "1")).await.unwrap();
        let quarter_ms = 15 * 60 * 1000;
        admin::purge_config_changes(&*node.tree, NOW_MS + quarter_ms).await.unwrap();
        assert_eq!(node.children("/config/changes").len(), 1);
        admin::purge_config_changes(&*node.tree, NOW_MS + quarter_ms + 1).await.unwrap();
        assert!(node.children("/config/changes").is_empty());
        // The numbers go on.
        admin::update_config(&*node.tree, &entity, put("a", "2")).await.unwrap();
        assert_eq!(node.children("/config/changes"), ["config_change_0000000001"]);
    });
}
