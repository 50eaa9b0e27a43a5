//! What every provider of the tree does, here the built-in keeper.

use ottla_metadata::tree::{ANY_VERSION, CreateMode, Error, Failure, Op, TreeError, Written};

use ottla_keeper::Password;

use super::{Node, run, session};

#[test]
fn single_calls() {
    run(async {
        let node = Node::new().await;
        let tree = &node.tree;
        assert_eq!(tree.get("/a").await, Ok(None));
        assert_eq!(tree.children("/a").await, Ok(None));
        tree.create("/a", None).await.unwrap();
        let exists = tree.create("/a", None).await.unwrap_err();
        assert!(exists.is(Error::NodeExists), "{exists:?}");
        let stat = tree.set("/a", b"x".to_vec(), 0).await.unwrap();
        assert_eq!((stat.version, stat.data_length), (1, 1));
        assert!(tree.set("/a", b"y".to_vec(), 0).await.unwrap_err().is(Error::BadVersion));
        assert_eq!(tree.exists("/a").await.unwrap(), Some(stat));
        let node = tree.get("/a").await.unwrap().unwrap();
        assert_eq!((node.data.as_deref(), node.stat), (Some(&b"x"[..]), stat));
        tree.create("/a/b", None).await.unwrap();
        assert_eq!(tree.children("/a").await.unwrap(), Some(vec!["b".to_owned()]));
        assert!(tree.delete("/a", ANY_VERSION).await.unwrap_err().is(Error::NotEmpty));
        tree.delete("/a/b", 0).await.unwrap();
        tree.delete("/a", 1).await.unwrap();
        assert_eq!(tree.exists("/a").await, Ok(None));
    });
}

#[test]
fn a_multi_is_all_or_nothing_and_several_are_each_on_their_own() {
    run(async {
        let node = Node::new().await;
        let tree = &node.tree;
        let results = tree
            .multi_all(vec![
                vec![Op::create("/a", None), Op::check("/a", 0)],
                vec![Op::create("/b", None), Op::create("/a", None)],
                vec![Op::create("/c", None)],
            ])
            .await
            .unwrap();
        assert!(matches!(
            &results[0].as_ref().unwrap()[..],
            [Written::Created { .. }, Written::Checked]
        ));
        assert_eq!(results[1], Err(Failure { op: 1, error: Error::NodeExists }));
        assert!(results[2].is_ok());
        let found = tree.get_all(["/a", "/b", "/c"].map(str::to_owned).to_vec()).await.unwrap();
        let found: Vec<bool> = found.iter().map(Option::is_some).collect();
        assert_eq!(found, [true, false, true]);
    });
}

#[test]
fn calls_take_effect_in_the_order_in_which_they_are_made() {
    run(async {
        let node = Node::new().await;
        let tree = &node.tree;
        let create = tree.multi_all(vec![vec![Op::create("/a", None)]]);
        let set = tree.multi_all(vec![vec![Op::set("/a", b"x".to_vec(), 0)]]);
        let delete = tree.multi_all(vec![vec![Op::delete("/a", 1)]]);
        // Awaited the other way round.
        assert!(delete.await.unwrap()[0].is_ok());
        assert!(set.await.unwrap()[0].is_ok());
        assert!(create.await.unwrap()[0].is_ok());
    });
}

#[test]
fn an_ephemeral_node_belongs_to_its_session() {
    run(async {
        let node = Node::new().await;
        let other =
            ottla_metadata::BuiltIn::connect(node.keeper.clone(), Password([2; 16])).await.unwrap();
        let op = Op::create_as("/e", None, CreateMode::Ephemeral);
        let other_tree: &dyn ottla_metadata::Tree = &other;
        other_tree.multi(vec![op]).await.unwrap();
        let owner = node.tree.exists("/e").await.unwrap().unwrap().ephemeral_owner;
        assert_eq!(owner, other_tree.session());
        assert_ne!(owner, node.tree.session());

        other.close().await.unwrap();
        assert_eq!(node.tree.exists("/e").await, Ok(None));
        let expired = other_tree.create("/x", None).await.unwrap_err();
        assert!(expired.is(Error::SessionExpired), "{expired:?}");
        assert_ne!(session(&node.keeper).await.session(), owner);
    });
}

#[test]
fn a_disk_that_fails_makes_the_tree_unavailable() {
    run(async {
        let node = Node::new().await;
        node.disk.fail_after(0);
        let failed = node.tree.create("/a", None).await;
        assert!(matches!(failed, Err(TreeError::Unavailable { .. })), "{failed:?}");
        assert_eq!(node.tree.exists("/a").await, Ok(None));
    });
}

#[test]
fn what_is_too_large_is_refused() {
    run(async {
        let node = Node::new().await;
        let tree = &node.tree;
        let refused = tree.create("/a", Some(vec![0; 17 << 20])).await;
        assert!(matches!(refused, Err(TreeError::TooLarge { .. })), "{refused:?}");
        tree.create("/a", None).await.unwrap();
    });
}
