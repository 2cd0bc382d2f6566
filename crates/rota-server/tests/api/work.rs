//! A worker's stream.

use std::time::Duration;

use rota_engine::EngineOptions;
use rota_proto::v1::{
    self, report::Outcome, server_message::Message as Down, task_service_client::TaskServiceClient,
    worker_message::Message as Up, worker_service_client::WorkerServiceClient,
};
use rota_server::{Limits, ServerOptions};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::{
    grpc::told,
    harness::{Node, PATIENCE},
};

pub(crate) struct Stream {
    up: mpsc::Sender<v1::WorkerMessage>,
    down: Streaming<v1::ServerMessage>,
}

impl Stream {
    pub(crate) async fn open(channel: &Channel, first: Option<Up>) -> Result<Self, Status> {
        let (up, messages) = mpsc::channel(64);
        if let Some(first) = first {
            up.send(v1::WorkerMessage { message: Some(first) }).await.unwrap();
        }
        let mut client = WorkerServiceClient::new(channel.clone());
        let opened = client.work(ReceiverStream::new(messages));
        let down = tokio::time::timeout(PATIENCE, opened).await.expect("an answer in time")?;
        Ok(Self { up, down: down.into_inner() })
    }

    pub(crate) async fn say(&self, message: Up) {
        self.up.send(v1::WorkerMessage { message: Some(message) }).await.unwrap();
    }

    pub(crate) async fn hear(&mut self) -> Result<Down, Status> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.down.message()).await;
            let message = message.expect("a message in time")?;
            match message.expect("the stream goes on").message.unwrap() {
                // They come between others, or not at all.
                Down::HeartbeatAck(_) => {}
                message => return Ok(message),
            }
        }
    }

    pub(crate) async fn welcome(&mut self) -> v1::Welcome {
        match self.hear().await.unwrap() {
            Down::Welcome(welcome) => welcome,
            other => panic!("not a welcome: {other:?}"),
        }
    }

    pub(crate) async fn dispatched(&mut self, count: usize) -> Vec<v1::Dispatch> {
        let mut tasks = Vec::new();
        while tasks.len() < count {
            match self.hear().await.unwrap() {
                Down::Dispatches(more) => tasks.extend(more.tasks),
                other => panic!("not tasks: {other:?}"),
            }
        }
        tasks
    }

    pub(crate) async fn results(&mut self) -> v1::ReportResults {
        loop {
            match self.hear().await.unwrap() {
                Down::ReportResults(results) => return results,
                Down::Dispatches(_) => {}
                other => panic!("not results: {other:?}"),
            }
        }
    }
}

pub(crate) fn hello(slots: u32) -> v1::Hello {
    v1::Hello { name: "w".to_owned(), slots, ..v1::Hello::default() }
}

pub(crate) fn report(of: &v1::Dispatch, outcome: Outcome) -> v1::Report {
    v1::Report {
        task_id: of.task_id.clone(),
        lease_token: of.lease_token,
        outcome: Some(outcome),
        ..v1::Report::default()
    }
}

pub(crate) fn done() -> Outcome {
    Outcome::Completed(v1::Completed { result: "1".into() })
}

async fn submit(channel: &Channel, count: usize) -> Vec<String> {
    use v1::create_tasks_response::result::Result as Item;
    let task = v1::NewTask { kind: "k".to_owned(), ..v1::NewTask::default() };
    let request = v1::CreateTasksRequest { tasks: vec![task; count] };
    let made = TaskServiceClient::new(channel.clone()).create_tasks(request).await.unwrap();
    let id = |result: v1::create_tasks_response::Result| match result.result.unwrap() {
        Item::Task(created) => created.id,
        Item::Error(error) => panic!("refused: {error:?}"),
    };
    made.into_inner().results.into_iter().map(id).collect()
}

async fn status_of(channel: &Channel, id: &str) -> v1::TaskStatus {
    let request = v1::GetTaskRequest { id: id.to_owned(), wait: None };
    TaskServiceClient::new(channel.clone()).get_task(request).await.unwrap().into_inner().status()
}

