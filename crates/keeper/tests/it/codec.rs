//! Encoding: what was written is read, and nothing else does harm.

use ottla_keeper::machine::{AccessList, Acl, Identity};
use ottla_keeper::machine::{decode_commands, decode_tree, encode_commands, encode_tree};
use ottla_keeper::{Caller, Command, CreateMode, Op, Password, Request, SessionId, Tree};
use proptest::prelude::*;

use super::model::command;
use super::{NOW_MS, OPEN, apply, session_of};

/// The layout is a promise to files that exist: a change of these bytes is a new version.
#[test]
fn the_layout_of_commands_is_that_of_version_2() {
    let acl = AccessList::new(vec![Acl { permissions: 3, identity: Identity::new("ip", "x") }]);
    let command = Command {
        caller: Caller { session: SessionId(5), attachment: 0x0102_0304 },
        shown: vec![Identity::new("s", "me")],
        request: Request::Write(vec![
            Op::create_as("/a", Some(b"d".to_vec()), CreateMode::EphemeralSequential),
            Op::create("/b", None),
            Op::set("/a", vec![], 6),
            Op::delete("/a", -1),
            Op::check("/a", 7),
            Op::SetAcl { path: "/a".to_owned(), acl: acl.clone(), version: 8 },
            Op::Create { path: "/t".to_owned(), data: None, mode: CreateMode::Ttl(9), acl },
        ]),
    };
    let caller = Caller { session: SessionId(1), attachment: 2 };
    let session = |request| Command { caller, shown: Vec::new(), request };
    let mut bytes = Vec::new();
    let commands = [
        command,
        session(OPEN),
        session(Request::CloseSession),
        session(Request::Attach { password: Password([3; 16]) }),
        session(Request::Sync),
        session(Request::Sweep(vec!["/a".to_owned()])),
    ];
    encode_commands(&commands, &mut bytes);
    let expected = [
        "00000006",
        "0000000000000005 0000000001020304 00000001 00000001 73 00000002 6d65 03 00000007",
        "01 00000002 2f61 00000001 64 00000000 03",
        "01 00000002 2f62 ffffffff 00000000 00",
        "02 00000002 2f61 00000000 00000006",
        "03 00000002 2f61 ffffffff",
        "04 00000002 2f61 00000007",
        "05 00000002 2f61 00000001 00000003 00000002 6970 00000001 78 00000008",
        "01 00000002 2f74 ffffffff 00000001 00000003 00000002 6970 00000001 78 05",
        "0000000000000009",
        "0000000000000001 0000000000000002 00000000 01 00001770",
        &"09".repeat(16),
        "0000000000000001 0000000000000002 00000000 02",
        "0000000000000001 0000000000000002 00000000 04",
        &"03".repeat(16),
        "0000000000000001 0000000000000002 00000000 05",
        "0000000000000001 0000000000000002 00000000 06 00000001 00000002 2f61",
    ];
    assert_eq!(hex(&bytes), expected.concat().replace(' ', ""));
    assert_eq!(decode_commands(&bytes).unwrap(), commands);
}

#[test]
fn the_layout_of_the_tree_is_that_of_version_2() {
    let mut tree = Tree::new();
    let id = session_of(&apply(&mut tree, Caller::default(), OPEN));
    let create = Op::create_as("/e", Some(b"d".to_vec()), CreateMode::Ephemeral);
    apply(&mut tree, id, Request::Write(vec![create])).result.unwrap();
    let mut bytes = Vec::new();
    encode_tree(&tree, &mut bytes);
    let zeros = |n: usize| "0".repeat(2 * n);
    let now = format!("{NOW_MS:016x}");
    let built_in = |path: &str| {
        format!("{:08x}{}00000000 00000000 {}", path.len(), hex(path.as_bytes()), zeros(60))
    };
    let root = format!("00000001 2f 00000000 00000000 {} 0000000000000002 {}", zeros(16), zeros(20))
        + "00000001" // creates
        + &zeros(12);
    let ephemeral =
        format!("00000002 2f65 00000001 64 00000000 {} {now}{now}", "0000000000000002".repeat(3))
            + &zeros(12)
            + "0000000000000001";
    // Everyone may read it, and its access list has version -1.
    let config = format!("{:08x}{} 00000000", 17, hex(b"/zookeeper/config"))
        + "00000001 00000001 00000005"
        + &hex(b"world")
        + "00000006"
        + &hex(b"anyone")
        + &zeros(48)
        + "ffffffff"
        + &zeros(8);
    let expected = [
        "0000000000000002 0000000000000001".to_owned(),
        "00000001 0000000000000001 0000000000000001 00001770".to_owned() + &"09".repeat(16),
        "0000000000000005".to_owned(),
        root,
        ephemeral,
        built_in("/zookeeper"),
        config,
        built_in("/zookeeper/quota"),
    ];
    assert_eq!(hex(&bytes), expected.concat().replace(' ', ""));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_no_tree_is_refused() {
    let mut bytes = Vec::new();
    encode_tree(&Tree::new(), &mut bytes);
    assert!(decode_tree(&bytes).is_ok());
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        decode_tree(&bytes).is_err()
    };
    assert!(with(0, 0x80), "a negative zxid");
    assert!(with(0, 0x7f), "a zxid that leaves no room to count on");
    assert!(with(19, 1), "a session that is not there");
    assert!(with(27, 3), "fewer nodes than there are");
    assert!(with(32, b'x'), "no root");
    assert!(decode_tree(&bytes[..bytes.len() - 1]).is_err(), "cut short");
    assert!(decode_tree(&[&bytes[..], &[0]].concat()).is_err(), "bytes after the end");
}

proptest! {
    #[test]
    fn commands_are_read_as_written(commands in prop::collection::vec(command(), 0..8)) {
        let mut bytes = Vec::new();
        encode_commands(&commands, &mut bytes);
        prop_assert_eq!(decode_commands(&bytes), Ok(commands));
        for end in 0..bytes.len() {
            prop_assert!(decode_commands(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn no_bytes_make_decoding_panic(
        commands in prop::collection::vec(command(), 0..30),
        at in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 1..12),
    ) {
        let mut tree = Tree::new();
        commands.iter().for_each(|command| drop(tree.apply(0, command, &mut Vec::new())));
        let (mut as_tree, mut as_commands) = (Vec::new(), Vec::new());
        encode_tree(&tree, &mut as_tree);
        encode_commands(&commands, &mut as_commands);
        for bytes in [&mut as_tree, &mut as_commands] {
            let at = at.index(bytes.len());
            let end = (at + noise.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&noise[..end - at]);
        }
        // What is still a tree can be used.
        if let Ok(mut tree) = decode_tree(&as_tree) {
            commands.iter().for_each(|command| drop(tree.apply(0, command, &mut Vec::new())));
        }
        let _ = decode_commands(&as_commands);
        let _ = (decode_tree(&noise), decode_commands(&noise));
    }
}
