//! Counts, groups of failures and actions on many tasks over both protocols.

use rota_proto::{TimeSpan, json::BulkResult, operations::Operation, v1};
use serde_json::{Value, json};

use super::{Parity, Twin, shown};

pub(super) async fn counted(both: &mut Parity) {
    use Operation as O;
    let given = |twin: &Twin| json!({ "queue": twin.name, "label": "l=v", "time_limit": "1s" });
    let message = |twin: &Twin| {
        let labels = [("l".to_owned(), "v".to_owned())].into();
        let filter = v1::TaskFilter { queue: Some(twin.id()), labels, ..Default::default() };
        let time_limit = Some(TimeSpan { seconds: 1, nanos: 0 });
        v1::CountTasksRequest { filter: Some(filter), time_limit }
    };
    let [counted, _] =
        both.same(O::CountTasks, given, message, shown::<v1::CountTasksResponse>).await;
    assert_eq!(counted, json!({ "count": 1, "at_least": false, "examined": 4 }));
}

/// After a task of each twin has failed.
pub(super) async fn listed(both: &mut Parity) {
    use Operation as O;
    let given = |twin: &Twin| json!({ "queue": twin.name, "kind": twin.name, "limit": 9 });
    let message = |twin: &Twin| v1::ListFailuresRequest {
        queue: Some(twin.id()),
        kind: Some(twin.id()),
        limit: Some(9),
        ..Default::default()
    };
    both.same(O::ListFailures, given, message, shown::<v1::ListFailuresResponse>).await;
}

/// What an action would change.
pub(super) async fn dry_run(both: &mut Parity) -> Value {
    let given = |twin: &Twin| json!({ "action": "delete", "filter": { "queue": twin.name }, "dry_run": true });
    let message = |twin: &Twin| v1::BulkTasksRequest {
        action: v1::BulkAction::Delete.into(),
        filter: Some(v1::TaskFilter { queue: Some(twin.id()), ..Default::default() }),
        dry_run: true,
        ..Default::default()
    };
    let show = |answer: v1::BulkTasksResponse| shown(BulkResult::from(answer));
    let [dry, _] = both.same(Operation::BulkTasks, given, message, show).await;
    dry
}

pub(super) async fn refused(both: &mut Parity) {
    use Operation as O;
    let filter = v1::TaskFilter { error_fingerprint: Some("x".to_owned()), ..Default::default() };
    let message = v1::CountTasksRequest { filter: Some(filter), time_limit: None };
    let given = json!({ "error_fingerprint": "x" });
    both.refused(O::CountTasks, given, message, "error_fingerprint").await;
    let time_limit = Some(TimeSpan { seconds: 3, nanos: 0 });
    let message = v1::CountTasksRequest { filter: None, time_limit };
    both.refused(O::CountTasks, json!({ "time_limit": "3s" }), message, "time_limit").await;
    let message = v1::ListFailuresRequest { limit: Some(1001), ..Default::default() };
    both.refused(O::ListFailures, json!({ "limit": 1001 }), message, "limit").await;
    let message = v1::ListFailuresRequest { kind: Some("a b".to_owned()), ..Default::default() };
    both.refused(O::ListFailures, json!({ "kind": "a b" }), message, "kind").await;
    let action = v1::BulkAction::Cancel.into();
    let bulk = v1::BulkTasksRequest { action, ..Default::default() };
    let given = json!({ "action": "cancel", "filter": {} });
    both.refused(O::BulkTasks, given, bulk.clone(), "all").await;
    let given = json!({ "action": "cancel", "filter": {}, "all": true, "limit": 0 });
    let message = v1::BulkTasksRequest { all: true, limit: Some(0), ..bulk.clone() };
    both.refused(O::BulkTasks, given, message, "limit").await;
    let given = json!({ "action": "cancel", "filter": {}, "all": true, "cursor": "?" });
    let message = v1::BulkTasksRequest { all: true, page_token: Some("?".to_owned()), ..bulk };
    both.refused(O::BulkTasks, given, message, "cursor").await;
}
