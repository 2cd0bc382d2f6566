//! The shipped parts on simulated connections: a node's server with its forwarder, and a worker.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rota_client::Client;
use rota_engine::Engine;
use rota_server::{Server, ServerOptions};
use rota_worker::{Done, HandlerError, TaskContext, Worker};
use tokio_util::sync::CancellationToken;

use super::{endpoint, stream, url};
use crate::{
    machine::WALL_AT_START,
    world::{Endpoint, World},
};

/// Makes connections from one endpoint.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) world: World,
    pub(super) from: Endpoint,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dial({})", self.from.0)
    }
}

impl Dial {
    async fn open(self, authority: String) -> std::io::Result<stream::SimStream> {
        let unknown = || std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        let to = endpoint(&authority).ok_or_else(unknown)?;
        stream::connect(self.world, self.from, to).await
    }
}

impl rota_server::Connect for Dial {
    fn connect(&self, address: &http::Uri) -> rota_server::Pending<'_, rota_server::BoxedStream> {
        let authority = address.authority().map(ToString::to_string).unwrap_or_default();
        let opening = self.clone().open(authority);
        Box::pin(async move { Ok(Box::new(opening.await?) as rota_server::BoxedStream) })
    }
}

impl rota_client::Connect for Dial {
    fn connect(&self, authority: &str) -> rota_client::Connecting {
        let opening = self.clone().open(authority.to_owned());
        Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn rota_client::ByteStream>) })
    }
}

/// A client at that endpoint, of all nodes.
pub(super) fn client(world: &World, at: Endpoint, nodes: &[Endpoint], seed: u64) -> Client {
    let dial = Dial { world: world.clone(), from: at };
    let built = Client::builder(nodes.iter().map(|node| url(*node))).connector(dial).seed(seed);
    built.build().expect("simulated addresses are addresses")
}

/// Serves the API of a node until `stop`.
pub(crate) async fn serve(world: World, at: Endpoint, engine: Engine, stop: CancellationToken) {
    let listener = stream::listen(&world, at);
    let options = ServerOptions {
        insecure_no_auth: true,
        connect: Arc::new(Dial { world, from: at }),
        // It would be of the machine that simulates.
        date_header: false,
        ..ServerOptions::default()
    };
    let server = Server::on(Box::new(listener), engine, options);
    let server = server.expect("the options of a simulated server fit together");
    // It ends when it is told to.
    let _ = server.run(stop).await;
}

/// What a worker is.
pub(crate) struct WorkerPlan {
    pub(crate) world: World,
    pub(crate) at: Endpoint,
    pub(crate) nodes: Arc<[Endpoint]>,
    pub(crate) name: String,
    pub(crate) queues: Vec<String>,
    pub(crate) slots: u32,
    pub(crate) rng: fastrand::Rng,
    /// Of a thousand attempts, so many take seconds.
    pub(crate) long_attempts: u32,
}

/// Runs the shipped worker, again and again.
pub(crate) async fn work(mut plan: WorkerPlan) {
    loop {
        let client = client(&plan.world, plan.at, &plan.nodes, plan.rng.u64(..));
        let mut builder = Worker::builder(client)
            .name(plan.name.clone())
            .queues(plan.queues.clone())
            .slots(plan.slots)
            .wall_clock(wall_clock(&plan.world));
        for kind in ["a", "b"] {
            let (world, seed) = (plan.world.clone(), plan.rng.u64(..));
            let long = plan.long_attempts;
            builder = builder.raw_handler(kind, move |context: TaskContext, payload: Bytes| {
                handle(world.clone(), (seed, long), context, payload)
            });
        }
        let Ok(worker) = builder.build() else { return };
        // A worker that gives up shows as tasks that do not run; meanwhile it is started anew, as a
        // supervisor does.
        let ended = worker.run().await;
        let failed = ended.is_err();
        plan.world.lock().note(format_args!("worker {} ended, failed: {failed}", plan.name));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The true time of the simulated world.
fn wall_clock(world: &World) -> impl Fn() -> SystemTime + Send + Sync + 'static {
    let world = world.clone();
    let start = UNIX_EPOCH + Duration::from_millis(WALL_AT_START.unsigned_abs());
    move || start + Duration::from_micros(world.lock().now_us)
}

async fn handle(
    world: World,
    (seed, long): (u64, u32),
    context: TaskContext,
    payload: Bytes,
) -> Result<Done, HandlerError> {
    let tag = crate::audit::tag_of(&payload).unwrap_or_default();
    let token = context.lease_token();
    {
        let mut inner = world.lock();
        let now_us = inner.now_us;
        inner.audit.started(now_us, tag, token);
    }
    let mut rng = fastrand::Rng::with_seed(seed ^ tag ^ token);
    let is_long = rng.u32(..1000) < long;
    let takes = rng.u64(if is_long { 1000..8000 } else { 0..60 });
    tokio::time::sleep(Duration::from_millis(takes)).await;
    world.lock().count(1);
    match rng.u32(..1000) {
        0..50 => Err(HandlerError::new("simulated")),
        50..60 => Err(HandlerError::permanent("simulated")),
        60..90 => {
            let delay_ms = rng.u32(0..3000);
            let mut inner = world.lock();
            let now_us = inner.now_us;
            inner.audit.snoozes_for(now_us, tag, token, delay_ms.into());
            Err(HandlerError::snooze(Duration::from_millis(delay_ms.into())))
        }
        90..500 => Ok(Done::default()),
        _ => Ok(Done { result: format!("{tag:016x}").into(), ..Done::default() }),
    }
}
