//! A worker's stream: tasks flow down as far as its credit allows, reports flow up.
//!
//! Two tasks serve a stream. One reads what the worker says and asks the engine; several messages of
//! reports may be on their way at once. The other writes what the session's channel and the answers
//! give it. When the stream breaks the session lives on until its TTL is over.

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

/// Messages that wait to be written: each may have as many bytes as the largest payload and some.
const OUTGOING: usize = 4;
/// Messages of reports that may be on their way to the engine at once.
const REPORTS_IN_FLIGHT: usize = 8;
/// Messages of all sorts that may be.
const IN_FLIGHT: usize = 64;
/// Bytes of reports; beyond, further messages are not read.
const REPORT_BYTES_IN_FLIGHT: usize = 32 << 20;
/// Tasks put into one message.
const DISPATCHES_A_MESSAGE: usize = 512;
/// Bytes put into one message beyond its last task: it must stay below what clients accept, which is
/// 4 MiB where they do not say more.
const DISPATCHED_BYTES_A_MESSAGE: usize = 1 << 20;

type DownStream = Pin<Box<dyn Stream<Item = Result<v1::ServerMessage, Status>> + Send>>;

/// The way to the worker.
struct Outgoing {
    sender: mpsc::Sender<Answer>,
    /// A worker that reads nothing for so long is as good as gone, though it may say that it lives:
    /// what is to be said to it would pile up. As long as one may be silent.
    patience: Duration,
    /// Writes how long tasks waited.
    tracer: Tracer,
}

impl Outgoing {
    /// Says something. False: nobody listens.
    async fn send(&self, answer: Answer) -> bool {
        self.sender.send_timeout(answer, self.patience).await.is_ok()
    }

