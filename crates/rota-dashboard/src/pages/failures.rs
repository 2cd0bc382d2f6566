//! What fails: failed tasks, or tasks that will be tried again, in groups by kind and error. Each group can be listed,
//! retried or deleted, by the page of bulk changes of the list of tasks.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use maud::{Markup, html};
use rota_proto::{
    Date, TimeSpan,
    json::Words,
    v1::{
        BulkAction, FailureGroup, FailureState, ListFailuresRequest, ListFailuresResponse,
        TimeRange,
    },
};

use tonic::Status;

use crate::{
    layout::View,
    link,
    parts::{Attention, Weight, count, empty, id, name, plural, when},
    trouble::Trouble,
    visit::Visit,
};

/// Time for the groups of the page, and for those of the first page. The newest failed tasks that can be examined by then
/// are grouped, and the page says how many they are.
const TIME: TimeSpan = TimeSpan { seconds: 0, nanos: 30_000_000 };
const RECENT_TIME: TimeSpan = TimeSpan { seconds: 0, nanos: 10_000_000 };
/// Groups on the page.
const GROUPS: u32 = 100;
/// Groups that the first page names.
const NAMED: u32 = 3;
/// Age of failures that the first page tells.
const RECENT: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn show(visit: &Visit) -> Result<View, Trouble> {
    let text = |name| visit.pairs.get(name).map(str::to_owned);
    let state = match visit.pairs.get("state") {
        None | Some("failed") => FailureState::Failed,
        Some("retrying") => FailureState::Retrying,
        Some(_) => {
            let (name, message) = ("state".to_owned(), "must be failed or retrying".to_owned());
            return Err(Trouble::Parameter { name, message });
        }
    };
    let request = ListFailuresRequest {
        queue: text("queue"),
        kind: text("kind"),
        failed: None,
        state: state.into(),
        limit: Some(GROUPS),
        time_limit: Some(TIME),
    };
    let ask = async {
        let list = visit.api.tasks().list_failures(request).await;
        list.map(|list| Arc::new(list.into_inner()))
    };
    let question = visit.api.question(&visit.here());
    let list = visit.memory.failures.or_ask(&visit.again, question, 1, ask).await?;
    Ok(View::new("Failures", "failures", page(visit, state, &list)))
}

/// The newest groups of the last day, for the first page.
pub(super) async fn recent(visit: &Visit) -> Result<Vec<FailureGroup>, Status> {
    let ask = async {
        let from = Some(Date::from(SystemTime::now() - RECENT));
        let request = ListFailuresRequest {
            failed: Some(TimeRange { from, to: None }),
            limit: Some(NAMED),
            time_limit: Some(RECENT_TIME),
            ..ListFailuresRequest::default()
        };
        let list = visit.api.tasks().list_failures(request).await;
        list.map(|list| list.into_inner().groups)
    };
    let question = visit.api.question("recent");
    visit.memory.recent_failures.or_ask(&visit.again, question, 1, ask).await
}

/// A group as something that needs attention.
pub(super) fn attention(group: &FailureGroup) -> Attention {
    Attention {
        weight: Weight::Warning,
        what: html! { (plural(group.count, "task", "tasks")) " of kind " (name(&group.kind)) " failed" },
        why: html! { bdi { (group.message) } ", last " (when(group.last_at)) },
        href: link::to("failures", [("kind", &group.kind)]),
        go: "Failures",
    }
}

fn page(visit: &Visit, state: FailureState, list: &ListFailuresResponse) -> Markup {
    let is_failed = state == FailureState::Failed;
    let to = |state: &str| {
        let kept = ["queue", "kind"].map(|name| (name, visit.pairs.get(name)));
        let kept = kept.into_iter().filter_map(|(name, value)| Some((name, value?)));
        link::to("failures", kept.chain([("state", state)]))
    };
    html! {
        div.head { h1 { "Failures" } }
        nav.chips aria-label="State" {
            a href=(to("failed")) data-state="failed" aria-current=[is_failed.then_some("true")] {
                span.mark {} "failed"
            }
            a href=(to("retrying")) data-state="scheduled" aria-current=[(!is_failed).then_some("true")] {
                span.mark {} "will be retried"
            }
        }
        (bar(visit))
        div #groups data-live="tasks" {
            @if list.groups.is_empty() { (nothing(is_failed, visit)) }
            @for group in &list.groups { (card(group, is_failed)) }
            (bounds(list))
        }
    }
}

/// The form of the filter.
fn bar(visit: &Visit) -> Markup {
    let field = |label: &str, name: &str| {
        html! {
            label { (label)
                input dir="auto" type="text" name=(name) value=(visit.pairs.get(name).unwrap_or_default()) placeholder="any"
                    maxlength="128" autocomplete="off" spellcheck="false";
            }
        }
    };
    html! {
        form.filter action="failures" method="get" data-clean="" {
            @if let Some(state) = visit.pairs.get("state") { input type="hidden" name="state" value=(state); }
            (field("Queue", "queue"))
            (field("Kind", "kind"))
            button type="submit" { "Filter" }
        }
    }
}

