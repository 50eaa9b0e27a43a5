//! ZooKeeper's protocol: what clients speak with a voter.
//!
//! Owns: sessions on connections, the order of answers and events on each, the bytes of requests and
//! answers (ZooKeeper 3.5 and later), of which [`jute`] and [`number`] serve clients too, four-letter
//! words. Must not know: how a write is ordered.
//!
//! Answers come in the order of the requests. Writes are under way together; a read is done when all
//! requests before it are answered, so it sees them. An event is sent before any answer that could
//! show what it tells of, and after the answer to what set its watch.

mod connection;
pub mod jute;
pub mod number;
mod reply;
mod request;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ottla_runtime::net::{Listener, accept};
use ottla_runtime::{Clock, Random, Spawner, Task, time};

use crate::shell::Keeper;
use connection::Connection;
use words::Statistics;

/// How clients are served.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// The shortest and the longest timeout that a session is granted, in milliseconds
    /// (ZooKeeper's `minSessionTimeout` and `maxSessionTimeout`).
    pub session_timeout_ms: (u32, u32),
    /// A packet with more bytes ends its connection (ZooKeeper's `jute.maxbuffer`).
    pub packet_bytes_max: usize,
    /// Above so many connections, new ones are closed.
    pub connections_max: usize,
}

impl Default for ServeOptions {
    /// ZooKeeper's 4 to 40 s; packets up to 4 MiB, as Kafka's own client takes them; 10,000
    /// connections.
    fn default() -> Self {
        Self {
            session_timeout_ms: (4_000, 40_000),
            packet_bytes_max: 4 << 20,
            connections_max: 10_000,
        }
    }
}

/// What connections share.
struct Shared {
    keeper: Arc<Keeper>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    options: ServeOptions,
    statistics: Statistics,
}

/// Serves clients that connect to `listener`, on the runtime of `spawner`, as long as the task is
/// kept.
pub fn serve(
    keeper: Arc<Keeper>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    listener: Box<dyn Listener>,
    spawner: &Spawner,
    options: ServeOptions,
) -> Task<()> {
    let statistics = Statistics::default();
    let shared = Arc::new(Shared { keeper, clock, random, options, statistics });
    spawner.spawn(accept_all(shared, listener, spawner.clone()))
}

async fn accept_all(shared: Arc<Shared>, mut listener: Box<dyn Listener>, spawner: Spawner) {
    let mut connections: Vec<Task<()>> = Vec::new();
    // When those that have ended are sorted out: seldom enough to cost nothing.
    let mut sort_at = 64;
    loop {
        let Ok(incoming) = accept(&mut *listener).await else {
            // Too many descriptors are open: some will be closed.
            time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(stream) = incoming.into_stream() else { continue };
        if connections.len() >= sort_at {
            connections.retain(|connection| !connection.is_finished());
            sort_at = (2 * connections.len()).clamp(64, shared.options.connections_max);
        }
        if connections.len() >= shared.options.connections_max {
            continue;
        }
        let peer = stream.peer_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        let shared = Arc::clone(&shared);
        connections.push(spawner.spawn(Connection::run(shared, stream, peer)));
    }
}