/// A message of a kind that this version does not know has nothing in it that it knows.
#[tokio::test]
async fn what_a_newer_worker_says_is_ignored_or_refused_alone() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(10)))).await.unwrap();
    stream.welcome().await;
    stream.up.send(v1::WorkerMessage { message: None }).await.unwrap();
    submit(&channel, 2).await;
    let tasks = stream.dispatched(2).await;
    let unknown = v1::Report { outcome: None, ..report(&tasks[0], done()) };
    let reports = vec![unknown, report(&tasks[1], done())];
    stream.say(Up::Reports(v1::Reports { seq: 1, reports })).await;
    let results = stream.results().await;
    let refused: Vec<_> = results.refused.iter().map(|refused| refused.lease_token).collect();
    assert_eq!(refused, [tasks[0].lease_token], "{results:?}");
    assert_eq!(status_of(&channel, &tasks[1].task_id).await, v1::TaskStatus::Completed);
    stream.say(Up::Heartbeat(v1::Heartbeat {})).await;
    submit(&channel, 1).await;
    stream.dispatched(1).await;
}

#[tokio::test]
async fn tasks_flow_down_and_reports_up() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(100)))).await.unwrap();
    let welcome = stream.welcome().await;
    assert!(welcome.session.starts_with("s_") && welcome.ttl.is_some());
    let ids = submit(&channel, 250).await;
    let first = stream.dispatched(100).await;
    assert_eq!(first.len(), 100, "never more than there are slots");
    // Two messages on their way at once; the answers come in their order.
    for (seq, part) in [(1, &first[..60]), (2, &first[60..])] {
        let reports = part.iter().map(|task| report(task, done())).collect();
        stream.say(Up::Reports(v1::Reports { seq, reports })).await;
    }
    for seq in [1, 2] {
        let results = stream.results().await;
        assert_eq!((results.seq, results.refused.len()), (seq, 0));
    }
    assert_eq!(status_of(&channel, &ids[0]).await, v1::TaskStatus::Completed);
    stream.say(Up::Goodbye(v1::Goodbye {})).await;
    let end = async { while stream.down.message().await.unwrap().is_some() {} };
    tokio::time::timeout(PATIENCE, end).await.unwrap();
    assert_eq!(node.get("/v1/workers").await.json()["workers"], serde_json::json!([]));
    drop((stream, channel));
    node.stop().await;
}

#[tokio::test]
async fn refused_reports_are_named_and_the_stream_goes_on() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(10)))).await.unwrap();
    stream.welcome().await;
    submit(&channel, 1).await;
    let task = stream.dispatched(1).await.remove(0);
    let stale = v1::Report { lease_token: task.lease_token + 1, ..report(&task, done()) };
    let nobody = v1::Report { task_id: "t_0000000000zzz".to_owned(), ..report(&task, done()) };
    let no_id = v1::Report { task_id: "\u{202e}".to_owned(), ..report(&task, done()) };
    let no_outcome = v1::Report { outcome: None, ..report(&task, done()) };
    let long = Outcome::Progress(v1::Progress { message: "a".repeat(2000) });
    let reports = vec![stale, nobody, no_id, no_outcome, report(&task, long)];
    stream.say(Up::Reports(v1::Reports { seq: 7, reports })).await;
    let mut refused = stream.results().await.refused;
    refused.sort_by(|a, b| a.reason.cmp(&b.reason));
    let reasons: Vec<&str> = refused.iter().map(|refusal| refusal.reason.as_str()).collect();
    assert_eq!(reasons, ["invalid", "invalid", "stale_lease", "unknown_task", "unknown_task"]);
    let reports = vec![report(&task, done())];
    stream.say(Up::Reports(v1::Reports { seq: 8, reports: reports.clone() })).await;
    assert_eq!(stream.results().await.refused, []);
    stream.say(Up::Reports(v1::Reports { seq: 9, reports })).await;
    assert_eq!(stream.results().await.refused, [], "the same again is fine");
    drop((stream, channel));
    node.stop().await;
}

#[tokio::test]
async fn a_session_is_taken_up_again_on_another_stream() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(2)))).await.unwrap();
    let session = stream.welcome().await.session;
    submit(&channel, 2).await;
    let tasks = stream.dispatched(2).await;
    drop(stream);
    let lease = |task: &v1::Dispatch, more| v1::Lease {
        task_id: task.task_id.clone(),
        lease_token: task.lease_token + more,
    };
    let held = vec![lease(&tasks[0], 0), lease(&tasks[1], 5)];
    let back = v1::Hello { session: session.clone(), held: held.clone(), ..hello(2) };
    let mut stream = Stream::open(&channel, Some(Up::Hello(back))).await.unwrap();
    let welcome = stream.welcome().await;
    assert_eq!((welcome.session, welcome.revoked), (session, vec![held[1].clone()]));
    // What it did not say that it holds is sent again.
    assert_eq!(stream.dispatched(1).await[0].task_id, tasks[1].task_id);
    let reports = vec![report(&tasks[0], done())];
    stream.say(Up::Reports(v1::Reports { seq: 1, reports })).await;
    assert_eq!(stream.results().await.refused, []);
    drop((stream, channel));
    node.stop().await;
}