    /// Tells the worker that it is heard. Where other messages wait to be sent, those tell it.
    fn acknowledge(&self) {
        let _ = self.sender.try_send(Ok(down(Down::HeartbeatAck(v1::HeartbeatAck {}))));
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
            // Of several sessions, the first.
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
    /// Opens the session of a worker, and serves its stream in tasks of their own.
    async fn serve_stream(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<DownStream>, Status> {
        let room = request.extensions().get::<StreamRoom>().cloned().unwrap_or_default();
        room.keep();
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(self.limits.header_timeout, incoming.message()).await;
        let first =
            first.map_err(|_| Failure::new(Reason::RequestTimeout, "hello did not come"))?;
        let first = first.map_err(|status| unreadable(&status).map_or(status, Status::from))?;
        let Some(v1::WorkerMessage { message: Some(Up::Hello(hello)) }) = first else {
            return Err(Failure::field("message", "the first one must be hello").into());
        };
        let wanted = validate::hello(&hello, &self.limits)?;
        drop((hello, room.take()));
        let session = self.engine.open_session(wanted).await.map_err(Failure::from)?;
        let (sender, outgoing) = mpsc::channel(OUTGOING);
        let welcome = self.welcome(&session);
        // The channel is empty: there is room.
        let _ = sender.try_send(Ok(welcome));
        let (id, connection, ttl) = (session.session, session.connection, session.ttl);
        let tracer = self.tracer.clone();
        let down = Outgoing { sender: sender.clone(), patience: ttl, tracer: tracer.clone() };
        let stop = self.stop.clone();
        let mut writing = tokio::spawn(async move { write(session, &down, stop).await });
        let mut reader = Reader {
            engine: self.engine.clone(),
            limits: self.limits.clone(),
            session: id,
            connection,
            outgoing: Outgoing { sender, patience: ttl, tracer },
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
                // The session is over, or its worker does not read.
                _ = &mut writing => StreamEnd::Gone,
            };
            writing.abort();
            // The session may have ended by itself.
            let _ = match end {
                // The stream goes on until then.
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

/// Writes what the session's channel gives, until it ends, the worker goes or does not read, or the
/// server stops.
async fn write(mut session: SessionStream, outgoing: &Outgoing, stop: CancellationToken) {
    loop {
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => {
                outgoing.send(Err(Status::unavailable("the server stops"))).await;
                return;
            }
            event = session.events.recv() => event,
        };
        let sent = match event {
            None => {
                let gone =
                    Status::unavailable("the session is served elsewhere or leadership changed");
                outgoing.send(Err(gone)).await;
                return;
            }
            Some(SessionEvent::Ended) => {
                outgoing.send(Err(Status::not_found("the session has ended"))).await;
                return;
            }
            Some(SessionEvent::Dispatches(mut tasks)) => {
                // What came meanwhile goes along, up to a message: what is taken out of the channel no longer
                // counts in the bound of the node.
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
        SessionEvent::Drain => Down::Drain(v1::Drain {}),
        SessionEvent::Ended => {
            outgoing.send(Err(Status::not_found("the session has ended"))).await;
            return false;
        }
    };
    outgoing.send(Ok(down(message))).await
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamEnd {
    /// The worker said so, and its session ends with it.
    Goodbye,
    /// The worker may come back.
    Gone,
}

/// Reads what a worker says.
struct Reader {
    engine: Engine,
    limits: Arc<Limits>,
    session: SessionId,
    connection: u64,
    outgoing: Outgoing,
    /// Messages on their way. They reach the engine, and are answered, in order.
    in_flight: FuturesOrdered<Answering>,
    reports_in_flight: usize,
    bytes_in_flight: usize,
    /// What the messages hold of the memory for what clients send.
    room: StreamRoom,
    ttl: Duration,
}

type Answer = Result<v1::ServerMessage, Status>;

/// What became of a message.
enum Heard {
    /// The answer to reports of so many bytes.
    Reports(usize, Answer),
    /// There is no answer to this.
    Noted,
    /// The session does not take it: the stream ends.
    Refused(Failure),
}

/// A message on its way.
type Answering = Pin<Box<dyn Future<Output = Heard> + Send>>;

impl Reader {
    /// Until the worker goes, nobody reads, or the worker said what it must not.
    async fn run(&mut self, incoming: &mut Streaming<v1::WorkerMessage>) -> StreamEnd {
        let mut vouch = tokio::time::interval((self.ttl / 8).max(Duration::from_millis(1)));
        vouch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let may_read = self.may_read();
            tokio::select! {
                biased;
                () = self.outgoing.sender.closed() => return StreamEnd::Gone,
                // Answers first: they make room for what is read next.
                Some(heard) = self.in_flight.next() => {
                    if let Some(end) = self.answer(heard).await {
                        return end;
                    }
                }
                message = incoming.next(), if may_read => match message {
                    Some(Ok(v1::WorkerMessage { message })) => {
                        if let Some(end) = self.hear(message).await {
                            return end;
                        }
                    }
                    Some(Err(status)) => {
                        if let Some(failure) = unreadable(&status) {
                            self.outgoing.send(Err(failure.into())).await;
                        }
                        return StreamEnd::Gone;
                    }
                    None => {
                        self.finish().await;
                        return StreamEnd::Gone;
                    }
                },
                // Nothing is read from the worker, so it cannot be heard: that is not its fault.
                _ = vouch.tick() => {
                    if !may_read || self.room.is_throttled() {
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
    }

    /// Says what became of a message; how the stream ends, if it does.
    async fn answer(&mut self, heard: Heard) -> Option<StreamEnd> {
        match heard {
            Heard::Noted => None,
            Heard::Reports(bytes, answer) => {
                self.reports_in_flight -= 1;
                self.bytes_in_flight -= bytes;
                (!self.outgoing.send(answer).await).then_some(StreamEnd::Gone)
            }
            Heard::Refused(failure) => {
                self.outgoing.send(Err(failure.into())).await;
                Some(StreamEnd::Gone)
            }
        }
    }

    /// Answers the reports that are on their way.
    async fn finish(&mut self) {
        while let Some(heard) = self.in_flight.next().await {
            if self.answer(heard).await.is_some() {
                return;
            }
        }
    }

    /// The worker lives, and is told that it was heard. What the engine answers is not waited for: it may
    /// come with a commit, and a slow commit must not keep the next sign of life from being heard, nor the
    /// worker from knowing that its connection works.
    fn beat(&mut self) {
        self.outgoing.acknowledge();
        if self.in_flight.len() < IN_FLIGHT {
            let (engine, session) = (self.engine.clone(), self.session);
            let connection = Some(self.connection);
            let beat = async move { noted(engine.heartbeat(session, connection).await) };
            self.in_flight.push_back(Box::pin(beat));
        }
    }

    /// Takes in one message; how the stream ends, if it does.
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
            Some(Up::Goodbye(_)) => {
                // The answers to its last reports come before the end of its session.
                self.finish().await;
                return Some(StreamEnd::Goodbye);
            }
            None => {
                // A newer worker must not lose its stream for it.
                debug!(session = %self.session, "ignored a message of a kind that this version does not know");
            }
            Some(Up::Hello(_)) => {
                let wrong = Failure::field("message", "is not one that a session expects");
                self.outgoing.send(Err(wrong.into())).await;
                return Some(StreamEnd::Gone);
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
