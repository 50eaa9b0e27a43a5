//! A network in memory: what is sent arrives late, and not at all while a way is cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ottla_runtime::net::{Connecting, Incoming, ListenOptions, Listener, Network, Stream};
use ottla_runtime::time::{self, Instant};
use ottla_runtime::{File, time::sleep};
use parking_lot::Mutex;

use crate::Dice;

/// What may be under way in one direction of a connection.
const WINDOW_BYTES: usize = 256 * 1024;

/// How long connecting over a way that is cut takes to fail.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The number of a host.
pub type HostId = u8;

/// A network of hosts, which keeps the order and the bytes of each connection as TCP does. How long
/// something is under way comes from a seed. Time is tokio's, so that a paused runtime moves it.
#[derive(Clone)]
pub struct FakeNetwork(Arc<Mutex<Net>>);

/// What was once written to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// By whom.
    pub from: HostId,
    /// To whom.
    pub to: HostId,
    /// How many bytes.
    pub bytes: usize,
    /// A hash of the bytes.
    pub hash: u64,
}

struct Net {
    trace: Option<Vec<Sent>>,
    dice: Dice,
    delay_max: Duration,
    listeners: BTreeMap<SocketAddr, Queue>,
    /// One-way.
    cut: BTreeSet<(HostId, HostId)>,
    /// Hosts without power.
    dark: BTreeSet<HostId>,
    pipes: Vec<Weak<Pipe>>,
    next_port: u16,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<FakeStream>,
    waker: Option<Waker>,
}

/// One direction of a connection.
struct Pipe {
    way: (HostId, HostId),
    state: Mutex<Flow>,
}

struct Flow {
    /// What is under way, and when it arrives.
    segments: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// When its end arrives, or arrived.
    end: Option<Instant>,
    is_cut: bool,
    /// One of its hosts has lost power since it began: nothing passes, and nobody is told.
    is_lost: bool,
    /// The other end does not know of the connection any more, and has said so.
    is_reset: bool,
    /// Nobody reads any more.
    is_abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl FakeNetwork {
    /// A network whose delays come from `seed`, up to `delay_max` and now and then ten times that.
    #[must_use]
    pub fn new(seed: u64, delay_max: Duration) -> Self {
        Self(Arc::new(Mutex::new(Net {
            trace: None,
            dice: Dice::new(seed),
            delay_max,
            listeners: BTreeMap::new(),
            cut: BTreeSet::new(),
            dark: BTreeSet::new(),
            pipes: Vec::new(),
            next_port: 50_000,
        })))
    }

    /// Keeps a trace from here on.
    pub fn record(&self) {
        self.0.lock().trace = Some(Vec::new());
    }

    /// What was written since [`FakeNetwork::record`].
    #[must_use]
    pub fn take_recording(&self) -> Vec<Sent> {
        self.0.lock().trace.take().unwrap_or_default()
    }

    /// The network as one host has it. Its address is 10.0.0.`id`.
    #[must_use]
    pub fn host(&self, id: HostId) -> Arc<dyn Network> {
        Arc::new(Host { id, network: self.clone() })
    }

    /// Lets nothing pass from one host to another any more. What is under way waits.
    pub fn cut(&self, from: HostId, to: HostId) {
        let mut net = self.0.lock();
        net.cut.insert((from, to));
        let pipes = net.pipes(|way| way == (from, to));
        drop(net);
        pipes.for_each(|pipe| pipe.state.lock().is_cut = true);
    }

    /// Takes one [`FakeNetwork::cut`] back.
    pub fn mend(&self, from: HostId, to: HostId) {
        let mut net = self.0.lock();
        net.cut.remove(&(from, to));
        let pipes = net.pipes(|way| way == (from, to));
        drop(net);
        pipes.for_each(|pipe| pipe.state.lock().mend());
    }

    /// Ends all connections of a host, from both sides, as a firewall or a router that restarts does.
    pub fn reset(&self, host: HostId) {
        let pipes = self.0.lock().pipes(|(from, to)| from == host || to == host);
        pipes.for_each(|pipe| pipe.state.lock().reset());
    }

    /// Takes the power from a host. Nobody hears of it: who waits for its answer waits on, and who
    /// calls it is not answered.
    pub fn darken(&self, host: HostId) {
        let mut net = self.0.lock();
        net.dark.insert(host);
        let silenced = net.listeners.extract_if(.., |address, _| host_of(*address) == host);
        // Streams that wait there lock the network when they go.
        let silenced: Vec<_> = silenced.collect();
        let pipes = net.pipes(|(from, to)| from == host || to == host);
        drop(net);
        drop(silenced);
        pipes.for_each(|pipe| pipe.state.lock().is_lost = true);
    }

    /// Gives a host its power back. It knows nothing of the connections that it had, and says so to
    /// whoever writes to them.
    pub fn light(&self, host: HostId) {
        self.0.lock().dark.remove(&host);
    }

    /// Lets all pass again, what waited first.
    pub fn heal(&self) {
        let mut net = self.0.lock();
        net.cut.clear();
        let pipes = net.pipes(|_| true);
        drop(net);
        pipes.for_each(|pipe| pipe.state.lock().mend());
    }
}

impl Net {
    fn pipes<F: Fn((HostId, HostId)) -> bool>(
        &mut self,
        is_meant: F,
    ) -> impl Iterator<Item = Arc<Pipe>> + use<F> {
        self.pipes.retain(|pipe| pipe.strong_count() > 0);
        let pipes: Vec<_> = self.pipes.iter().filter_map(Weak::upgrade).collect();
        pipes.into_iter().filter(move |pipe| is_meant(pipe.way))
    }

