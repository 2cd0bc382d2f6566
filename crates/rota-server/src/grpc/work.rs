//! The stream of a worker: it receives tasks up to its credit, and sends reports.
//!
//! Two tasks serve a stream. One reads messages of the worker and calls the engine, with several messages of
//! reports in flight at once. The other writes messages of the session and the answers. When the stream
//! breaks, the session stays open until its TTL is over.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_core::Stream;
use futures_util::{StreamExt, stream::FuturesOrdered};
use prost::Message as _;
use rota_core::SessionId;
use rota_engine::{Engine, EngineError, SessionEvent, SessionStream};
use rota_proto::v1::{
    self, server_message::Message as Down, worker_message::Message as Up,
    worker_service_server::WorkerService,
};
use rota_trace::Tracer;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;

use super::{
    answers::{Answer, Answers},
    calls::{caller, calls},
    codec::unreadable,
};
use crate::{
    definition,
    failure::{Failure, Reason},
    limits::Limits,
    operations::pull,
    room::StreamRoom,
    services::Services,
    trace, validate, wire,
};

/// Maximum number of messages that wait to be written. Each can be slightly larger than the largest payload.
const OUTGOING: usize = 4;
/// Maximum number of messages of reports in flight.
const REPORTS_IN_FLIGHT: usize = 8;
/// Maximum number of messages of all kinds in flight.
const IN_FLIGHT: usize = 64;
/// Bytes of reports in flight above which no further messages are read.
const REPORT_BYTES_IN_FLIGHT: usize = 32 << 20;
/// Maximum number of tasks in one message.
const DISPATCHES_A_MESSAGE: usize = 512;
/// Maximum bytes of a message without its last task. A message must stay below the limit of clients, which is
/// 4 MiB by default.
const DISPATCHED_BYTES_A_MESSAGE: usize = 1 << 20;

type DownStream = Pin<Box<dyn Stream<Item = Result<v1::ServerMessage, Status>> + Send>>;

/// The sending side of the stream.
struct Outgoing {
    sender: mpsc::Sender<Answer>,
    /// Time after which a worker that reads nothing counts as lost, even if it sends heartbeats, because
    /// messages to it would pile up. The same as the session TTL.
    patience: Duration,
    /// Tracer for the waits of tasks.
    tracer: Tracer,
}

impl Outgoing {
    /// Sends a message. Returns false if the worker is gone.
    async fn send(&self, answer: Answer) -> bool {
        self.sender.send_timeout(answer, self.patience).await.is_ok()
    }
}

calls! {
    WorkerService {
        list_workers(v1::ListWorkersRequest) -> v1::ListWorkersResponse = list_workers;
        lease(v1::LeaseRequest) -> v1::LeaseResponse = lease_tasks;
        heartbeat(v1::HeartbeatRequest) -> v1::HeartbeatResponse = heartbeat;
        close_session(v1::CloseSessionRequest) -> v1::CloseSessionResponse = close_session;
        complete(v1::CompleteRequest) -> v1::CompleteResponse = complete_task;
        fail(v1::FailRequest) -> v1::FailResponse = fail_task;
        report_cancelled(v1::ReportCancelledRequest) -> v1::ReportCancelledResponse = report_cancelled;
        snooze(v1::SnoozeRequest) -> v1::SnoozeResponse = snooze_task;
        release(v1::ReleaseRequest) -> v1::ReleaseResponse = release_task;
        report_progress(v1::ReportProgressRequest) -> v1::ReportProgressResponse = report_progress;
    }
    and {
        type WorkStream = DownStream;

        async fn drain_worker(
            &self,
            request: Request<v1::DrainWorkerRequest>,
        ) -> Result<Response<v1::Worker>, Status> {
            let caller = caller(&request);
            let sessions = self.drain_worker(caller, request.into_inner()).await?;
            // gRPC returns only the first of several sessions.
            Ok(Response::new(sessions.workers.into_iter().next().unwrap_or_default()))
        }

        async fn work(
            &self,
            request: Request<Streaming<v1::WorkerMessage>>,
        ) -> Result<Response<DownStream>, Status> {
            self.serve_stream(request).await
        }
    }
}

