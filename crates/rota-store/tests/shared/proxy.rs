//! A network between a node and its store that can be cut and mended, or is slow. Connections stay open
//! meanwhile, and what was sent waits on the way.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Mutex, watch},
    time::{Instant, sleep_until},
};

use crate::node::within;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Whole,
    /// Nothing passes on any connection.
    Cut,
    /// Nothing passes on connections that were there before; new ones are whole.
    Held,
    /// What was on its way on those has arrived, and nothing after it.
    Released,
}

/// The state, and how often connections were held up to now.
type Network = (State, u64);

/// See the module. Ends with the runtime.
pub(crate) struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    /// How often server said something on a connection that was held.
    answers: watch::Sender<usize>,
    /// How many connections were made.
    connections: watch::Sender<usize>,
    /// Bytes that have passed.
    carried: watch::Sender<u64>,
}

/// What all connections have in common where the network is slow: the bytes that pass in a second,
/// and when the next one may.
struct Throttle {
    rate: u32,
    free: Mutex<Instant>,
}

impl Throttle {
    /// Waits as long as so many bytes take.
    async fn carry(&self, bytes: usize) {
        let mut free = self.free.lock().await;
        let takes = Duration::from_secs(bytes as u64) / self.rate;
        *free = (*free).max(Instant::now()) + takes;
        let arrival = *free;
        drop(free);
        sleep_until(arrival).await;
    }
}

impl Proxy {
    /// A whole network in front of that address.
    pub(crate) async fn to(server: String) -> Self {
        Self::over(server, None).await
    }

    /// A network in front of that address that carries so many bytes in a second each way, over all
    /// connections together.
    pub(crate) async fn slow(server: String, rate: u32) -> Self {
        let throttle = || Arc::new(Throttle { rate, free: Mutex::new(Instant::now()) });
        Self::over(server, Some([throttle(), throttle()])).await
    }

    async fn over(server: String, throttles: Option<[Arc<Throttle>; 2]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let network = watch::Sender::new((State::Whole, 0));
        let answers = watch::Sender::new(0);
        let connections = watch::Sender::new(0);
        let carried = watch::Sender::new(0);
        let proxy = Self {
            address,
            network: network.clone(),
            answers: answers.clone(),
            connections: connections.clone(),
            carried: carried.clone(),
        };
        tokio::spawn(async move {
            while let Ok((node, _)) = listener.accept().await {
                let connection = Connection {
                    born: network.borrow().1,
                    network: network.subscribe(),
                    answers: answers.clone(),
                    throttles: throttles.clone(),
                    carried: carried.clone(),
                };
                connections.send_modify(|connections| *connections += 1);
                tokio::spawn(connection.run(node, server.clone()));
            }
        });
        proxy
    }

    pub(crate) fn endpoint(&self) -> String {
        self.address.to_string()
    }

    /// How many connections were made until now.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// Waits until so many bytes have passed.
    pub(crate) async fn carried(&self, bytes: u64) {
        self.carried.subscribe().wait_for(|carried| *carried >= bytes).await.unwrap();
    }

    /// Lets nothing through.
    pub(crate) fn cut(&self) {
        self.network.send_modify(|network| network.0 = State::Cut);
    }

    /// Lets everything through, what waited included.
    pub(crate) fn mend(&self) {
        self.network.send_modify(|network| network.0 = State::Whole);
    }

    /// Lets nothing more through on the connections there are.
    pub(crate) fn hold(&self) {
        self.network.send_modify(|network| *network = (State::Held, network.1 + 1));
    }

    /// Lets arrive what was sent first after that, and waits until server has answered it.
    pub(crate) async fn release(&self) {
        let mut answers = self.answers.subscribe();
        answers.mark_unchanged();
        self.network.send_modify(|network| network.0 = State::Released);
        within(answers.changed()).await.unwrap();
    }
}

#[derive(Clone)]
struct Connection {
    /// How often connections had been held when this one was made.
    born: u64,
    network: watch::Receiver<Network>,
    answers: watch::Sender<usize>,
    /// To server and to the node; `None` where the network is as fast as can be.
    throttles: Option<[Arc<Throttle>; 2]>,
    carried: watch::Sender<u64>,
}

impl Connection {
    async fn run(self, node: TcpStream, server: String) {
        let Ok(server) = TcpStream::connect(server).await else { return };
        node.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let ((from_node, to_node), (from_server, to_server)) =
            (node.into_split(), server.into_split());
        let [up, down] =
            self.throttles.clone().map_or([None, None], |throttles| throttles.map(Some));
        tokio::join!(
            self.clone().pass(from_node, to_server, up, |_| {}),
            self.pass(from_server, to_node, down, |answers| *answers += 1)
        );
    }

    /// Passes on what comes; `count` what comes on a connection that was held and is released.
    async fn pass(
        mut self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        throttle: Option<Arc<Throttle>>,
        count: fn(&mut usize),
    ) {
        let mut buffer = vec![0; 16 * 1024];
        let mut released = false;
        loop {
            let read = from.read(&mut buffer).await.unwrap_or(0);
            let (state, holds) = *self.network.borrow();
            if state == State::Released && self.born < holds {
                self.answers.send_modify(count);
            }
            let passes = |(state, holds): &Network| match state {
                State::Whole => true,
                State::Cut => false,
                State::Held => self.born >= *holds,
                State::Released => self.born >= *holds || !released,
            };
            match self.network.wait_for(passes).await {
                Ok(network) => released = network.0 == State::Released,
                Err(_) => return,
            }
            if let Some(throttle) = &throttle {
                throttle.carry(read).await;
            }
            self.carried.send_modify(|carried| *carried += read as u64);
            if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
                let _ = to.shutdown().await;
                return;
            }
        }
    }
}
