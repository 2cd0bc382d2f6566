//! A worker whose attempts land on the test's desk: the test decides what each comes to.

use std::time::Duration;

use rota_client::Client;
use rota_worker::{Builder, Drain, HandlerError, StopReason, TaskContext, Worker, WorkerError};
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::in_time;

/// The kind of task that lands here.
pub(crate) const KIND: &str = "desk";

type HandlerResult = Result<Value, HandlerError>;

pub(crate) struct Desk {
    attempts: mpsc::UnboundedReceiver<Attempt>,
    pub(crate) drain: Drain,
    running: JoinHandle<Result<(), WorkerError>>,
}

/// An attempt whose handler waits for the test.
pub(crate) struct Attempt {
    pub(crate) context: TaskContext,
    answer: oneshot::Sender<HandlerResult>,
}

impl Desk {
    /// A worker of two slots that reaches the server at that address.
    pub(crate) fn open(name: &str, url: &str) -> Self {
        Self::open_with(name, url, |builder| builder)
    }

    pub(crate) fn open_with(name: &str, url: &str, set: impl Fn(Builder) -> Builder) -> Self {
        Self::open_at(name, &[url], set)
    }

    /// One that reaches the server at any of these addresses.
    pub(crate) fn open_at(name: &str, urls: &[&str], set: impl Fn(Builder) -> Builder) -> Self {
        let (sender, attempts) = mpsc::unbounded_channel();
        let builder = Worker::builder(Client::connect(urls.iter().copied()).unwrap())
            .name(name)
            .slots(2)
            .drain_timeout(Duration::from_secs(60))
            .handler(KIND, move |context: TaskContext, _: Value| {
                let sender = sender.clone();
                async move {
                    let (answer, outcome) = oneshot::channel();
                    sender.send(Attempt { context, answer }).unwrap_or_default();
                    outcome.await.unwrap_or_else(|_| Err(HandlerError::new("nobody answered")))
                }
            });
        let worker = set(builder).build().unwrap();
        let drain = worker.drain();
        Self { attempts, drain, running: tokio::spawn(worker.run()) }
    }

    /// The next attempt that begins.
    pub(crate) async fn next(&mut self) -> Attempt {
        in_time(self.attempts.recv()).await.expect("the worker runs")
    }

    /// Whether no other attempt has begun.
    pub(crate) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// What the worker itself comes to.
    pub(crate) async fn closed(self) -> Result<(), WorkerError> {
        in_time(self.running).await.unwrap()
    }

    /// Ends the worker without a word, as when its process is killed.
    pub(crate) async fn kill(self) {
        self.running.abort();
        let _ = in_time(self.running).await;
    }
}

impl Attempt {
    pub(crate) fn end(self, outcome: HandlerResult) {
        // The handler may have been dropped.
        let _ = self.answer.send(outcome);
    }

    pub(crate) fn complete(self) {
        self.end(Ok(Value::from("done")));
    }

    pub(crate) async fn stopped(&self) -> StopReason {
        in_time(self.context.stopped()).await
    }
}