#[tokio::test]
async fn a_cancelled_task_and_a_drain_reach_the_worker() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(2)))).await.unwrap();
    stream.welcome().await;
    let ids = submit(&channel, 1).await;
    let task = stream.dispatched(1).await.remove(0);
    node.post(&format!("/v1/tasks/{}/cancel", ids[0]), "").await;
    match stream.hear().await.unwrap() {
        Down::Stop(stop) => {
            assert_eq!(
                (stop.task_id.as_str(), stop.lease_token),
                (&*task.task_id, task.lease_token)
            );
            assert_eq!(stop.reason(), v1::stop::Reason::Cancelled);
        }
        other => panic!("not a stop: {other:?}"),
    }
    let reports = vec![report(&task, Outcome::Cancelled(v1::Cancelled {}))];
    stream.say(Up::Reports(v1::Reports { seq: 1, reports })).await;
    assert_eq!(stream.results().await.refused, []);
    assert_eq!(status_of(&channel, &ids[0]).await, v1::TaskStatus::Cancelled);
    node.post("/v1/workers/w/drain", "").await;
    assert!(matches!(stream.hear().await.unwrap(), Down::Drain(_)));
    drop((stream, channel));
    node.stop().await;
}

#[tokio::test]
async fn first_words_that_are_wrong_are_refused() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let cases = [
        (Up::Heartbeat(v1::Heartbeat {}), "message"),
        (Up::Hello(v1::Hello { name: "a b".to_owned(), ..hello(1) }), "name"),
        (Up::Hello(hello(0)), "slots"),
        (Up::Hello(hello(1_000_000)), "slots"),
        (Up::Hello(v1::Hello { session: "me".to_owned(), ..hello(1) }), "session"),
        (Up::Hello(v1::Hello { queues: vec!["ü".to_owned()], ..hello(1) }), "queues[0]"),
    ];
    for (first, field) in cases {
        let status = Stream::open(&channel, Some(first)).await.err().expect("refused");
        let expected = (Code::InvalidArgument, "invalid".to_owned(), vec![field.to_owned()]);
        assert_eq!(told(&status), expected);
    }
    drop(channel);
    node.stop().await;
}

#[tokio::test]
async fn words_out_of_place_end_the_stream_alone() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(1)))).await.unwrap();
    stream.welcome().await;
    stream.say(Up::Hello(hello(1))).await;
    assert_eq!(told(&stream.hear().await.unwrap_err()).2, ["message"]);
    assert_eq!(
        node.get("/v1/workers").await.json()["workers"][0]["name"],
        "w",
        "the session lives"
    );
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(1)))).await.unwrap();
    stream.welcome().await;
    let task_id = "t_0000000000zzz".to_owned();
    let reports = vec![v1::Report { task_id, ..v1::Report::default() }; 10_001];
    stream.say(Up::Reports(v1::Reports { seq: 1, reports })).await;
    assert_eq!(told(&stream.hear().await.unwrap_err()).2, ["reports"]);
    drop((stream, channel));
    node.stop().await;
}

#[tokio::test]
async fn a_stream_that_says_nothing_is_ended() {
    let limits = Limits { header_timeout: Duration::from_millis(200), ..Limits::default() };
    let node = Node::start_limited(limits).await;
    let channel = node.channel().await;
    let status = Stream::open(&channel, None).await.err().expect("no answer without hello");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    drop(channel);
    node.stop().await;
}

#[tokio::test]
async fn a_stop_of_the_server_ends_streams_and_tells_why() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(1)))).await.unwrap();
    stream.welcome().await;
    let stopping = tokio::spawn(node.stop());
    assert_eq!(stream.hear().await.unwrap_err().code(), Code::Unavailable);
    // The worker's half is still open: that must not hold the server.
    tokio::time::timeout(Duration::from_secs(8), stopping).await.expect("in time").unwrap();
    drop((stream, channel));
}

