//! The simulator itself: it does the same twice, and finds what is wrong.

use ottla_simulation::{Plan, run};

/// Without this no seed can be run again.
#[test]
fn the_same_seed_gives_the_same_trace() {
    for nodes in [1, 3] {
        for seed in 0..4 {
            let plan = Plan::draw(seed, nodes);
            let (one, other) = (run(&plan, false), run(&plan, false));
            assert_eq!(one, other, "seed {seed} of {nodes} nodes");
            assert!(one.events > 500, "seed {seed} of {nodes} nodes: {} events", one.events);
            let next = run(&Plan::draw(seed + 1, nodes), false);
            assert_ne!(one.trace, next.trace, "seeds {seed} and {} of {nodes} nodes", seed + 1);
        }
    }
}
