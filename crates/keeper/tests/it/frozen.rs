//! A tree that is written out bit by bit while it changes is written as it was.

use ottla_fake::Dice;
use ottla_keeper::machine::{decode_tree, encode_tree};
use ottla_keeper::{ANY_VERSION, Caller, CreateMode, Op, Request, Tree};

use super::{OPEN, apply, session_of};

const SEEDS: u64 = 200;

fn draw(dice: &mut Dice) -> Request {
    let path = |dice: &mut Dice| match dice.roll(3) {
        0 => format!("/{}", dice.roll(30)),
        _ => format!("/{}/{}", dice.roll(30), dice.roll(5)),
    };
    let op = |dice: &mut Dice| match dice.roll(10) {
        0..4 => Op::create(path(dice), Some(vec![dice.roll(256) as u8; 10])),
        4 => Op::create_as(format!("{}e", path(dice)), None, CreateMode::Ephemeral),
        5 => Op::create_as("/s_", None, CreateMode::PersistentSequential),
        6..8 => Op::set(path(dice), vec![dice.roll(256) as u8; 20], ANY_VERSION),
        _ => Op::delete(path(dice), ANY_VERSION),
    };
    // A multi may be refused half-way, and is taken back.
    let ops = 1 + dice.roll(3);
    Request::Write((0..ops).map(|_| op(dice)).collect())
}

fn change(tree: &mut Tree, session: &mut Caller, dice: &mut Dice) {
    if dice.roll(20) == 0 {
        let _ = apply(tree, *session, Request::CloseSession);
        *session = session_of(&apply(tree, Caller::default(), OPEN));
    }
    let request = draw(dice);
    let _ = apply(tree, *session, request);
}

#[test]
fn what_is_written_out_is_the_tree_of_the_moment_it_was_frozen() {
    for seed in 0..SEEDS {
        eprintln!("seed {seed}");
        let mut dice = Dice::new(seed);
        let mut tree = Tree::new();
        let mut session = session_of(&apply(&mut tree, Caller::default(), OPEN));
        (0..dice.roll(300)).for_each(|_| change(&mut tree, &mut session, &mut dice));
        let mut expected = Vec::new();
        encode_tree(&tree, &mut expected);
        let mut written = Vec::new();
        tree.freeze(&mut written);
        loop {
            (0..dice.roll(20)).for_each(|_| change(&mut tree, &mut session, &mut dice));
            let part = 1 + dice.roll(1_000) as usize;
            let last = tree.thaw_part(part, &mut written);
            let is_end = last.is_none();
            tree.note_written(last);
            if is_end {
                break;
            }
        }
        assert!(written == expected, "seed {seed}");
        decode_tree(&written).expect("it is a tree");
    }
}
