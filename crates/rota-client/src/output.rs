//! The output of a task, as a stream that reconnects by itself.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Stream, StreamExt};
use rota_proto::operations::Operation;
use rota_proto::v1::{self, task_service_client::TaskServiceClient};
use tonic::Streaming;

use crate::{
    client::{ANSWER_BYTES, Client},
    error::ClientError,
    follow::{self, Followed, Next, Source, Step},
};

/// The stream of the output of a task, which [`Client::output`] returns.
///
/// - It begins with what is known of the last attempt. Each piece has the type `output`.
/// - A message of the type `attempt` says that the output of an attempt begins, and one of the type `gap` that some is
///   missing.
/// - A message of the type `ready` says that everything was sent that was known at the beginning.
/// - When the connection breaks, the stream reconnects and continues after the last message. Output that was lost
///   with the node is missing, and a `gap` says so.
/// - The last message has the type `end`. Its reason is `task_ended`, or `up_to_date` without `follow`.
/// - An error means that the stream could not reconnect within [`Builder::patience`](crate::Builder::patience). It
///   tries again when it is polled again. It ends after an error that no retry can help.
#[must_use = "streams do nothing unless polled"]
pub struct TaskOutputs(Followed<v1::TaskOutput>);

impl std::fmt::Debug for TaskOutputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskOutputs").finish_non_exhaustive()
    }
}

impl Stream for TaskOutputs {
    type Item = Result<v1::TaskOutput, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl TaskOutputs {
    /// The next message. `None` after the last one, and after an error that no retry can help. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<v1::TaskOutput, ClientError>> {
        self.0.next().await
    }
}

impl Client {
    /// Streams the output of a task while it runs. Without `follow`, the stream ends when everything was sent that is
    /// known now. Connects when it is first polled.
    pub fn output(&self, task: impl Into<String>, follow: bool) -> TaskOutputs {
        let request =
            v1::WatchOutputRequest { id: task.into(), follow: Some(follow), last_event_id: None };
        TaskOutputs(follow::follow(self.clone(), OutputSource { request, was_ready: false }))
    }
}

struct OutputSource {
    /// With the id of the last received message.
    request: v1::WatchOutputRequest,
    was_ready: bool,
}

impl Source for OutputSource {
    type Message = v1::TaskOutput;

    async fn connect(&self, client: &Client) -> Result<Streaming<v1::TaskOutput>, ClientError> {
        let (repeat, timeout) = (Operation::WatchOutput.repeat(), client.request_timeout);
        let watch = |connection| {
            let request = self.request.clone();
            async move {
                TaskServiceClient::new(connection)
                    .max_decoding_message_size(ANSWER_BYTES)
                    .watch_output(request)
                    .await
            }
        };
        client.nodes.ask(repeat, timeout, watch).await
    }

    fn receive(&mut self, message: &v1::TaskOutput) -> Step {
        if !message.id.is_empty() {
            self.request.last_event_id = Some(message.id.clone());
        }
        match (message.r#type.as_str(), message.reason()) {
            ("heartbeat", _) => Step::Alive,
            ("ready", _) if mem::replace(&mut self.was_ready, true) => Step::Skip,
            ("end", "task_ended" | "up_to_date") => Step::Last,
            ("end", reason) => Step::Reconnect(Next::of(reason)),
            _ => Step::Pass,
        }
    }
}
