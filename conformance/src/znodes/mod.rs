//! Suite `znodes`: what a broker writes into the tree of znodes, key by key as Apache Kafka does.
//!
//! The same is done to Kafka 3.9 on ZooKeeper, where nothing is ours, and to Ottla; after each step kazoo
//! reads both trees. In the end Kafka starts over the tree and the log directory that Ottla left, and
//! Ottla over what Kafka made of them.
//!
//! Owns: the steps. Must not know: how trees are compared, which differences are right.

mod differences;
mod look;
mod side;

use std::thread;

use crate::Outcome;
use crate::broker::{End, Target};
use crate::install::{KAFKA, Tools};
use look::Look;
use side::{Keys, Side};

/// What the topic holds that clients write to, in order.
const WRITTEN: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const TOPIC: &str = "automatic";

/// With a second listener and a rack, and without both.
const FIRST: Keys = Keys { second_listener: true, rack: Some("r1") };
const LATER: Keys = Keys { second_listener: false, rack: None };

/// What a broker that is up has in the tree.
const UP: [&str; 3] = ["/brokers/ids/1", "/controller", "/feature"];
const DOWN: [&str; 2] = ["-/brokers/ids/1", "-/controller"];

/// Returns how many keys are not as they should be.
pub(crate) fn run(target: &Target, tools: &Tools) -> Outcome<usize> {
    let Target::Ottla(binary) = target else {
        return Err("znodes: it has to start the broker itself, an ottla".into());
    };
    let kafka = || script(Side::kafka(tools)?);
    let ottla = || script(Side::ottla(binary, tools)?);
    let told = |who, looks: Outcome<Vec<Look>>| looks.map_err(|error| format!("{who}: {error}"));
    let (kafka, ottla) = thread::scope(|scope| {
        let kafka = scope.spawn(|| told("Kafka", kafka()));
        let ottla = told("Ottla", ottla());
        (kafka.join().unwrap_or_else(|_| Err("Kafka: it panicked".to_owned())), ottla)
    });
    let (kafka, ottla) = (kafka?, ottla?);
    println!("ok     znodes: Ottla goes on where Kafka has gone on where Ottla stopped");
    let mut unexpected = differences::Unexpected::default();
    for (kafka, ottla) in kafka.iter().zip(&ottla) {
        let (step, failures) = (kafka.step, unexpected.compare(kafka, ottla));
        for failure in &failures {
            println!("FAILED znodes, {step}: {failure}");
        }
        if failures.is_empty() {
            let keys: usize = kafka.tree.values().map(|keys| keys.len()).sum();
            let nodes = kafka.tree.len();
            println!(
                "ok     znodes, {step}: {keys} keys of {nodes} nodes as of Kafka {}",
                KAFKA[0]
            );
        }
    }
    let absent = unexpected.absent();
    for difference in &absent {
        println!("FAILED znodes: {difference} is said to differ, and does not");
    }
    Ok(unexpected.count() + absent.len())
}

/// All steps, with a look after each that changes the tree.
fn script(mut side: Side<'_>) -> Outcome<Vec<Look>> {
    side.begin("the first start")?;
    side.start(&FIRST)?;
    side.look(&UP)?;
    topics(&mut side)?;
    side.begin("a group")?;
    side.act("group", &[TOPIC])?;
    // It has waited for one partition of its topic.
    side.act("led", &[])?;
    side.look(&[])?;
    side.begin("an idempotent producer")?;
    side.act("number", &[TOPIC, WRITTEN[3], WRITTEN[4]])?;
    side.look(&[])?;

    side.begin("a clean stop")?;
    side.stop(End::Clean)?;
    side.look(&DOWN)?;
    side.begin("the loss of a leader")?;
    side.lose("counted", "1")?;
    side.look(&[])?;
    side.begin("a start with other listeners")?;
    side.start(&LATER)?;
    side.look(&UP)?;
    side.begin("the next producer")?;
    side.act("number", &[TOPIC, WRITTEN[5]])?;
    side.look(&[])?;

    side.begin("a kill and a start")?;
    side.stop(End::Killed)?;
    side.start(&LATER)?;
    side.look(&UP)?;
    let registration = side.registration()?;
    side.begin("another clean stop")?;
    side.stop(End::Clean)?;
    side.look(&DOWN)?;

    side.begin("a start of Kafka over it")?;
    side.start_kafka(&LATER)?;
    side.look(&UP)?;
    side.expect_records(TOPIC, &WRITTEN[..6])?;
    side.begin("another broker that comes and goes")?;
    side.expect_to_read(&registration)?;
    side.look(&["-/brokers/ids/2"])?;
    side.begin("a producer of Kafka's")?;
    side.act("number", &[TOPIC, WRITTEN[6]])?;
    side.look(&[])?;
    side.stop(End::Clean)?;
    side.start(&LATER)?;
    side.act("number", &[TOPIC, WRITTEN[7]])?;
    side.expect_records(TOPIC, &WRITTEN)?;
    Ok(side.looks())
}

fn topics(side: &mut Side<'_>) -> Outcome<()> {
    side.begin("the creation of topics")?;
    side.act("create", &[])?;
    side.look(&["/brokers/topics/with.dots_and-all/partitions/0/state"])?;
    side.begin("an automatic creation")?;
    side.act("produce", &[TOPIC, WRITTEN[0], WRITTEN[1], WRITTEN[2]])?;
    side.look(&["/brokers/topics/automatic/partitions/0/state"])?;
    side.begin("more partitions")?;
    side.act("grow", &[])?;
    let added = "/brokers/topics/assigned/partitions/2/state";
    side.look(&["/brokers/topics/counted/partitions/4/state", added])?;
    side.begin("altered configs")?;
    side.act("alter", &[])?;
    side.look(&[])?;
    side.begin("the deletion of topics")?;
    side.act("delete", &[])?;
    side.look(&["-/admin/delete_topics/configured", "-/admin/delete_topics/defaults"])?;
    side.begin("their creation anew")?;
    side.act("recreate", &[])?;
    side.look(&["/brokers/topics/configured/partitions/1/state"])
}
