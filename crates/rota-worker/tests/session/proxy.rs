//! A connection between worker and server that fails in the ways that networks do.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::in_time;

/// What becomes of the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// They arrive.
    Open,
    /// They wait where they are.
    Held,
    /// They are lost, and nobody notices.
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct Ways {
    /// From the worker to the server.
    up: Way,
    down: Way,
    /// Connections of an earlier age are cut.
    age: u64,
    /// Nothing passes on connections that began before this many losses, and nobody notices.
    forgotten: u64,
}

/// Listens on a port of its own and passes on to the server.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    ways: watch::Sender<Ways>,
    lost: Arc<Lost>,
    accepting: JoinHandle<()>,
}

/// Counts what was lost.
#[derive(Default)]
struct Lost {
    bytes: AtomicUsize,
    more: Notify,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ways, seen) =
            watch::channel(Ways { up: Way::Open, down: Way::Open, age: 0, forgotten: 0 });
        let lost = Arc::<Lost>::default();
        let counted = lost.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((worker, _)) = listener.accept().await {
                tokio::spawn(join(worker, server, seen.clone(), counted.clone()));
            }
        });
        Self { address, ways, lost, accepting }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set_up(&self, up: Way) {
        self.ways.send_modify(|ways| ways.up = up);
    }

    pub(crate) fn set_down(&self, down: Way) {
        self.ways.send_modify(|ways| ways.down = down);
    }

    /// Cuts all connections; new ones are open in both directions.
    pub(crate) fn cut(&self) {
        self.ways.send_modify(|ways| {
            *ways = Ways { up: Way::Open, down: Way::Open, age: ways.age + 1, ..*ways };
        });
    }

    /// Forgets all connections, as a router does whose table is full: nothing passes on them any more. New ones are
    /// open.
    pub(crate) fn forget(&self) {
        self.ways.send_modify(|ways| ways.forgotten += 1);
    }

    /// Waits until so many bytes were lost.
    pub(crate) async fn has_lost(&self, bytes: usize) {
        in_time(async {
            loop {
                let more = self.lost.more.notified();
                if self.lost.bytes.load(Ordering::SeqCst) >= bytes {
                    return;
                }
                more.await;
            }
        })
        .await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn join(worker: TcpStream, server: SocketAddr, ways: watch::Receiver<Ways>, lost: Arc<Lost>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_worker, to_worker) = worker.into_split();
    let (from_server, to_server) = server.into_split();
    // When one direction ends, so does the other.
    tokio::select! {
        () = carry(from_worker, to_server, ways.clone(), |ways| ways.up, &lost) => {}
        () = carry(from_server, to_worker, ways, |ways| ways.down, &lost) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut ways: watch::Receiver<Ways>,
    way: fn(&Ways) -> Way,
    lost: &Lost,
) {
    let Ways { age, forgotten, .. } = *ways.borrow();
    let cut = |ways: &Ways| ways.age != age;
    let way = |ways: &Ways| if ways.forgotten == forgotten { way(ways) } else { Way::Lost };
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = tokio::select! {
            biased;
            seen = ways.wait_for(cut) => { let _ = seen; return }
            read = from.read(&mut buffer) => match read {
                Ok(count @ 1..) => count,
                _ => return,
            }
        };
        // The test may have changed the way while the bytes were read, so it is asked after the
        // read. Bytes that the worker sends after `Held` never slip through.
        let Ok(now) = ways.wait_for(|ways| cut(ways) || way(ways) != Way::Held).await.map(|it| *it)
        else {
            return;
        };
        if cut(&now) {
            return;
        }
        if way(&now) == Way::Lost {
            lost.bytes.fetch_add(count, Ordering::SeqCst);
            lost.more.notify_one();
        } else if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
