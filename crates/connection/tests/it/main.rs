//! A connection against brokers that behave, and brokers that do not.

mod loopback;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use loopback::{Answer, Asked, Loopback};
use ottla_connection::{CallError, Closed, ConnectError, Connection, ConnectionOptions};
use ottla_protocol::messages::{
    ApiVersionsResponse, MetadataRequest, MetadataResponse, ProduceRequest,
};
use ottla_protocol::{ApiKey, ErrorCode, VersionRange};
use ottla_runtime::net::{Connecting, ListenOptions, Listener};
use ottla_runtime::{Network, time};
use parking_lot::Mutex;

const ADDRESS: &str = "broker:9092";
const SECOND: Duration = Duration::from_secs(1);

fn metadata_versions() -> [(ApiKey, VersionRange); 1] {
    [(ApiKey::Metadata, VersionRange { min: 0, max: 5 })]
}

/// Connects to a broker that offers Metadata 0–5 and answers everything else as `broker` says.
async fn connect_to(
    options: ConnectionOptions,
    mut broker: impl FnMut(&Asked) -> Answer + Send + 'static,
) -> Connection {
    let network = Loopback::default();
    network.listen(ADDRESS, move |asked| {
        asked.versions(&metadata_versions()).unwrap_or_else(|| broker(asked))
    });
    Connection::connect(&network, ADDRESS, &options).await.unwrap()
}

async fn connect(broker: impl FnMut(&Asked) -> Answer + Send + 'static) -> Connection {
    connect_to(ConnectionOptions::default(), broker).await
}

async fn connect_error(broker: impl FnMut(&Asked) -> Answer + Send + 'static) -> ConnectError {
    let network = Loopback::default();
    network.listen(ADDRESS, broker);
    Connection::connect(&network, ADDRESS, &ConnectionOptions::default()).await.unwrap_err()
}

fn metadata(controller_id: i32) -> MetadataResponse<'static> {
    MetadataResponse { controller_id, ..Default::default() }
}

async fn call(connection: &Connection) -> Result<i32, CallError> {
    let reply = connection.call(&MetadataRequest::default(), SECOND).await?;
    Ok(reply.decode()?.controller_id)
}

#[tokio::test(start_paused = true)]
async fn a_call_speaks_the_highest_common_version() {
    let connection = connect(|asked| {
        assert_eq!(asked.header.api_version, 5);
        assert_eq!(asked.header.client_id.as_deref(), Some("ottla"));
        asked.answer(&metadata(7))
    })
    .await;
    assert_eq!(call(&connection).await, Ok(7));
    assert_eq!(connection.versions_of(ApiKey::Metadata), Some(VersionRange { min: 0, max: 5 }));
}