#[tokio::test]
async fn messages_stay_below_what_clients_accept_labels_included() {
    let node = Node::start().await;
    let channel = node.channel().await;
    // A client that reads messages of 4 MiB, as they do by default.
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(1000)))).await.unwrap();
    stream.welcome().await;
    node.post("/v1/queues/default/pause", "").await;
    let labels = (0..32).map(|at| (format!("label-{at}"), "v".repeat(1000))).collect();
    let task = v1::NewTask { kind: "k".to_owned(), labels, ..v1::NewTask::default() };
    let mut client = TaskServiceClient::new(channel.clone());
    for _ in 0..4 {
        let request = v1::CreateTasksRequest { tasks: vec![task.clone(); 150] };
        client.create_tasks(request).await.unwrap();
    }
    node.post("/v1/queues/default/resume", "").await;
    assert_eq!(stream.dispatched(600).await.len(), 600);
    drop((stream, client, channel));
    node.stop().await;
}

#[tokio::test]
async fn a_worker_that_says_it_lives_but_reads_nothing_loses_its_session() {
    let ttl = Duration::from_secs(5);
    let options = EngineOptions { session_ttl: ttl, ..EngineOptions::default() };
    let node = Node::start_with(options, ServerOptions::default()).await;
    let channel = node.channel().await;
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(100)))).await.unwrap();
    stream.welcome().await;
    // It says that it lives, far more often than it must, and from here on that is all it does.
    let up = stream.up.clone();
    let beating = tokio::spawn(async move {
        let mut pulse = tokio::time::interval(ttl / 20);
        let beat = v1::WorkerMessage { message: Some(Up::Heartbeat(v1::Heartbeat {})) };
        while up.send(beat.clone()).await.is_ok() {
            pulse.tick().await;
        }
    });
    let payload = vec![b'x'; 1 << 20].into();
    let task = v1::NewTask { kind: "k".to_owned(), payload, ..v1::NewTask::default() };
    let mut client = TaskServiceClient::new(node.channel().await);
    for _ in 0..10 {
        let request = v1::CreateTasksRequest { tasks: vec![task.clone(); 8] };
        client.create_tasks(request).await.unwrap();
    }
    let workers = || async { node.get("/v1/workers").await.json()["workers"].clone() };
    assert_eq!(workers().await[0]["slots_used"], 80);
    let gone = async { while workers().await != serde_json::json!([]) {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("its session ends");
    beating.abort();
    drop((stream, client, channel));
    node.stop().await;
}

#[tokio::test]
async fn reports_are_answered_though_the_worker_says_no_more() {
    let node = Node::start().await;
    let channel = node.channel().await;
    let mut stream = Stream::open(&channel, Some(Up::Hello(hello(10)))).await.unwrap();
    stream.welcome().await;
    let ids = submit(&channel, 10).await;
    let tasks = stream.dispatched(10).await;
    for (seq, task) in (1..).zip(&tasks) {
        let reports = vec![report(task, done())];
        stream.say(Up::Reports(v1::Reports { seq, reports })).await;
    }
    let Stream { up, mut down } = stream;
    drop(up);
    let mut answered = 0;
    while let Some(message) = tokio::time::timeout(PATIENCE, down.message()).await.unwrap().unwrap()
    {
        answered += u32::from(matches!(message.message, Some(Down::ReportResults(_))));
    }
    assert_eq!(answered, 10);
    assert_eq!(status_of(&channel, &ids[9]).await, v1::TaskStatus::Completed);
    drop((down, channel));
    node.stop().await;
}

#[tokio::test]
async fn a_goodbye_ends_the_session_and_then_the_stream_without_an_error() {
    let node = Node::start().await;
    let channel = node.channel().await;
    for _ in 0..20 {
        let mut stream = Stream::open(&channel, Some(Up::Hello(hello(1)))).await.unwrap();
        stream.welcome().await;
        stream.say(Up::Goodbye(v1::Goodbye {})).await;
        let end = tokio::time::timeout(PATIENCE, stream.down.message()).await.unwrap();
        assert!(matches!(end, Ok(None)), "{end:?}");
        assert_eq!(node.get("/v1/workers").await.json()["workers"], serde_json::json!([]));
    }
    drop(channel);
    node.stop().await;
}
