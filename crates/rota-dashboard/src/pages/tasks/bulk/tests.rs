//! Changes of many tasks, over an API that answers as prepared.

use rota_proto::v1::{BulkTasksResponse, CountTasksResponse, DeleteTaskResponse, Task};

use super::*;
use crate::{apart::assert_apart, fake::Fake};

async fn acted(fake: &Fake, form: &str) -> Shown {
    act(&fake.visit("tasks", form)).await.expect("an answer")
}

fn html(shown: Shown) -> String {
    match shown {
        Shown::Page(view) => view.body.into_string(),
        other => panic!("{other:?}"),
    }
}

fn counted(count: u64, at_least: bool) -> Fake {
    Fake::default().answering("CountTasks", move |_: CountTasksRequest| {
        Ok(CountTasksResponse { count, at_least, examined: count })
    })
}

#[tokio::test]
async fn nothing_is_changed_before_it_is_confirmed_and_the_question_has_a_number() {
    let fake = counted(1000, true);
    let page = html(
        acted(&fake, "action=retry&scope=filter&filter=queue%3Da%252Fb%26kind%3D%3Cb%3E%E2%80%AE")
            .await,
    );
    assert!(page.contains("Retry 1,000 or more tasks?") && page.contains("a/b"), "{page}");
    assert!(page.contains("name=\"confirmed\" value=\"yes\"") && !page.contains("<b>"), "{page}");
    assert_apart(&page);
    let asked = fake.calls::<CountTasksRequest>("CountTasks").remove(0).filter.expect("a filter");
    // Those in other statuses are not counted.
    assert_eq!(asked.statuses.len(), 3);
    let page = html(acted(&fake, "action=delete&id=a%2Fb&id=%3Cscript%3E%E2%80%AE&filter=").await);
    assert_apart(&page);
    assert!(page.contains("Delete 2 tasks?") && page.contains(">a/b<"), "{page}");
    assert!(!page.contains("<script>"), "{page}");
    assert!(fake.calls::<BulkTasksRequest>("BulkTasks").is_empty());
    let fake = counted(0, false);
    let page = html(acted(&fake, "action=retry&scope=filter&filter=status%3Dcompleted").await);
    assert!(page.contains("Nothing to retry"), "{page}");
    for wrong in
        ["action=retry", "action=format&id=a", "id=a", "action=retry&id=a&filter=made_up%3D1"]
    {
        assert!(act(&fake.visit("tasks", wrong)).await.is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_selection_is_changed_one_by_one() {
    let fake =
        Fake::default().answering("DeleteTask", |request: TaskRequest| match request.id.as_str() {
            "runs" => Err(Status::failed_precondition("it runs")),
            "odd" => Err(Status::internal("its record is damaged\u{202e}")),
            _ => Ok(DeleteTaskResponse {}),
        });
    let done = acted(&fake, "action=delete&id=a%2Fb&id=c&confirmed=yes&filter=queue%3Dq").await;
    assert!(matches!(done, Shown::See(link) if link == "tasks?queue=q&flash=tasks-deleted.2"));
    let page = html(acted(&fake, "action=delete&id=a&id=runs&id=odd&confirmed=yes&filter=").await);
    assert!(page.contains("1 task deleted") && page.contains("1 left as they were"), "{page}");
    assert!(page.contains("its record is damaged"), "{page}");
    assert_apart(&page);
}

#[tokio::test]
async fn what_was_not_reached_is_kept_for_later() {
    let fake = Fake::default().answering("CancelTask", |request: TaskRequest| {
        if request.id == "b" { Err(Status::unavailable("no leader")) } else { Ok(Task::default()) }
    });
    let page = html(acted(&fake, "action=cancel&id=a&id=b&id=c&confirmed=yes&filter=").await);
    assert!(page.contains("no leader") && page.contains("Continue (1 done)"), "{page}");
    assert!(page.contains("name=\"id\" value=\"b\"") && page.contains("name=\"id\" value=\"c\""));
    assert!(!page.contains("name=\"id\" value=\"a\"") && !page.contains("data-auto"), "{page}");
}

#[tokio::test]
async fn a_filter_is_followed_page_by_page_and_its_counts_go_on() {
    let answer = |request: BulkTasksRequest| {
        let next = match request.page_token.as_deref() {
            None => Some("1"),
            Some("1") => Some("2"),
            _ => None,
        };
        let next_page_token = next.map(str::to_owned);
        Ok(BulkTasksResponse { changed: 500, next_page_token, ..BulkTasksResponse::default() })
    };
    let fake = Fake::default().answering("BulkTasks", answer);
    let form = "action=retry&scope=filter&filter=status%3Dfailed%2Ccompleted&confirmed=yes&changed=7&cursor=1";
    let done = acted(&fake, form).await;
    let Shown::See(link) = done else { panic!("{done:?}") };
    assert_eq!(link, "tasks?status=failed%2Ccompleted&flash=tasks-retried.1007");
    let asked = fake.calls::<BulkTasksRequest>("BulkTasks");
    assert_eq!(asked.len(), 2);
    let filter = asked[0].filter.as_ref().expect("a filter");
    assert_eq!(
        (filter.statuses.as_slice(), asked[0].all),
        (&[TaskStatus::Failed.into()][..], false)
    );
}

#[tokio::test]
async fn a_cursor_that_does_not_move_stops_it() {
    let fake = Fake::default().answering("BulkTasks", |_: BulkTasksRequest| {
        Ok(BulkTasksResponse {
            refused: 1,
            refusal_message: Some("the queue <b> is full".to_owned()),
            next_page_token: Some("same".to_owned()),
            ..BulkTasksResponse::default()
        })
    });
    let page = html(
        acted(&fake, "action=retry&scope=filter&filter=&confirmed=yes&cursor=same&whole=9").await,
    );
    assert!(page.contains("cannot change the next task now"), "{page}");
    assert!(
        page.contains("the queue &lt;b&gt; is full") && page.contains("Continue (1 done)"),
        "{page}"
    );
    assert!(!page.contains("data-auto"), "{page}");
}

#[tokio::test]
async fn a_page_that_can_go_on_does() {
    let bulk = Bulk {
        action: BulkAction::Delete,
        filter: TaskFilter::default(),
        pairs: vec![("queue", "a&b".to_owned())],
        ids: None,
        cursor: Some("c".to_owned()),
        whole: Some(20_000),
        done: Done { changed: 12_000, ..Done::default() },
    };
    let page = progress(&bulk, false, None).body.into_string();
    assert!(page.contains("data-auto") && page.contains("Continue (12,000 done)"), "{page}");
    assert!(page.contains("value=\"queue=a%26b\"") && page.contains("name=\"cursor\" value=\"c\""));
    assert!(page.contains("12,000 of 20,000"), "{page}");
}
