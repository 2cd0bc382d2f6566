//! A stream to a node: opens it with a hello, and closes it with a goodbye. The session handles the messages
//! in between.

use std::time::Duration;

use rota_proto::TimeSpan;
use rota_proto::v1::{
    self, server_message::Message as Down, worker_message::Message as Up,
    worker_service_client::WorkerServiceClient,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::info;

/// Maximum number of outgoing messages in the channel: unanswered reports, heartbeats and credit.
pub(crate) const OUTGOING: usize = 64;
/// Maximum time for a node to answer the first message.
pub(crate) const WELCOME: Duration = Duration::from_secs(5);
/// Time for the server to end the stream after the goodbye.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(5);
/// The TTL of a session before the server has sent one.
pub(crate) const TTL: Duration = Duration::from_secs(10);
const TTL_MIN: Duration = Duration::from_millis(100);
/// Maximum size of a message. A server can allow payloads of 1 GiB, and a smaller limit here would break each
/// connection that carries one.
const MESSAGE_BYTES: usize = (1 << 30) + (16 << 20);

/// An open stream.
pub(crate) struct Connection {
    pub(crate) up: mpsc::Sender<v1::WorkerMessage>,
    pub(crate) down: Streaming<v1::ServerMessage>,
    pub(crate) ttl: Duration,
    /// Whether the server acknowledges heartbeats.
    pub(crate) acknowledges: bool,
}

/// Opens a stream to a node, and waits until it welcomes the worker.
pub(crate) async fn open(
    to: rota_client::Connection,
    hello: v1::Hello,
) -> Result<(Connection, v1::Welcome), Status> {
    let (up, outgoing) = mpsc::channel(OUTGOING);
    // The channel is still empty, so this does not block.
    let _ = up.try_send(message(Up::Hello(hello)));
    let mut service = WorkerServiceClient::new(to).max_decoding_message_size(MESSAGE_BYTES);
    let mut down = service.work(ReceiverStream::new(outgoing)).await?.into_inner();
    let first = down.message().await?;
    let Some(v1::ServerMessage { message: Some(Down::Welcome(welcome)) }) = first else {
        return Err(Status::unavailable("the server did not welcome the worker"));
    };
    info!(session = welcome.session, node = welcome.node, "connected");
    let ttl = welcome.ttl.map_or(TTL, TimeSpan::duration);
    let acknowledges = welcome.acknowledges_heartbeats;
    Ok((Connection { up, down, ttl: ttl.max(TTL_MIN), acknowledges }, welcome))
}

impl Connection {
    /// Ends the session. Other workers get the tasks that it still holds.
    pub(crate) async fn close(mut self) {
        let ended = async {
            let _ = self.up.send(message(Up::Goodbye(v1::Goodbye {}))).await;
            drop(self.up);
            // The server ends the stream after the session.
            while let Ok(Some(_)) = self.down.message().await {}
        };
        let _ = timeout(LAST_WORDS, ended).await;
    }
}

pub(crate) fn message(message: Up) -> v1::WorkerMessage {
    v1::WorkerMessage { message: Some(message) }
}
