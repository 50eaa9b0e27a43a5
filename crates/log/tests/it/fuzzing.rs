//! The kept inputs of the fuzz targets, without libFuzzer.

use std::fs;
use std::path::Path;

#[allow(unreachable_pub, reason = "in the fuzz workspace it is a library's")]
#[path = "../../../../fuzz/src/log.rs"]
mod target;

fn corpus(name: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut inputs = 0;
    for entry in fs::read_dir(&dir).expect("the corpus is in the repository") {
        let path = entry.expect("readable").path();
        // A panic does not say which input it was; captured output does.
        eprintln!("{}", path.display());
        run(&fs::read(&path).expect("readable"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", dir.display());
}

#[test]
fn corpus_of_segments() {
    corpus("segment", target::segment);
}

#[test]
fn corpus_of_indexes() {
    corpus("index", target::index);
}

#[test]
fn corpus_of_checkpoints() {
    corpus("checkpoint", target::checkpoint);
}
