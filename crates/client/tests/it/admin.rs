//! Administration: results per thing, retries where they make sense.

use std::time::Duration;

use ottla_client::{ConfigResource, ErrorCode, NewTopic, RequestError};
use ottla_protocol::ApiKey;
use ottla_protocol::messages::create_topics_response::CreatableTopicResult;
use ottla_protocol::messages::delete_topics_response::DeletableTopicResult;
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use ottla_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeConfigsResponse,
};
use ottla_runtime::time;

use crate::fake_cluster::{FakeCluster, Fault, TOPIC};
use crate::loopback::{Answer, Asked};

fn serve(cluster: &FakeCluster, other: impl FnMut(&Asked) -> Answer + Send + 'static) {
    cluster.state.lock().other = Some(Box::new(other));
}

fn create_result(asked: &Asked, code: ErrorCode, message: Option<&'static str>) -> Answer {
    let request: CreateTopicsRequest<'_> = asked.request();
    asked.answer(&CreateTopicsResponse {
        topics: vec![CreatableTopicResult {
            name: request.topics[0].name.clone(),
            error_code: code.0,
            error_message: message.map(Into::into),
            ..Default::default()
        }],
        ..Default::default()
    })
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_created_by_the_controller_when_there_is_one() {
    let cluster = FakeCluster::new(1);
    cluster.state.lock().without_controller = 2;
    let mut attempts = 0;
    serve(&cluster, move |asked| {
        let request: CreateTopicsRequest<'_> = asked.request();
        assert_eq!(
            (request.topics[0].num_partitions, request.topics[0].replication_factor),
            (3, -1)
        );
        assert_eq!(request.topics[0].configs[0].value.as_deref(), Some("1000"));
        attempts += 1;
        let code = if attempts < 3 { ErrorCode::NOT_CONTROLLER } else { ErrorCode::NONE };
        create_result(asked, code, None)
    });
    let topic = NewTopic {
        name: "new".to_owned(),
        partitions: Some(3),
        configs: vec![("retention.ms".to_owned(), "1000".to_owned())],
        ..NewTopic::default()
    };
    assert_eq!(cluster.client().admin().create_topic(&topic).await, Ok(()));
    assert_eq!(cluster.count(ApiKey::CreateTopics), 3);
}

#[tokio::test(start_paused = true)]
async fn the_brokers_own_words_are_passed_on() {
    let cluster = FakeCluster::new(1);
    serve(&cluster, |asked| {
        create_result(asked, ErrorCode::TOPIC_ALREADY_EXISTS, Some("Topic 'new' already exists."))
    });
    let topic = NewTopic { name: "new".to_owned(), ..NewTopic::default() };
    let error = cluster.client().admin().create_topic(&topic).await.unwrap_err();
    assert_eq!(error.to_string(), "Topic 'new' already exists. (TOPIC_ALREADY_EXISTS)");
    assert_eq!(cluster.count(ApiKey::CreateTopics), 1);
}

#[tokio::test(start_paused = true)]
async fn each_deleted_topic_has_its_own_result() {
    let cluster = FakeCluster::new(1);
    serve(&cluster, |asked| {
        assert_eq!(asked.header.api_version, 5);
        let request: DeleteTopicsRequest<'_> = asked.request();
        let responses = request.topic_names.iter().map(|name| DeletableTopicResult {
            name: Some(name.clone()),
            error_code: if name == TOPIC { 0 } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0 },
            ..Default::default()
        });
        let responses = responses.collect();
        asked.answer(&DeleteTopicsResponse { responses, ..Default::default() })
    });
    let names = [TOPIC.to_owned(), "other".to_owned()];
    let results = cluster.client().admin().delete_topics(&names).await.unwrap();
    let missing = Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
    assert_eq!(results, [(TOPIC.to_owned(), Ok(())), ("other".to_owned(), missing)]);
}

#[tokio::test(start_paused = true)]
async fn topics_and_the_cluster_are_described() {
    let cluster = FakeCluster::with_leaders(2, vec![1, 2, -1]);
    let admin = cluster.client().admin();
    let described = admin.describe_cluster().await.unwrap();
    assert_eq!(described.cluster_id.as_deref(), Some("fake"));
    assert_eq!(described.controller.map(i32::from), Some(1));
    assert_eq!(described.brokers.len(), 2);
    let listed = admin.list_topics().await.unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].partitions), (TOPIC, 3));
    let names = ["other".to_owned(), TOPIC.to_owned()];
    let topics = admin.describe_topics(&names).await.unwrap();
    let leaders: Vec<_> =
        topics[0].1.as_ref().unwrap().partitions.iter().map(|p| p.leader.map(i32::from)).collect();
    assert_eq!(leaders, [Some(1), Some(2), None]);
    let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into();
    assert_eq!(topics[1], ("other".to_owned(), Err(missing)));
}

#[tokio::test(start_paused = true)]
async fn configurations_tell_what_was_set_on_the_topic() {
    let cluster = FakeCluster::new(1);
    serve(&cluster, |asked| {
        let config = |name: &'static str, value: &'static str, config_source| {
            DescribeConfigsResourceResult {
                name: name.into(),
                value: Some(value.into()),
                config_source,
                ..Default::default()
            }
        };
        asked.answer(&DescribeConfigsResponse {
            results: vec![DescribeConfigsResult {
                configs: vec![
                    config("retention.ms", "1", 1),
                    config("cleanup.policy", "delete", 5),
                ],
                ..Default::default()
            }],
            ..Default::default()
        })
    });
    let resource = ConfigResource::Topic(TOPIC.to_owned());
    let entries = cluster.client().admin().describe_configs(&resource).await.unwrap();
    let set: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.is_topic_override())).collect();
    assert_eq!(set, [("cleanup.policy", false), ("retention.ms", true)]);
}

#[tokio::test(start_paused = true)]
async fn who_never_met_a_broker_is_told_at_once() {
    let cluster = FakeCluster::new(1);
    cluster.network.stop("broker-1:9092");
    let started = time::now();
    let error = cluster.client().admin().list_topics().await.unwrap_err();
    assert!(matches!(error, RequestError::Bootstrap(_)), "{error:?}");
    assert!(error.to_string().starts_with("connection refused at broker-1:9092"));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_lost_the_brokers_waits_for_them_but_not_for_ever() {
    let cluster = FakeCluster::new(1);
    let admin = cluster.client().admin();
    admin.list_topics().await.unwrap();
    cluster.plan(ApiKey::Metadata, &[Fault::ServeAndHangUp]);
    cluster.network.stop("broker-1:9092");
    let started = time::now();
    let error = admin.list_topics().await.unwrap_err();
    assert!(matches!(error, RequestError::Connect(_)), "{error:?}");
    let api_timeout = Duration::from_secs(10);
    assert!(started.elapsed() > api_timeout - Duration::from_secs(2));
    assert!(started.elapsed() <= api_timeout);
}