    fn note(&mut self, (from, to): (HostId, HostId), bytes: &[u8]) {
        let Some(trace) = &mut self.trace else { return };
        // FNV-1a.
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        trace.push(Sent { at: time::now(), from, to, bytes: bytes.len(), hash });
    }

    fn delay(&mut self) -> Duration {
        let most = self.delay_max * if self.dice.roll(50) == 0 { 10 } else { 1 };
        Duration::from_micros(self.dice.roll(most.as_micros() as u64 + 1))
    }

    fn pipe(&mut self, from: HostId, to: HostId) -> Arc<Pipe> {
        let flow = Flow {
            segments: VecDeque::new(),
            bytes: 0,
            end: None,
            is_cut: self.cut.contains(&(from, to)),
            is_lost: false,
            is_reset: false,
            is_abandoned: false,
            reader: None,
            writer: None,
            timer: None,
        };
        let pipe = Arc::new(Pipe { way: (from, to), state: Mutex::new(flow) });
        self.pipes.push(Arc::downgrade(&pipe));
        pipe
    }
}

struct Host {
    id: HostId,
    network: FakeNetwork,
}

fn address(host: HostId, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), port)
}

fn host_of(address: SocketAddr) -> HostId {
    match address.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

impl Network for Host {
    fn listen(&self, wanted: SocketAddr, _: ListenOptions) -> io::Result<Box<dyn Listener>> {
        let mut net = self.network.0.lock();
        let mut port = wanted.port();
        if port == 0 {
            net.next_port += 1;
            port = net.next_port;
        }
        let address = address(self.id, port);
        if net.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        net.listeners.insert(address, Queue::default());
        Ok(Box::new(FakeListener { address, network: self.network.clone() }))
    }

    fn connect<'a>(&'a self, host: &'a str, port: u16) -> Connecting<'a> {
        Box::pin(async move {
            let to = self.resolve(host, port)?;
            let (delay, is_cut) = {
                let mut net = self.network.0.lock();
                let (there, back) = ((self.id, host_of(to)), (host_of(to), self.id));
                let is_dark = net.dark.contains(&self.id) || net.dark.contains(&host_of(to));
                let is_cut = is_dark || net.cut.contains(&there) || net.cut.contains(&back);
                (2 * net.delay(), is_cut)
            };
            if is_cut {
                sleep(CONNECT_TIMEOUT).await;
                return Err(io::ErrorKind::TimedOut.into());
            }
            sleep(delay).await;
            let mut net = self.network.0.lock();
            if !net.listeners.contains_key(&to) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            net.next_port = net.next_port.checked_add(1).unwrap_or(50_000);
            let from = address(self.id, net.next_port);
            let there = net.pipe(self.id, host_of(to));
            let back = net.pipe(host_of(to), self.id);
            let stream = |incoming: &Arc<Pipe>, outgoing: &Arc<Pipe>, local, peer| FakeStream {
                incoming: incoming.clone(),
                outgoing: outgoing.clone(),
                local,
                peer,
                network: self.network.clone(),
            };
            let accepted = stream(&there, &back, to, from);
            let queue = net.listeners.get_mut(&to).ok_or(io::ErrorKind::ConnectionRefused)?;
            queue.waiting.push_back(accepted);
            queue.waker.take().into_iter().for_each(Waker::wake);
            Ok(Box::new(stream(&back, &there, from, to)) as Box<dyn Stream>)
        })
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<SocketAddr> {
        let ip: Ipv4Addr = host.parse().map_err(io::Error::other)?;
        Ok(SocketAddr::new(IpAddr::V4(ip), port))
    }
}

struct FakeListener {
    address: SocketAddr,
    network: FakeNetwork,
}

impl Listener for FakeListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Box<dyn Incoming>>> {
        let mut net = self.network.0.lock();
        let queue = net.listeners.entry(self.address).or_default();
        match queue.waiting.pop_front() {
            Some(stream) => Poll::Ready(Ok(Box::new(stream))),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl Drop for FakeListener {
    fn drop(&mut self) {
        // Streams that wait there lock the network when they go.
        let queue = self.network.0.lock().listeners.remove(&self.address);
        drop(queue);
    }
}

struct FakeStream {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    local: SocketAddr,
    peer: SocketAddr,
    network: FakeNetwork,
}

impl Incoming for FakeStream {
    fn into_stream(self: Box<Self>) -> io::Result<Box<dyn Stream>> {
        Ok(self)
    }
}

impl FakeStream {
    /// When what is sent now arrives: not before what was sent before.
    fn arrival(&self, flow: &Flow) -> Instant {
        let arrival = time::now() + self.network.0.lock().delay();
        flow.segments.back().map_or(arrival, |&(last, _)| arrival.max(last))
    }
}

impl Flow {
    /// When there is something to be read.
    fn readable_at(&self) -> Option<Instant> {
        let first = self.segments.front().map(|&(arrival, _)| arrival);
        first.or(self.end).filter(|_| !self.is_cut && !self.is_lost)
    }

    fn mend(&mut self) {
        self.is_cut = false;
        self.reader.take().into_iter().for_each(Waker::wake);
    }

    fn reset(&mut self) {
        self.is_reset = true;
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl Stream for FakeStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut flow = self.incoming.state.lock();
        flow.timer = None;
        flow.reader = Some(cx.waker().clone());
        if flow.is_reset {
            return Poll::Ready(Ok(()));
        }
        let Some(at) = flow.readable_at() else { return Poll::Pending };
        let mut timer: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(time::sleep_until(at));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        flow.timer = Some(timer);
        Poll::Pending
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut flow = self.incoming.state.lock();
        if flow.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if flow.readable_at().is_none_or(|at| time::now() < at) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some((_, segment)) = flow.segments.front_mut() else { return Ok(0) };
        let read = segment.len().min(buf.len());
        buf[..read].copy_from_slice(&segment[..read]);
        segment.drain(..read);
        if segment.is_empty() {
            flow.segments.pop_front();
        }
        flow.bytes -= read;
        flow.writer.take().into_iter().for_each(Waker::wake);
        Ok(read)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut flow = self.outgoing.state.lock();
        if flow.is_reset || flow.is_abandoned || flow.bytes < WINDOW_BYTES {
            return Poll::Ready(Ok(()));
        }
        flow.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn try_write(&self, bytes: &[u8], _: bool) -> io::Result<usize> {
        let mut flow = self.outgoing.state.lock();
        if flow.is_lost && !self.network.0.lock().dark.contains(&self.outgoing.way.1) {
            flow.reset();
            drop(flow);
            self.incoming.state.lock().reset();
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if flow.is_abandoned || flow.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let written = bytes.len().min(WINDOW_BYTES.saturating_sub(flow.bytes));
        if written == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let arrival = self.arrival(&flow);
        self.network.0.lock().note(self.outgoing.way, &bytes[..written]);
        flow.segments.push_back((arrival, bytes[..written].to_vec()));
        flow.bytes += written;
        flow.reader.take().into_iter().for_each(Waker::wake);
        Ok(written)
    }

    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.try_write(&bytes, false)
    }

    fn try_send_file(&self, file: &dyn File, at: u64, len: usize) -> io::Result<usize> {
        let mut bytes = vec![0; len.min(WINDOW_BYTES)];
        let read = file.read_at(&mut bytes, at)?;
        if read == 0 { Ok(0) } else { self.try_write(&bytes[..read], false) }
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

impl Drop for FakeStream {
    fn drop(&mut self) {
        self.incoming.state.lock().is_abandoned = true;
        let mut flow = self.outgoing.state.lock();
        flow.end = Some(self.arrival(&flow));
        flow.reader.take().into_iter().for_each(Waker::wake);
        drop(flow);
        self.incoming.state.lock().writer.take().into_iter().for_each(Waker::wake);
    }
}
