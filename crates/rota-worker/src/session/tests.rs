//! What a session does with what it hears, without a server.

use rota_client::Client;

use super::*;
use crate::handler::Done;

/// A session with a handler for the kind `k`, which never ends.
fn session() -> Session {
    let client = Client::connect(["http://127.0.0.1:1"]).expect("an address");
    let worker = Worker::builder(client).raw_handler("k", |context: TaskContext, _| async move {
        context.stopped().await;
        Ok(Done::default())
    });
    Session::new(worker.build().expect("a worker"))
}

fn task(task_id: &str, lease_token: u64) -> v1::Dispatch {
    let (task_id, kind) = (task_id.to_owned(), "k".to_owned());
    v1::Dispatch { task_id, lease_token, kind, ..v1::Dispatch::default() }
}

fn dispatch(session: &mut Session, task: v1::Dispatch) {
    session.hear(Some(Down::Dispatches(v1::Dispatches { tasks: vec![task] })));
}

fn end(session: &mut Session, task_id: &str, lease_token: u64) {
    let outcome = Some(Outcome::Completed(v1::Completed::default()));
    let task_id = task_id.to_owned();
    let report = v1::Report { task_id, lease_token, outcome, ..v1::Report::default() };
    session.note(Event::Ended(report));
}

#[tokio::test]
async fn a_lease_that_ended_here_is_not_begun_again_whenever_it_is_sent_again() {
    let mut session = session();
    dispatch(&mut session, task("t", 7));
    assert!(session.running.contains_key("t"));
    end(&mut session, "t", 7);
    dispatch(&mut session, task("t", 7));
    assert!(session.running.is_empty(), "the same lease");
    dispatch(&mut session, task("t", 9));
    assert!(session.running.contains_key("t"), "another attempt");
}

/// A store that lost the report of a lease has it still. Ignored, it would keep its slot and its task for ever.
#[tokio::test]
async fn a_lease_that_is_sent_again_after_its_report_was_answered_is_given_back() {
    let mut session = session();
    dispatch(&mut session, task("t", 7));
    end(&mut session, "t", 7);
    dispatch(&mut session, task("t", 7));
    let sent = session.outbox.next().expect("the report");
    assert_eq!(sent.reports.len(), 1, "its report is on its way");
    session.hear(Some(Down::ReportResults(v1::ReportResults { seq: sent.seq, refused: vec![] })));
    dispatch(&mut session, task("t", 7));
    assert!(session.running.is_empty(), "it ran here once");
    let sent = session.outbox.next().expect("another report");
    let [report] = sent.reports.as_slice() else { panic!("{sent:?}") };
    assert_eq!((report.task_id.as_str(), report.lease_token), ("t", 7));
    assert!(matches!(report.outcome, Some(Outcome::Released(_))), "{report:?}");
    dispatch(&mut session, task("t", 7));
    assert!(session.outbox.next().is_none(), "it is being given back");
}

#[tokio::test]
async fn a_report_that_cannot_be_read_does_not_stop_what_runs() {
    let mut session = session();
    let refused = |task_id: &str, reason: &str| {
        let refusal = v1::ReportRefusal {
            task_id: task_id.to_owned(),
            lease_token: 7,
            reason: reason.to_owned(),
            ..v1::ReportRefusal::default()
        };
        Down::ReportResults(v1::ReportResults { seq: 1, refused: vec![refusal] })
    };
    for (task_id, reason, expected) in [
        ("a", "invalid", None),
        ("b", "too_large", None),
        ("c", "stale_lease", Some(StopReason::LeaseLost)),
    ] {
        dispatch(&mut session, task(task_id, 7));
        let context = session.running[task_id].context.clone();
        session.hear(Some(refused(task_id, reason)));
        assert_eq!(context.stop_reason(), expected, "{reason}");
    }
}
