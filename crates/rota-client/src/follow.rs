//! Streams of a server that reconnect by themselves and continue after the last message.
//!
//! What a stream carries, and what each message means for it, is the business of its [`Source`].

use std::{future::Future, pin::Pin, time::Duration};

use futures_util::{Stream, stream};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use crate::{
    client::Client,
    error::{ClientError, ErrorKind},
};

/// Time without a message after which a connection counts as broken. The server sends one every 15 seconds.
const SILENCE: Duration = Duration::from_secs(45);
/// Pause before a stream reconnects. It doubles while connections break at once.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A stream that [`follow`] returns.
pub(crate) type Followed<M> = Pin<Box<dyn Stream<Item = Result<M, ClientError>> + Send>>;

/// Where a stream comes from, with how far it was received.
pub(crate) trait Source: Send + 'static {
    /// A message of the stream.
    type Message: Send + 'static;

    /// Asks for the stream after the last received message.
    fn connect(
        &self,
        client: &Client,
    ) -> impl Future<Output = Result<Streaming<Self::Message>, ClientError>> + Send;

    /// Notes that this message was received, and says what becomes of it.
    fn receive(&mut self, message: &Self::Message) -> Step;
}

/// What becomes of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The user gets it.
    Pass,
    /// The user gets it, and it does not show that the connection works.
    PassUntested,
    /// The user gets it, and it is the last one.
    Last,
    /// It shows that the connection works.
    Alive,
    /// The user has got one like it before.
    Skip,
    /// The server ends the stream, which goes on with another connection.
    Reconnect(Next),
}

/// Where a stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// At any node.
    Any,
    /// Not at this node, which shuts down.
    Another,
}

impl Next {
    /// Where a stream goes on that a server ends for this reason.
    pub(crate) fn of(reason: &str) -> Self {
        if reason == "shutting_down" { Self::Another } else { Self::Any }
    }
}

/// The messages of a source. Connects when it is first polled.
pub(crate) fn follow<S: Source>(client: Client, source: S) -> Followed<S::Message> {
    let follower = Follower { client, source, stream: None, is_over: false, pause: PAUSE_MIN };
    Box::pin(stream::unfold(follower, |mut follower| async move {
        let message = follower.next().await?;
        Some((message, follower))
    }))
}

struct Follower<S: Source> {
    client: Client,
    source: S,
    stream: Option<Streaming<S::Message>>,
    is_over: bool,
    /// Before the next connection.
    pause: Duration,
}

impl<S: Source> Follower<S> {
    async fn next(&mut self) -> Option<Result<S::Message, ClientError>> {
        while !self.is_over {
            let Some(stream) = &mut self.stream else {
                match self.source.connect(&self.client).await {
                    Ok(stream) => self.stream = Some(stream),
                    Err(error) => {
                        self.is_over = is_final(&error);
                        return Some(Err(error));
                    }
                }
                continue;
            };
            let Ok(Ok(Some(message))) = timeout(SILENCE, stream.message()).await else {
                self.reconnect(Next::Another).await;
                continue;
            };
            match self.source.receive(&message) {
                Step::Pass => {
                    self.pause = PAUSE_MIN;
                    return Some(Ok(message));
                }
                Step::PassUntested => return Some(Ok(message)),
                Step::Last => {
                    self.is_over = true;
                    return Some(Ok(message));
                }
                Step::Alive => self.pause = PAUSE_MIN,
                Step::Skip => {}
                Step::Reconnect(next) => self.reconnect(next).await,
            }
        }
        None
    }

    /// Forgets the connection, and waits before the next one.
    async fn reconnect(&mut self, next: Next) {
        if next == Next::Another {
            self.client.next_node();
        }
        self.stream = None;
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// Whether no retry can help.
fn is_final(error: &ClientError) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::ResourceExhausted
    )
}
