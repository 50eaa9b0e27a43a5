//! The client against a fake cluster.

mod admin;
mod consumer;
mod fake_cluster;
#[path = "../../../connection/tests/it/loopback.rs"]
mod loopback;
mod producer;

/// A caller may await anything of this crate in a task of its own.
#[test]
fn futures_can_be_sent() {
    use ottla_client::{
        Admin, ConfigResource, Consumer, IsolationLevel, NewTopic, Producer, ProducerRecord,
    };
    fn check<T: Send>(_: T) {}
    fn admin(admin: &Admin) {
        check(admin.describe_cluster());
        check(admin.describe_topics(&[]));
        check(admin.create_topic(&NewTopic::default()));
        check(admin.delete_topics(&[]));
        check(admin.describe_configs(&ConfigResource::Topic(String::new())));
        check(admin.list_offsets(&[], IsolationLevel::default()));
        check(admin.describe_group(""));
    }
    fn producer(producer: &Producer) {
        check(producer.send(ProducerRecord::default()));
        check(producer.flush());
    }
    fn consumer(mut consumer: Consumer) {
        check(consumer.poll(std::time::Duration::ZERO));
        check(consumer.commit());
        check(consumer.close());
    }
    let _ = (admin, producer, consumer);
}