fn card(group: &FailureGroup, is_failed: bool) -> Markup {
    let status = if is_failed { "failed" } else { "pending,scheduled" };
    let filter = [("status", status), ("error_fingerprint", &group.error_fingerprint)];
    let query = link::to("", filter);
    let query = query.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let sample = group.sample.as_ref().map(|error| error.message.as_str()).unwrap_or_default();
    html! {
        article.card.failure {
            h2 { bdi { (group.message) } }
            p.note {
                strong { (plural(group.count, "task", "tasks")) } " of kind "
                a href=(link::to("tasks", [("status", status), ("kind", &group.kind)])) { (name(&group.kind)) }
                @if !group.queues.is_empty() {
                    " in " @for (at, queue) in group.queues.iter().enumerate() {
                        @if at > 0 { ", " }
                        a href=(link::to("queue", [("name", queue)])) { (name(queue)) }
                    }
                }
                " · first " (when(group.first_at)) " · last " (when(group.last_at))
            }
            details {
                summary { "The newest error, and some of the tasks" }
                pre.fault { bdi { (sample) } }
                ul.ids { @for task in &group.tasks { li { (id(task)) } } }
            }
            div.actions {
                a.button href=(link::to("tasks", filter)) { "Show the tasks" }
                @if is_failed {
                    (action(query, BulkAction::Retry, "Retry all"))
                    (action(query, BulkAction::Delete, "Delete all"))
                } @else {
                    (action(query, BulkAction::Cancel, "Cancel all"))
                }
            }
        }
    }
}

/// A button that leads to the page which asks, with the number of tasks.
fn action(filter: &str, action: BulkAction, label: &str) -> Markup {
    html! {
        form.change action="tasks" method="post" {
            input type="hidden" name="filter" value=(filter);
            input type="hidden" name="scope" value="filter";
            button type="submit" name="action" value=(action.word()) { (label) }
        }
    }
}

/// How far the answer looked.
fn bounds(list: &ListFailuresResponse) -> Markup {
    html! {
        @if list.other > 0 {
            p.note { (plural(list.other, "further task", "further tasks")) " in smaller or older groups that are not listed." }
        }
        @if !list.complete {
            p.note {
                "Looked at the newest " (count(list.examined)) " tasks. Older ones are not in these groups. Filter by queue \
                 or kind to look further back."
            }
        }
    }
}

fn nothing(is_failed: bool, visit: &Visit) -> Markup {
    let is_filtered = ["queue", "kind"].iter().any(|name| visit.pairs.get(name).is_some());
    let what =
        if is_failed { "No task has failed." } else { "No task waits after a failed attempt." };
    let todo = match (is_failed, is_filtered) {
        (_, true) => "Remove a part of the filter to see more.",
        (true, false) => {
            "A task fails when its attempts are used up. Failures are kept for their retention and then deleted."
        }
        (false, false) => "Failed attempts are repeated after a pause that grows.",
    };
    empty(what, todo, None)
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::TaskError;

    use super::*;
    use crate::{apart::assert_apart, fake::Fake};

    fn group(message: &str) -> FailureGroup {
        FailureGroup {
            kind: "mail/<b>\u{202e}".to_owned(),
            error_fingerprint: "00112233445566aa".to_owned(),
            message: message.to_owned(),
            queues: vec!["a/b".to_owned()],
            count: 12,
            tasks: vec!["t_1".to_owned()],
            sample: Some(TaskError { message: message.to_owned(), ..TaskError::default() }),
            ..FailureGroup::default()
        }
    }

    #[tokio::test]
    async fn groups_are_shown_with_what_can_be_done() {
        let list = ListFailuresResponse {
            groups: vec![group("<script>no route to <ip></script>\u{202e}")],
            other: 3,
            examined: 20_000,
            complete: false,
        };
        let fake = Fake::default().with("ListFailures", &list);
        let view = show(&fake.visit("failures", "queue=a%2Fb&kind=%E2%80%AE")).await;
        let html = view.expect("a page").body.into_string();
        assert_apart(&html);
        assert!(html.contains("&lt;script&gt;no route") && !html.contains("<script>"), "{html}");
        let filter = "status=failed&amp;error_fingerprint=00112233445566aa";
        assert!(html.contains(&format!("href=\"tasks?{filter}\"")), "{html}");
        assert!(html.contains(&format!("name=\"filter\" value=\"{filter}\"")), "{html}");
        assert!(html.contains("value=\"retry\"") && html.contains("value=\"delete\""), "{html}");
        assert!(html.contains("newest 20,000 tasks") && html.contains("3 further tasks"), "{html}");
        let asked: Vec<ListFailuresRequest> = fake.calls("ListFailures");
        assert_eq!(asked[0].queue.as_deref(), Some("a/b"));
        assert_eq!((asked[0].limit, asked[0].time_limit), (Some(GROUPS), Some(TIME)));
        assert_eq!(asked[0].state(), FailureState::Failed);
    }

    #[tokio::test]
    async fn tasks_that_are_tried_again_can_only_be_cancelled() {
        let groups = vec![group("timed out")];
        let list =
            ListFailuresResponse { groups, complete: true, ..ListFailuresResponse::default() };
        let fake = Fake::default().with("ListFailures", &list);
        let view = show(&fake.visit("failures", "state=retrying")).await.expect("a page");
        let html = view.body.into_string();
        assert!(html.contains("value=\"cancel\"") && !html.contains("value=\"retry\""), "{html}");
        let asked: Vec<ListFailuresRequest> = fake.calls("ListFailures");
        assert_eq!(asked[0].state(), FailureState::Retrying);
        assert!(show(&fake.visit("failures", "state=other")).await.is_err());
    }
}
