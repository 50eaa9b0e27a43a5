//! Groups as their clients see them.

mod properties;
mod scenario;
mod world;

use scenario::check;

#[test]
fn first_members() {
    check("first_members");
}

#[test]
fn rebalances() {
    check("rebalances");
}

#[test]
fn timeouts() {
    check("timeouts");
}

#[test]
fn refusals() {
    check("refusals");
}

#[test]
fn static_members() {
    check("static_members");
}

#[test]
fn offsets() {
    check("offsets");
}

#[test]
fn administration() {
    check("administration");
}

#[test]
fn loading_and_unloading() {
    check("loading_and_unloading");
}

#[test]
fn limits() {
    check("limits");
}
