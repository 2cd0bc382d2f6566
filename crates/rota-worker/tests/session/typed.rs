//! Jobs: what is submitted, handled and returned has the types that the job names.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use rota_client::{
    Client, ClientError, FailureReason, Reason, ResultError, Retry, TaskStatus, task,
};
use rota_worker::{Builder, Done, HandlerError, Job, Next, TaskContext, Worker};
use serde::{Deserialize, Serialize};

use crate::{in_time, node::Node};

/// Divides, at an attempt of its choice.
#[derive(Debug, Serialize, Deserialize)]
struct Divide {
    number: u32,
    by: u32,
    at_attempt: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Quotient {
    whole: u32,
    rest: u32,
}

impl Job for Divide {
    const KIND: &'static str = "divide";
    type Output = Quotient;
}

/// The same kind, by somebody who thinks that its result is a text.
#[derive(Serialize, Deserialize)]
struct Misread(Divide);

impl Job for Misread {
    const KIND: &'static str = "divide";
    type Output = String;
}

/// A job without a result.
#[derive(Serialize, Deserialize)]
struct Ping;

impl Job for Ping {
    const KIND: &'static str = "ping";
    type Output = ();
}

async fn divide(job: Divide, context: TaskContext) -> Result<Quotient, HandlerError> {
    if job.by == 0 {
        return Err(HandlerError::permanent("division by zero"));
    }
    if context.attempt() < job.at_attempt {
        return Err(HandlerError::retry_at("not yet", SystemTime::now()));
    }
    Ok(Quotient { whole: job.number / job.by, rest: job.number % job.by })
}

fn worker(client: &Client) -> Builder {
    Worker::builder(client.clone()).job(divide).job(|_: Ping, _: TaskContext| async { Ok(()) })
}

const fn job(number: u32, by: u32) -> Divide {
    Divide { number, by, at_attempt: 1 }
}

#[tokio::test]
async fn a_job_comes_back_as_a_value() {
    let node = Node::start().await;
    let client = node.client();
    let worker = worker(&client).build().unwrap();
    let drain = worker.drain();
    let running = tokio::spawn(worker.run());

    let sent = client
        .submit(&Divide { at_attempt: 3, ..job(17, 5) })
        .label("who", "test")
        .priority(9)
        .retry(Retry::new().max_attempts(3).max_lost(0))
        .idempotency_key("once")
        .await
        .unwrap();
    assert!(sent.created());
    assert_eq!(in_time(sent.result()).await.unwrap(), Quotient { whole: 3, rest: 2 });
    let task = sent.task().await.unwrap();
    assert_eq!((task.attempt, task.priority, task.kind.as_str()), (3, 9, Divide::KIND));
    assert_eq!(task.retry.unwrap().max_lost, Some(0));
    assert_eq!(task.labels["who"], "test");

    // The handle of another process.
    let found = client.handle::<Divide>(sent.id());
    assert_eq!(in_time(found.result()).await.unwrap().whole, 3);
    let unit = client.submit(&Ping).await.unwrap();
    in_time(unit.result()).await.unwrap();

    drain.start();
    in_time(running).await.unwrap().unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_job_without_a_result_says_why() {
    let node = Node::start().await;
    let client = node.client();
    let worker = worker(&client).build().unwrap();
    let running = tokio::spawn(worker.run());

    let failed = client.submit(&job(1, 0)).await.unwrap();
    match in_time(failed.result()).await.unwrap_err() {
        ResultError::Failed { id, reason, message, attempt } => {
            assert_eq!((id.as_str(), attempt), (failed.id(), 1));
            assert_eq!((reason, message.as_str()), (FailureReason::Permanent, "division by zero"));
        }
        other => panic!("{other:?}"),
    }
    let error = in_time(failed.result()).await.unwrap_err().to_string();
    assert!(error.ends_with("failed at attempt 1 (permanent): division by zero"), "{error}");
    let misread = client.submit(&Misread(job(7, 2))).await.unwrap();
    let error = in_time(misread.result()).await.unwrap_err();
    assert!(matches!(error, ResultError::Mistyped { .. }), "{error:?}");
    assert!(error.to_string().contains("String"), "{error}");

    let later = client.submit(&Ping).delay(Duration::from_secs(3600)).await.unwrap();
    let error = later.result_within(Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, ResultError::Timeout { status: TaskStatus::Scheduled, .. }), "{error}");
    assert!(error.to_string().ends_with("it is still scheduled"), "{error}");
    later.cancel().await.unwrap();
    let error = in_time(later.result()).await.unwrap_err();
    assert!(matches!(error, ResultError::Cancelled { .. }), "{error:?}");

    let request =
        rota_client::v1::PauseQueueRequest { queue: "paused".to_owned(), ..Default::default() };
    client.pause_queue(request).await.unwrap();
    let soon = SystemTime::now() + Duration::from_secs(2);
    let expired = client.submit(&Ping).queue("paused").expires_at(soon).await.unwrap();
    let error = in_time(expired.result()).await.unwrap_err();
    assert!(matches!(error, ResultError::Expired { .. }), "{error:?}");

    let error = client.handle::<Ping>("no-such-task").result().await.unwrap_err();
    let ResultError::Call(error) = error else { panic!("{error:?}") };
    assert_eq!(error.reason(), Some(Reason::UnknownTask));

    running.abort();
    let _ = running.await;
    node.stop().await;
}

#[tokio::test]
async fn jobs_of_a_batch_have_a_result_each() {
    let node = Node::start().await;
    let client = node.client();
    let worker = worker(&client).build().unwrap();
    let running = tokio::spawn(worker.run());

    let jobs: Vec<_> = (0..1500).map(|number| job(number, 7)).collect();
    let batch = || {
        client.submit_all(&jobs).label("who", "batch").each(|job, task| match job.number {
            3 => task.priority(99),
            number => task.idempotency_key(format!("divide/{number}")),
        })
    };
    let sent = batch().await;
    assert_eq!(sent.len(), jobs.len());
    for (job, sent) in jobs.iter().zip(&sent) {
        match (job.number, sent) {
            (3, Err(ClientError::Refused { violations, .. })) => {
                assert!(violations[0].field.ends_with("priority"), "{violations:?}");
            }
            (3, other) => panic!("{other:?}"),
            (_, sent) => assert!(sent.as_ref().unwrap().created()),
        }
    }
    let last = in_time(sent[1499].as_ref().unwrap().result()).await.unwrap();
    assert_eq!(last, Quotient { whole: 214, rest: 1 });
    let again = batch().await;
    assert!(!again[0].as_ref().unwrap().created());
    assert_eq!(again[0].as_ref().unwrap().id(), sent[0].as_ref().unwrap().id());

    running.abort();
    let _ = running.await;
    node.stop().await;
}

#[tokio::test]
async fn a_wrapper_runs_around_every_handler() {
    let node = Node::start().await;
    let client = node.client();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let attempts = Arc::new(AtomicU32::new(0));
    let (log, counted) = (seen.clone(), attempts.clone());
    let worker = Worker::builder(client.clone())
        .wrap(move |context: TaskContext, next: Next| {
            let log = log.clone();
            async move {
                let payload = String::from_utf8_lossy(next.payload()).into_owned();
                let outcome = next.run(context.clone()).await;
                let word = outcome.as_ref().map_or("failed", |_| "done");
                log.lock().unwrap().push(format!("{} {payload} {word}", context.kind()));
                outcome
            }
        })
        // Further in: the outer one sees what this makes of an outcome.
        .wrap(move |context, next: Next| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if context.label("skip").is_some() {
                    return Ok(Done::default());
                }
                next.run(context).await.map_err(|error| HandlerError::permanent(error.message()))
            }
        })
        .handler("fails", |_: TaskContext, (): ()| async {
            Err::<(), _>(HandlerError::new("would be retried"))
        })
        .job(divide)
        .build()
        .unwrap();
    let running = tokio::spawn(worker.run());

    let sent = client.submit(&job(9, 2)).await.unwrap();
    in_time(sent.result()).await.unwrap();
    let failed = node.create(task("fails")).await;
    assert_eq!(node.ended(&failed).await.attempt, 1, "the inner wrapper made it permanent");
    let skipped = node.create(task("fails").label("skip", "yes")).await;
    assert_eq!(node.ended(&skipped).await.status(), TaskStatus::Completed);
    assert_eq!(attempts.load(Ordering::SeqCst), 3);
    let payload = r#"{"number":9,"by":2,"at_attempt":1}"#;
    let expected = [format!("divide {payload} done"), "fails  failed".into(), "fails  done".into()];
    assert_eq!(*seen.lock().unwrap(), expected);

    running.abort();
    let _ = running.await;
    node.stop().await;
}
