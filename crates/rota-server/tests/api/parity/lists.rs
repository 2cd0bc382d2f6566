//! Lists of tasks: each property of a filter has the same effect over both protocols.

use rota_proto::{TimeSpan, operations::Operation, v1};
use serde_json::json;

use super::{Parity, Twin, shown};

pub(super) async fn answered(both: &mut Parity) {
    let given = |twin: &Twin| json!({ "queue": twin.name, "label": "l=v", "limit": 9 });
    let message = |twin: &Twin| {
        let labels = [("l".to_owned(), "v".to_owned())].into();
        let filter = v1::TaskFilter { queue: Some(twin.id()), labels, ..Default::default() };
        v1::ListTasksRequest { filter: Some(filter), page_size: 9, ..Default::default() }
    };
    both.same(Operation::ListTasks, given, message, shown::<v1::ListTasksResponse>).await;
    // The whole id, so that the first page has the task alone.
    let given = |twin: &Twin| json!({ "queue": twin.name, "search": twin.name, "priority": "4,5", "time_limit": "1s" });
    let message = |twin: &Twin| {
        let (queue, search) = (Some(twin.id()), Some(twin.id()));
        let filter = v1::TaskFilter { queue, search, priorities: vec![4, 5], ..Default::default() };
        let time_limit = Some(TimeSpan { seconds: 1, nanos: 0 });
        v1::ListTasksRequest { filter: Some(filter), time_limit, ..Default::default() }
    };
    let [page, _] =
        both.same(Operation::ListTasks, given, message, shown::<v1::ListTasksResponse>).await;
    assert_eq!((&page["tasks"].as_array().map(Vec::len), &page["examined"]), (&Some(1), &json!(1)));
    assert!(page["next_cursor"].is_string(), "{page}");
    assert_eq!(page.get("examined_back_to"), None);
    let given = |twin: &Twin| json!({ "queue": twin.name, "worker": "nobody" });
    let message = |twin: &Twin| {
        let (queue, worker) = (Some(twin.id()), Some("nobody".to_owned()));
        let filter = v1::TaskFilter { queue, worker, ..Default::default() };
        v1::ListTasksRequest { filter: Some(filter), ..Default::default() }
    };
    let [page, _] =
        both.same(Operation::ListTasks, given, message, shown::<v1::ListTasksResponse>).await;
    assert_eq!(page["tasks"], json!([]));
}

pub(super) async fn refused(both: &mut Parity) {
    let list = v1::ListTasksRequest::default();
    let message = v1::ListTasksRequest { page_size: 1001, ..list.clone() };
    both.refused(Operation::ListTasks, json!({ "limit": 1001 }), message, "limit").await;
    let message = v1::ListTasksRequest { page_token: "x".to_owned(), ..list.clone() };
    both.refused(Operation::ListTasks, json!({ "cursor": "x" }), message, "cursor").await;
    let time_limit = Some(TimeSpan { seconds: 3, nanos: 0 });
    let message = v1::ListTasksRequest { time_limit, ..list.clone() };
    let given = json!({ "time_limit": "3s" });
    both.refused(Operation::ListTasks, given, message, "time_limit").await;
    let with = |filter| v1::ListTasksRequest { filter: Some(filter), ..list.clone() };
    let labels = [("a b".to_owned(), "c".to_owned())].into();
    let filter = v1::TaskFilter { kind: Some("a b".to_owned()), labels, ..Default::default() };
    let given = json!({ "kind": "a b", "label": "a b=c" });
    both.refused(Operation::ListTasks, given, with(filter), "kind").await;
    let search = Some("x".repeat(257));
    let given = json!({ "search": search });
    let filter = v1::TaskFilter { search, ..Default::default() };
    both.refused(Operation::ListTasks, given, with(filter), "search").await;
    let filter = v1::TaskFilter { worker: Some("a b".to_owned()), ..Default::default() };
    both.refused(Operation::ListTasks, json!({ "worker": "a b" }), with(filter), "worker").await;
    let filter = v1::TaskFilter { priorities: vec![3, 10], ..Default::default() };
    let given = json!({ "priority": "3,10" });
    both.refused(Operation::ListTasks, given, with(filter), "priority").await;
}
