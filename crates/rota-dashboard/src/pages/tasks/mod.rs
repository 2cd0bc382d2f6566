//! The list of tasks. Its address is the filter, in the language of the API.

mod bulk;
mod filter;
pub(super) mod table;

pub(super) use bulk::act;
use maud::html;
use rota_proto::{
    TimeSpan,
    json::TaskFilter,
    v1::{GetTaskRequest, ListQueuesRequest, ListTasksRequest, ListTasksResponse},
};
use tonic::{Code, Response};

use crate::{
    flash,
    layout::{Shown, View},
    link,
    parts::{Pager, empty, failed, pager, plural, when},
    trouble::Trouble,
    visit::Visit,
};

/// Tasks on a page.
const PAGE: u32 = 50;
/// Time for one page of a search. What is not found by then is for the next page.
const TIME: TimeSpan = TimeSpan { seconds: 0, nanos: 50_000_000 };

/// The parameters of the page.
#[derive(Debug, Default)]
pub(super) struct Asked {
    filter: TaskFilter,
    cursor: Option<String>,
    limit: Option<u32>,
}

impl Asked {
    /// Reads the parameters. Empty ones come from empty fields of the form, and count as absent.
    fn of(visit: &Visit) -> Result<Self, Trouble> {
        let mut asked = Self::default();
        for (name, value) in visit.pairs.0.iter().filter(|(_, value)| !value.is_empty()) {
            if asked.filter.take(name, value)? {
                continue;
            }
            match name.as_str() {
                "cursor" => asked.cursor = Some(value.clone()),
                "limit" => {
                    asked.limit = value.parse().ok().filter(|limit| (1..=1000).contains(limit));
                }
                flash::PARAMETER => {}
                _ => {
                    let name: String = name.chars().take(64).collect();
                    let message = "is not a property of tasks".to_owned();
                    return Err(Trouble::Parameter { name, message });
                }
            }
        }
        Ok(asked)
    }

    /// The parameters of the same list, from its beginning.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = self.filter.pairs();
        pairs.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        pairs
    }
}

pub(super) async fn show(visit: &Visit) -> Result<Shown, Trouble> {
    let asked = Asked::of(visit)?;
    if let Some(search) = &asked.filter.search
        && asked.cursor.is_none()
        && let Some(link) = named(visit, search).await?
    {
        return Ok(Shown::See(link));
    }
    let request = ListTasksRequest {
        filter: Some(asked.filter.clone().into()),
        page_size: asked.limit.unwrap_or(PAGE),
        page_token: asked.cursor.clone().unwrap_or_default(),
        time_limit: Some(TIME),
    };
    let (mut tasks, mut queues) = (visit.api.tasks(), visit.api.queues());
    let (listed, queues, counts) = tokio::join!(
        tasks.list_tasks(request),
        queues.list_queues(ListQueuesRequest::default()),
        filter::counts(visit, &asked.filter),
    );
    // The list without its counts is still a list.
    let queues = queues.map(|list| list.into_inner().queues).unwrap_or_default();
    let numbers = filter::Numbers { queues, counts };
    match listed.map(Response::into_inner) {
        Ok(list) => Ok(view(visit, &asked, &numbers, Ok(&list)).into()),
        Err(status) if status.code() == Code::Unauthenticated => Err(Trouble::SignIn),
        // The filter stays, so that it can be corrected.
        Err(status) => Ok(view(visit, &asked, &numbers, Err(status)).into()),
    }
}

/// The page of the task with this id, if there is one.
async fn named(visit: &Visit, search: &str) -> Result<Option<String>, Trouble> {
    let search = search.trim();
    let request = GetTaskRequest { id: search.to_owned(), wait: None };
    match visit.api.tasks().get_task(request).await {
        Ok(_) => Ok(Some(link::to("task", [("id", search)]))),
        Err(status) if matches!(status.code(), Code::NotFound | Code::InvalidArgument) => Ok(None),
        Err(status) => Err(status.into()),
    }
}