impl Services {
    /// Opens the session of a worker, and serves its stream in separate tasks.
    async fn serve_stream(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<DownStream>, Status> {
        let room = request.extensions().get::<StreamRoom>().cloned().unwrap_or_default();
        room.keep();
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(self.limits.header_timeout, incoming.message()).await;
        let first = first.map_err(|_| {
            Failure::new(Reason::RequestTimeout, "the first message, hello, did not arrive in time")
        })?;
        let first = first.map_err(|status| unreadable(&status).map_or(status, Status::from))?;
        let Some(v1::WorkerMessage { message: Some(Up::Hello(hello)) }) = first else {
            return Err(
                Failure::field("message", "must be hello, because it is the first one").into()
            );
        };
        let wanted = validate::hello(&hello, &self.limits)?;
        drop((hello, room.take()));
        let session = self.engine.open_session(wanted).await.map_err(Failure::from)?;
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        let welcome = self.welcome(&session);
        // The channel is still empty, so this does not block.
        let _ = sender.try_send(Ok(welcome));
        let (id, connection, ttl) = (session.session, session.connection, session.ttl);
        let tracer = self.tracer.clone();
        let down = Outgoing { sender: sender.clone(), patience: ttl, tracer };
        let stop = self.stop.clone();
        let mut writing = tokio::spawn(async move { write(session, &down, stop).await });
        let mut reader = Reader {
            engine: self.engine.clone(),
            limits: self.limits.clone(),
            session: id,
            connection,
            answers: Answers::new(sender.clone(), ttl),
            sender,
            in_flight: FuturesOrdered::new(),
            reports_in_flight: 0,
            bytes_in_flight: 0,
            room,
            ttl,
        };
        let engine = self.engine.clone();
        tokio::spawn(async move {
            let end = tokio::select! {
                biased;
                end = reader.run(&mut incoming) => end,
                // The session has ended, or its worker does not read.
                _ = &mut writing => StreamEnd::Gone,
            };
            writing.abort();
            // The session may already have ended.
            let _ = match end {
                // The stream continues until then.
                StreamEnd::Goodbye => engine.close_session(id, Some(connection)).await,
                StreamEnd::Gone => engine.detach_session(id, connection).await,
            };
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    fn welcome(&self, session: &SessionStream) -> v1::ServerMessage {
        down(Down::Welcome(v1::Welcome {
            session: session.session.to_string(),
            ttl: Some(session.ttl.into()),
            node: self.engine.info().node,
            revoked: session.revoked.iter().map(wire::lease).collect(),
            result_bytes_max: self.limits.result_bytes as u64,
            output_tail_bytes_max: self.limits.output_tail_bytes as u64,
            acknowledges_heartbeats: true,
        }))
    }
}

fn down(message: Down) -> v1::ServerMessage {
    v1::ServerMessage { message: Some(message) }
}

/// Writes messages of the session until it ends, the worker is gone or does not read, or the server stops.
async fn write(mut session: SessionStream, outgoing: &Outgoing, stop: CancellationToken) {
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => {
                outgoing.send(Err(Status::unavailable("the server is stopping"))).await;
                return;
            }
            event = session.events.recv() => event,
        };
        let sent = match event {
            None => {
                let gone = Status::unavailable(
                    "the session has another stream, or the leader has changed",
                );
                outgoing.send(Err(gone)).await;
                return;
            }
            Some(SessionEvent::Ended) => {
                outgoing.send(Err(Status::not_found("the session has ended"))).await;
                return;
            }
            Some(SessionEvent::Dispatches(mut tasks)) => {
                // Adds waiting messages, up to the size of one message. Messages that leave the channel no
                // longer count against the limit of the node.
                let mut rest = None;
                let mut bytes = bytes_of(&tasks);
                while tasks.len() < DISPATCHES_A_MESSAGE
                    && bytes < DISPATCHED_BYTES_A_MESSAGE
                    && rest.is_none()
                {
                    match session.events.try_recv() {
                        Ok(SessionEvent::Dispatches(more)) => {
                            bytes += bytes_of(&more);
                            tasks.extend(more);
                        }
                        Ok(event) => rest = Some(event),
                        Err(_) => break,
                    }
                }
                let sent = write_tasks(tasks, outgoing).await;
                match rest {
                    Some(event) if sent => write_event(event, outgoing).await,
                    _ => sent,
                }
            }
            Some(event) => write_event(event, outgoing).await,
        };
        if !sent {
            return;
        }
    }
}

fn bytes_of(tasks: &[rota_engine::Dispatched]) -> usize {
    tasks.iter().map(|task| task.spec.definition.payload.len()).sum()
}

async fn write_tasks(tasks: Vec<rota_engine::Dispatched>, outgoing: &Outgoing) -> bool {
    let mut message = Vec::with_capacity(tasks.len().min(DISPATCHES_A_MESSAGE));
    let mut bytes = 0;
    for task in tasks {
        trace::waited(&outgoing.tracer, &task);
        let task = definition::dispatch(task);
        bytes += task.encoded_len();
        message.push(task);
        if message.len() >= DISPATCHES_A_MESSAGE || bytes >= DISPATCHED_BYTES_A_MESSAGE {
            let tasks = std::mem::take(&mut message);
            bytes = 0;
            if !outgoing.send(Ok(down(Down::Dispatches(v1::Dispatches { tasks })))).await {
                return false;
            }
        }
    }
    if message.is_empty() {
        return true;
    }
    outgoing.send(Ok(down(Down::Dispatches(v1::Dispatches { tasks: message })))).await
}

async fn write_event(event: SessionEvent, outgoing: &Outgoing) -> bool {
    let message = match event {
        SessionEvent::Dispatches(tasks) => return write_tasks(tasks, outgoing).await,
        SessionEvent::Stop { task, token, reason } => Down::Stop(v1::Stop {
            task_id: task.to_string(),
            lease_token: token.0,
            reason: wire::stop_reason(reason).into(),
            shown_id: String::new(),
        }),
        SessionEvent::WatchOutput { lease, on } => Down::WatchOutput(v1::WatchOutput {
            task_id: lease.task.to_string(),
            lease_token: lease.token.0,
            on,
        }),
        SessionEvent::Drain => Down::Drain(v1::Drain {}),
        SessionEvent::Ended => {
            outgoing.send(Err(Status::not_found("the session has ended"))).await;
            return false;
        }
    };
    outgoing.send(Ok(down(message))).await
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    /// The worker said goodbye, which ends its session.
    Goodbye,
    /// The worker may reconnect.
    Gone,
}

/// Reads messages of a worker.
struct Reader {
    engine: Engine,
    limits: Arc<Limits>,
    session: SessionId,
    connection: u64,
    sender: mpsc::Sender<Answer>,
    /// Answers that wait for room in the channel.
    answers: Answers,
    /// Messages in flight. They reach the engine and are answered in order.
    in_flight: FuturesOrdered<Answering>,
    reports_in_flight: usize,
    bytes_in_flight: usize,
    /// Memory for request bodies that the messages hold.
    room: StreamRoom,
    ttl: Duration,
}

/// The outcome of a message.
enum Heard {
    /// The answer to reports, with their bytes.
    Reports(usize, Answer),
    /// No answer.
    Noted,
    /// The session refused it, which ends the stream.
    Refused(Failure),
}

/// A message in flight.
type Answering = Pin<Box<dyn Future<Output = Heard> + Send>>;

impl Reader {
    /// Runs until the worker is gone or does not read, or sends an invalid message.
    async fn run(&mut self, incoming: &mut Streaming<v1::WorkerMessage>) -> StreamEnd {
        let mut vouch = tokio::time::interval((self.ttl / 8).max(Duration::from_millis(1)));
        vouch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let may_read = self.may_read();
            tokio::select! {
                biased;
                () = self.sender.closed() => return StreamEnd::Gone,
                // Answers first: they free memory for the next messages.
                sent = self.answers.send_next(), if !self.answers.is_empty() => {
                    if sent.is_err() {
                        return StreamEnd::Gone;
                    }
                }
                Some(heard) = self.in_flight.next() => {
                    if let Err(failure) = self.answer(heard) {
                        return self.end_with(failure).await;
                    }
                }
                message = incoming.next(), if may_read => match message {
                    Some(Ok(v1::WorkerMessage { message })) => {
                        if let Some(end) = self.hear(message).await {
                            return end;
                        }
                    }
                    Some(Err(status)) => {
                        return match unreadable(&status) {
                            Some(failure) => self.end_with(failure).await,
                            None => StreamEnd::Gone,
                        };
                    }
                    None => {
                        self.finish().await;
                        return StreamEnd::Gone;
                    }
                },
                _ = vouch.tick() => {
                    // The server reads nothing from the worker now, or its heartbeats wait behind a large message
                    // that is arriving. Neither is its fault.
                    if self.room.has_received_part() || !may_read || self.room.is_throttled() {
                        self.beat();
                    }
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        self.reports_in_flight < REPORTS_IN_FLIGHT
            && self.bytes_in_flight < REPORT_BYTES_IN_FLIGHT
            && self.in_flight.len() < IN_FLIGHT
            && self.answers.len() < REPORTS_IN_FLIGHT
    }

    /// Takes the outcome of a message. Fails if it ends the stream.
    fn answer(&mut self, heard: Heard) -> Result<(), Failure> {
        match heard {
            Heard::Noted => Ok(()),
            Heard::Reports(bytes, answer) => {
                self.reports_in_flight -= 1;
                self.bytes_in_flight -= bytes;
                self.answers.push(answer);
                Ok(())
            }
            Heard::Refused(failure) => Err(failure),
        }
    }

    /// Tells the worker why its stream ends. The rest of its messages is not read, so this must not take long.
    async fn end_with(&mut self, failure: Failure) -> StreamEnd {
        // If the worker is gone, nobody needs it.
        let _ = self.answers.end_with(failure.into()).await;
        StreamEnd::Gone
    }

    /// Answers all reports in flight, because no more messages come.
    async fn finish(&mut self) {
        while let Some(heard) = self.in_flight.next().await {
            if let Err(failure) = self.answer(heard) {
                self.answers.push(Err(failure.into()));
                break;
            }
        }
        let _ = self.answers.flush().await;
    }

    /// Processes and acknowledges a heartbeat, without waiting for the engine. The answer of the engine can
    /// depend on a commit, and a slow commit must delay neither the next heartbeat nor the acknowledgement.
    fn beat(&mut self) {
        self.answers.acknowledge();
        if self.in_flight.len() < IN_FLIGHT {
            let (engine, session) = (self.engine.clone(), self.session);
            let connection = Some(self.connection);
            let beat = async move { noted(engine.heartbeat(session, connection).await) };
            self.in_flight.push_back(Box::pin(beat));
        }
    }

    /// Processes one message. Returns how the stream ended, if it did.
    async fn hear(&mut self, message: Option<Up>) -> Option<StreamEnd> {
        let room = self.room.take();
        match message {
            Some(Up::Heartbeat(_)) => self.beat(),
            Some(Up::Credit(credit)) => {
                let (engine, session) = (self.engine.clone(), self.session);
                let (connection, slots) = (self.connection, credit.slots);
                let set = async move { noted(engine.set_credit(session, connection, slots).await) };
                self.in_flight.push_back(Box::pin(set));
            }
            Some(Up::Reports(reports)) => {
                let (engine, limits) = (self.engine.clone(), self.limits.clone());
                let bytes = reports.encoded_len();
                self.reports_in_flight += 1;
                self.bytes_in_flight += bytes;
                self.in_flight.push_back(Box::pin(async move {
                    let answer = pull::report(&engine, reports, &limits).await;
                    let answer = answer.map(|results| down(Down::ReportResults(results)));
                    drop(room);
                    Heard::Reports(bytes, answer.map_err(Status::from))
                }));
            }
            Some(Up::Output(output)) => {
                // Nobody answers for output, so one of no lease is left out.
                if let Some(lease) = validate::lease(&output.task_id, output.lease_token) {
                    self.engine.output(self.session, lease, output.offset, &output.output);
                }
            }
            Some(Up::Goodbye(_)) => {
                // Answers the last reports before the session ends.
                self.finish().await;
                return Some(StreamEnd::Goodbye);
            }
            None => {
                // The stream of a newer worker must stay open.
                debug!(session = %self.session, "ignored a message of an unknown kind");
            }
            Some(Up::Hello(_)) => {
                let wrong = Failure::field("message", "is not allowed at this point of a session");
                return Some(self.end_with(wrong).await);
            }
        }
        None
    }
}

fn noted(result: Result<(), EngineError>) -> Heard {
    match result {
        Ok(()) => Heard::Noted,
        Err(error) => Heard::Refused(error.into()),
    }
}
