//! A connection: two pipes of bytes, which the driver moves.
//!
//! Bytes arrive in order and are never lost while the connection lives. What is written while its way
//! is cut waits, as TCP sends it again; the connection breaks when a process ends.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, oneshot},
};

use super::address;
use crate::world::{Endpoint, Inner, World};

/// Bytes that may be on their way or wait to be read; then the writer waits.
const WINDOW: usize = 256 * 1024;
/// So often what is held up by a cut is tried again.
const RETRY_US: u64 = 50_000;

/// One direction.
struct Pipe {
    from: Endpoint,
    to: Endpoint,
    /// Written, and not sent yet.
    outbox: VecDeque<Bytes>,
    /// Arrived, and not read yet.
    inbox: VecDeque<Bytes>,
    /// Bytes in the outbox, on their way and in the inbox.
    held: usize,
    /// The writer has ended it, and all that it wrote has arrived.
    over: bool,
    ending: bool,
    broken: bool,
    retrying: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn new(from: Endpoint, to: Endpoint) -> Shared {
        Arc::new(Mutex::new(Self {
            from,
            to,
            outbox: VecDeque::new(),
            inbox: VecDeque::new(),
            held: 0,
            over: false,
            ending: false,
            broken: false,
            retrying: false,
            reader: None,
            writer: None,
        }))
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

type Shared = Arc<Mutex<Pipe>>;

fn open(pipe: &Shared) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every connection that lives, and every node that listens.
#[derive(Default)]
pub(crate) struct Connections {
    number: u64,
    alive: BTreeMap<u64, (Endpoint, Endpoint, Shared, Shared)>,
    listeners: BTreeMap<Endpoint, mpsc::UnboundedSender<(SimStream, SocketAddr)>>,
}

/// Breaks all connections of an endpoint, and what listens there.
pub(crate) fn break_all(inner: &mut Inner, endpoint: Endpoint) {
    inner.wires.listeners.remove(&endpoint);
    inner.wires.alive.retain(|_, (a, b, there, back)| {
        let breaks = *a == endpoint || *b == endpoint;
        if breaks {
            for pipe in [there, back] {
                let mut pipe = open(pipe);
                pipe.broken = true;
                pipe.wake();
            }
        }
        !breaks
    });
}

/// Sends what waits in the outbox.
fn pump(inner: &mut Inner, pipe: &Shared) {
    let mut opened = open(pipe);
    if opened.broken {
        return;
    }
    let (from, to) = (opened.from, opened.to);
    if !inner.net.carries(from, to) {
        if !opened.retrying {
            opened.retrying = true;
            let pipe = pipe.clone();
            let again = move |inner: &mut Inner| {
                open(&pipe).retrying = false;
                pump(inner, &pipe);
            };
            inner.at(inner.now_us + RETRY_US, Box::new(again));
        }
        return;
    }
    while let Some(bytes) = opened.outbox.pop_front() {
        let pipe = pipe.clone();
        let size = bytes.len();
        let arrive = move |inner: &mut Inner| {
            // Not how many: what is encoded holds dates of this machine's clock.
            inner.note_way("bytes", from, to);
            let mut pipe = open(&pipe);
            pipe.inbox.push_back(bytes);
            if let Some(reader) = pipe.reader.take() {
                reader.wake();
            }
        };
        inner.send_bytes(from, to, size, Box::new(arrive));
    }
    if opened.ending {
        let pipe = pipe.clone();
        let arrive = move |_: &mut Inner| {
            let mut pipe = open(&pipe);
            pipe.over = true;
            pipe.wake();
        };
        inner.send(from, to, Box::new(arrive));
    }
}

/// One end of a connection.
pub(crate) struct SimStream {
    world: World,
    number: u64,
    incoming: Shared,
    outgoing: Shared,
    /// Nobody ever got hold of it.
    refused: bool,
}

impl Drop for SimStream {
    fn drop(&mut self) {
        // It is dropped with the world locked.
        if self.refused {
            return;
        }
        {
            let mut outgoing = open(&self.outgoing);
            outgoing.ending = true;
        }
        let mut inner = self.world.lock();
        let gone = {
            let mut incoming = open(&self.incoming);
            incoming.broken = true;
            incoming.wake();
            incoming.ending
        };
        if gone {
            inner.wires.alive.remove(&self.number);
        }
        pump(&mut inner, &self.outgoing);
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = open(&self.incoming);
        let Some(front) = pipe.inbox.front_mut() else {
            if pipe.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if pipe.over {
                return Poll::Ready(Ok(()));
            }
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        let count = front.len().min(buffer.remaining());
        buffer.put_slice(&front[..count]);
        front.advance(count);
        if front.is_empty() {
            pipe.inbox.pop_front();
        }
        pipe.held -= count;
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = {
            let mut pipe = open(&self.outgoing);
            if pipe.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if pipe.held >= WINDOW {
                pipe.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            let count = bytes.len().min(WINDOW - pipe.held);
            pipe.held += count;
            pipe.outbox.push_back(Bytes::copy_from_slice(&bytes[..count]));
            count
        };
        pump(&mut self.world.lock(), &self.outgoing);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let was = std::mem::replace(&mut open(&self.outgoing).ending, true);
        if !was {
            pump(&mut self.world.lock(), &self.outgoing);
        }
        Poll::Ready(Ok(()))
    }
}

/// A node begins to listen.
pub(super) fn listen(world: &World, at: Endpoint) -> Listener {
    let (sender, streams) = mpsc::unbounded_channel();
    world.lock().wires.listeners.insert(at, sender);
    Listener { at, streams }
}

/// Connects one endpoint to another.
pub(super) async fn connect(world: World, from: Endpoint, to: Endpoint) -> io::Result<SimStream> {
    let (answer, answered) = oneshot::channel();
    let shared = world.clone();
    let arrive = move |inner: &mut Inner| {
        let Some(listener) = inner.wires.listeners.get(&to).cloned() else { return };
        let (there, back) = (Pipe::new(from, to), Pipe::new(to, from));
        inner.wires.number += 1;
        let number = inner.wires.number;
        inner.wires.alive.insert(number, (from, to, there.clone(), back.clone()));
        let (world, incoming, outgoing) = (shared.clone(), there.clone(), back.clone());
        let far = SimStream { world, number, incoming, outgoing, refused: false };
        let peer =
            SocketAddr::new(address(from).ip(), 1024 + u16::try_from(number % 60_000).unwrap_or(0));
        if let Err(mpsc::error::SendError((mut far, _))) = listener.send((far, peer)) {
            far.refused = true;
            inner.wires.alive.remove(&number);
            return;
        }
        let tell = move |_: &mut Inner| {
            if let Err((_, there, back)) = answer.send((number, there, back)) {
                // One who gave up has no end of it.
                for pipe in [there, back] {
                    let mut pipe = open(&pipe);
                    pipe.broken = true;
                    pipe.wake();
                }
            }
        };
        inner.send(to, from, Box::new(tell));
    };
    world.lock().send(from, to, Box::new(arrive));
    let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
    let (number, there, back) = answered.await.map_err(refused)?;
    Ok(SimStream { world, number, incoming: back, outgoing: there, refused: false })
}

/// What a node accepts connections from.
pub(super) struct Listener {
    at: Endpoint,
    streams: mpsc::UnboundedReceiver<(SimStream, SocketAddr)>,
}

impl rota_server::Listen for Listener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address(self.at))
    }

    fn accept(&mut self) -> rota_server::Pending<'_, (rota_server::BoxedStream, SocketAddr)> {
        Box::pin(async move {
            match self.streams.recv().await {
                Some((stream, peer)) => Ok((Box::new(stream) as rota_server::BoxedStream, peer)),
                None => std::future::pending().await,
            }
        })
    }
}
