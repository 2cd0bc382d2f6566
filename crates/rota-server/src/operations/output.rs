//! The stream of the output of a task, for both protocols.

use futures_util::{Stream, stream};
use rota_engine::{OutputEnd, OutputListener, OutputTold};
use rota_proto::v1;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    Caller,
    events::{HEARTBEAT, HEARTBEAT_TYPE},
};
use crate::{failure::Failure, services::Services, validate, wire};

/// A listener, and what ends it.
struct Watch {
    listener: OutputListener,
    stop: CancellationToken,
    is_over: bool,
}

impl Services {
    /// Streams the output of a task. The last message has the type `end`.
    pub(crate) async fn watch_output(
        &self,
        _: Caller,
        request: v1::WatchOutputRequest,
    ) -> Result<impl Stream<Item = v1::TaskOutput> + Send + use<>, Failure> {
        let request = validate::output(request, &self.limits)?;
        let listener = self.engine.watch_output(request).await?;
        let watch = Watch { listener, stop: self.stop.clone(), is_over: false };
        Ok(stream::unfold(watch, |mut watch| async move {
            let message = watch.next().await?;
            Some((message, watch))
        }))
    }
}

impl Watch {
    async fn next(&mut self) -> Option<v1::TaskOutput> {
        if self.is_over {
            return None;
        }
        let told = tokio::select! {
            biased;
            () = self.stop.cancelled() => {
                self.is_over = true;
                let reason = Some("shutting_down".to_owned());
                return Some(v1::TaskOutput { reason, ..self.message("end") });
            }
            told = timeout(HEARTBEAT, self.listener.next()) => told,
        };
        Some(match told {
            Ok(told) => self.told(told),
            Err(_) => self.message(HEARTBEAT_TYPE),
        })
    }

    fn told(&mut self, told: OutputTold) -> v1::TaskOutput {
        match told {
            OutputTold::Attempt { worker } => {
                let worker = worker.map(|worker| worker.to_string());
                v1::TaskOutput { worker, ..self.message("attempt") }
            }
            OutputTold::Output { offset, bytes } => {
                v1::TaskOutput { offset: Some(offset), output: bytes, ..self.message("output") }
            }
            OutputTold::Gap { missing, reason } => v1::TaskOutput {
                missing_bytes: missing,
                reason: Some(reason.as_str().to_owned()),
                ..self.message("gap")
            },
            OutputTold::AtEnd => self.message("at_end"),
            OutputTold::Ready => self.message("ready"),
            OutputTold::Ended(end) => {
                self.is_over = true;
                let status = match end {
                    OutputEnd::Task(status) => Some(wire::status(status).into()),
                    _ => None,
                };
                let reason = Some(end.as_str().to_owned());
                v1::TaskOutput { reason, status, ..self.message("end") }
            }
        }
    }

    /// A message of this type, with the place after it.
    fn message(&self, kind: &str) -> v1::TaskOutput {
        v1::TaskOutput {
            id: self.listener.place().to_string(),
            r#type: kind.to_owned(),
            attempt: self.listener.attempt(),
            ..v1::TaskOutput::default()
        }
    }
}