#[tokio::test(start_paused = true)]
async fn an_old_broker_is_asked_for_its_versions_with_v0() {
    let network = Loopback::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let versions = Arc::clone(&seen);
    network.listen(ADDRESS, move |asked| {
        versions.lock().push((asked.api(), asked.header.api_version));
        if asked.api() == ApiKey::ApiVersions && asked.header.api_version > 2 {
            let error_code = ErrorCode::UNSUPPORTED_VERSION.0;
            let refusal = ApiVersionsResponse { error_code, ..Default::default() };
            return Answer::Bytes(asked.frame_in(0, &refusal));
        }
        asked.versions(&metadata_versions()).unwrap_or_else(|| asked.answer(&metadata(1)))
    });
    let options = ConnectionOptions::default();
    let connection = Connection::connect(&network, ADDRESS, &options).await.unwrap();
    assert_eq!(call(&connection).await, Ok(1));
    let expected = [(ApiKey::ApiVersions, 3), (ApiKey::ApiVersions, 0), (ApiKey::Metadata, 5)];
    assert_eq!(*seen.lock(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_api_without_a_common_version_is_an_error_that_says_so() {
    let connection = connect(|_| Answer::Silence).await;
    let produce = connection.call(&ProduceRequest::default(), SECOND).await.unwrap_err();
    assert_eq!(produce.to_string(), "the broker does not serve Produce");
    // A caller's own bound can leave nothing either; the connection stays usable.
    let old = connection.call_up_to(-1, &MetadataRequest::default(), SECOND).await.unwrap_err();
    assert_eq!(
        old.to_string(),
        "the broker has versions 0 to 5 of Metadata, and 0 to -1 are needed"
    );
    assert_eq!(connection.closed(), None);
}

#[tokio::test(start_paused = true)]
async fn who_is_no_broker_is_found_out() {
    let http = connect_error(|_| Answer::Last(b"HTTP/1.1 400 Bad Request\r\n".to_vec())).await;
    let length = i32::from_be_bytes(*b"HTTP");
    let max = ConnectionOptions::default().response_bytes_max;
    let reason = CallError::Closed(Closed::FrameLength { length, max });
    assert_eq!(http, ConnectError::Handshake { address: ADDRESS.to_owned(), reason });
    let hung_up = connect_error(|_| Answer::Last(Vec::new())).await;
    let reason = CallError::Closed(Closed::ByPeer);
    assert_eq!(hung_up, ConnectError::Handshake { address: ADDRESS.to_owned(), reason });
    let silent = connect_error(|_| Answer::Silence).await;
    let after = ConnectionOptions::default().setup_timeout;
    assert_eq!(silent, ConnectError::TimedOut { address: ADDRESS.to_owned(), after });
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_tells_what_to_do() {
    let network = Loopback::default();
    let options = ConnectionOptions::default();
    let error = Connection::connect(&network, "localhost:9092", &options).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "connection refused at localhost:9092: is the broker running? start it with \"ottla start\""
    );
}

#[tokio::test(start_paused = true)]
async fn connecting_has_a_deadline() {
    struct BlackHole;
    impl Network for BlackHole {
        fn listen(
            &self,
            _: std::net::SocketAddr,
            _: ListenOptions,
        ) -> std::io::Result<Box<dyn Listener>> {
            Err(std::io::ErrorKind::Unsupported.into())
        }
        fn connect<'a>(&'a self, _: &'a str, _: u16) -> Connecting<'a> {
            Box::pin(std::future::pending())
        }
        fn resolve(&self, _: &str, _: u16) -> std::io::Result<std::net::SocketAddr> {
            Err(std::io::ErrorKind::Unsupported.into())
        }
    }
    let started = time::now();
    let error = Connection::connect(&BlackHole, ADDRESS, &ConnectionOptions::default()).await;
    let after = Duration::from_secs(10);
    assert_eq!(error.unwrap_err(), ConnectError::TimedOut { address: ADDRESS.to_owned(), after });
    assert_eq!(started.elapsed(), after);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_a_deadline_and_the_connection_ends_with_it() {
    let connection = connect(|_| Answer::Silence).await;
    let started = time::now();
    let timed_out = CallError::TimedOut { api: ApiKey::Metadata, after: SECOND };
    assert_eq!(call(&connection).await, Err(timed_out));
    assert_eq!(started.elapsed(), SECOND);
    assert_eq!(connection.closed(), Some(&Closed::Deadline));
    assert_eq!(call(&connection).await, Err(CallError::Closed(Closed::Deadline)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_question_ends_the_connection() {
    let connection = connect(|asked| {
        let mut frame = asked.frame(&metadata(1));
        frame[4..8].copy_from_slice(&99_i32.to_be_bytes());
        Answer::Bytes(frame)
    })
    .await;
    // The handshake took correlation id 0.
    let closed = CallError::Closed(Closed::Correlation { expected: Some(1), got: 99 });
    assert_eq!(call(&connection).await, Err(closed.clone()));
    assert_eq!(call(&connection).await, Err(closed));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let connection = connect(|asked| {
        let frame = asked.frame(&metadata(1));
        Answer::Bytes([&*frame, &*frame].concat())
    })
    .await;
    assert_eq!(call(&connection).await, Ok(1));
    let closed = Closed::Correlation { expected: None, got: 1 };
    assert_eq!(call(&connection).await, Err(CallError::Closed(closed)));
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_cut_off_is_an_error() {
    let cut = connect(|asked| {
        let frame = asked.frame(&metadata(1));
        Answer::Last(frame[..frame.len() - 1].to_vec())
    })
    .await;
    assert_eq!(call(&cut).await, Err(CallError::Closed(Closed::Truncated)));

    // The frame is whole, and the message in it is not.
    let short = connect(|asked| {
        let mut frame = asked.frame(&metadata(1));
        frame.pop();
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Answer::Bytes(frame)
    })
    .await;
    let error = call(&short).await.unwrap_err();
    assert!(matches!(error, CallError::Malformed { api: ApiKey::Metadata, version: 5, .. }));
}

#[tokio::test(start_paused = true)]
async fn a_response_has_a_bound() {
    let options = ConnectionOptions { response_bytes_max: 1000, ..Default::default() };
    let connection = connect_to(options, |_| Answer::Bytes(1001_i32.to_be_bytes().to_vec())).await;
    let closed = Closed::FrameLength { length: 1001, max: 1000 };
    assert_eq!(call(&connection).await, Err(CallError::Closed(closed)));
}

/// A broker that keeps its answers until it is asked for the `n`th time.
fn answers_from(n: usize) -> (Arc<Mutex<usize>>, impl FnMut(&Asked) -> Answer + Send + 'static) {
    let asked_times = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked_times);
    let mut kept = VecDeque::new();
    let broker = move |asked: &Asked| {
        let mut count = count.lock();
        *count += 1;
        kept.extend(asked.frame(&metadata(*count as i32)));
        if *count < n { Answer::Silence } else { Answer::Bytes(kept.drain(..).collect()) }
    };
    (asked_times, broker)
}

#[tokio::test(start_paused = true)]
async fn calls_overlap_and_are_answered_in_order() {
    let (_, broker) = answers_from(3);
    let connection = connect(broker).await;
    let (a, b, c) = tokio::join!(call(&connection), call(&connection), call(&connection));
    assert_eq!((a, b, c), (Ok(1), Ok(2), Ok(3)));
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_in_flight_than_allowed() {
    let (asked_times, broker) = answers_from(3);
    let options = ConnectionOptions { in_flight_max: 2, ..Default::default() };
    let connection = connect_to(options, broker).await;
    let results = tokio::join!(call(&connection), call(&connection), call(&connection));
    // The broker waits for a third request, which waits for an answer.
    assert!(matches!(results.0, Err(CallError::TimedOut { .. })), "{results:?}");
    assert_eq!(*asked_times.lock(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_does_not_disturb_the_next() {
    let (_, broker) = answers_from(2);
    let connection = connect(broker).await;
    let given_up = time::timeout(SECOND / 2, call(&connection)).await;
    assert!(given_up.is_err());
    assert_eq!(call(&connection).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_request_may_be_larger_than_the_socket_takes_at_once() {
    use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
    let connection = connect(|asked| {
        let topics = asked.request::<MetadataRequest<'_>>().topics.unwrap();
        asked.answer(&metadata(topics.len() as i32))
    })
    .await;
    let topic =
        |i| MetadataRequestTopic { name: Some(format!("topic-{i}").into()), ..Default::default() };
    let request =
        MetadataRequest { topics: Some((0..2000).map(topic).collect()), ..Default::default() };
    let reply = connection.call(&request, SECOND).await.unwrap();
    assert_eq!(reply.decode().unwrap().controller_id, 2000);
}