fn view(
    visit: &Visit,
    asked: &Asked,
    numbers: &filter::Numbers,
    list: Result<&ListTasksResponse, tonic::Status>,
) -> View {
    let body = html! {
        div.head { h1 { "Tasks" } }
        (filter::statuses(asked, numbers))
        (filter::bar(asked))
        @match list {
            Err(status) => (failed(status)),
            Ok(list) => {
                div #list data-live="tasks" {
                    @if list.tasks.is_empty() {
                        (nothing(asked, list.next_page_token.is_some()))
                    } @else {
                        (table::selectable(&list.tasks))
                    }
                    (looked_at(list))
                    (pager(&Pager { visit, next: list.next_page_token.as_deref(), first: "Newest" }))
                }
                @if !list.tasks.is_empty() { (bulk::bar(asked)) }
            }
        }
    };
    View::new("Tasks", "tasks", body)
}

/// How far the page looked, if it ended before it was full.
fn looked_at(list: &ListTasksResponse) -> maud::Markup {
    html! {
        @if list.next_page_token.is_some() && list.examined as usize > list.tasks.len() {
            p.note {
                "Looked at " (plural(list.examined.into(), "task", "tasks"))
                @if list.examined_back_to.is_some() { ", back to " (when(list.examined_back_to)) }
                ". The next page goes on from there."
            }
        }
    }
}

fn nothing(asked: &Asked, more: bool) -> maud::Markup {
    html! {
        @if more {
            (empty("No match on this page.", "The search goes on with the next page.", None))
        } @else if asked.filter.pairs().is_empty() {
            (empty(
                "There are no tasks yet.",
                "Create a first one from a terminal, or with the button New task:",
                Some("rota task create --wait --command -- echo hello"),
            ))
        } @else {
            (empty("No task matches this filter.", "Remove a part of the filter to see more tasks.", None))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn visit(query: &str) -> Visit {
        Fake::default().visit("tasks", query)
    }

    #[test]
    fn the_address_is_the_filter() {
        let query = "status=failed%2Cexpired&queue=a%2Fb&kind=&label=x%3D1&label=y%3D&cursor=c&flash=retried";
        let asked = Asked::of(&visit(query)).expect("a filter");
        let words: Vec<_> =
            asked.pairs().iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(words, ["status=failed,expired", "queue=a/b", "label=x=1", "label=y="]);
        assert_eq!(asked.cursor.as_deref(), Some("c"));
        for wrong in ["status=unknown", "made_up=1", "created_from=now", "queue=a&queue=b"] {
            assert!(Asked::of(&visit(wrong)).is_err(), "{wrong}");
        }
    }

    /// However many tasks there are.
    #[tokio::test]
    async fn a_page_asks_for_few_tasks_and_within_a_time() {
        let fake = Fake::default().with("ListTasks", &ListTasksResponse::default());
        let fake = fake.refusing("GetTask", tonic::Status::not_found("none"));
        for (query, size) in
            [("", PAGE), ("search=x", PAGE), ("limit=1000", 1000), ("limit=1001", PAGE)]
        {
            show(&fake.visit("tasks", query)).await.expect("a page");
            let asked = fake.calls::<ListTasksRequest>("ListTasks").pop().expect("it asks");
            assert_eq!((asked.page_size, asked.time_limit), (size, Some(TIME)), "{query}");
        }
    }

    #[test]
    fn an_error_keeps_the_filter_on_the_page() {
        let visit = visit("queue=a%22%3E%3Cscript%3E&search=%E2%80%AE&label=x%3D%E2%80%AE");
        let asked = Asked::of(&visit).expect("a filter");
        let view = view(
            &visit,
            &asked,
            &filter::Numbers::default(),
            Err(tonic::Status::unavailable("no leader\u{202e}")),
        );
        let html = view.body.into_string();
        crate::apart::assert_apart(&html);
        assert!(
            html.contains("no leader") && html.contains("value=\"a&quot;&gt;&lt;script&gt;\""),
            "{html}"
        );
    }
}
