//! Cancels, retries or deletes many tasks: those that are selected, or all that match the filter.
//!
//! The page asks first and says how many. Then each request changes tasks for a bounded time, and the page that it
//! answers with goes on by a form: the script sends it, and without a script a person does. So nothing is kept on the
//! node, and whoever closes the page stops the rest.

use std::time::{Duration, Instant};

use maud::{Markup, html};
use rota_proto::{
    json::{TaskFilter, Words},
    v1::{BulkAction, BulkTasksRequest, CountTasksRequest, TaskRequest, TaskStatus},
};
use tonic::{Code, Status};

use super::{Asked, filter};
use crate::{
    counts::HowMany,
    flash,
    layout::{Shown, View},
    link,
    pages::confirm,
    parts::{count, plural, share, trouble_panel},
    trouble::Trouble,
    visit::{Pairs, Visit},
};

/// Time after which a request answers with what is done so far.
const BOUND: Duration = Duration::from_secs(2);
/// Tasks that one call changes. Small, so that it ends within the time of a page.
const PORTION: u32 = 500;
/// Ids that are shown before a change.
const SHOWN: usize = 20;

/// Counts the tasks of a filter, up to a bound.
async fn how_many(visit: &Visit, filter: &TaskFilter) -> Result<HowMany, Trouble> {
    let request = CountTasksRequest { filter: Some(filter.clone().into()), time_limit: None };
    let counted = visit.api.tasks().count_tasks(request).await?.into_inner();
    Ok(HowMany { number: counted.count, or_more: counted.at_least })
}

/// What a form asks for.
struct Bulk {
    action: BulkAction,
    /// The filter of the list.
    filter: TaskFilter,
    /// The parameters of the list, to go back to it.
    pairs: Vec<(&'static str, String)>,
    /// The ids that are selected. `None` for all that match.
    ids: Option<Vec<String>>,
    cursor: Option<String>,
    /// How many there are, for the bar. It is only shown.
    whole: Option<u64>,
    done: Done,
}

/// What was done so far. It travels in the form and is only shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Done {
    changed: u64,
    skipped: u64,
    refused: u64,
    /// Why the first was refused.
    refusal: Option<String>,
}

impl Bulk {
    fn of(visit: &Visit) -> Result<Self, Trouble> {
        let pairs = &visit.pairs;
        let action: Result<BulkAction, serde_json::Error> =
            BulkAction::of_word(pairs.get("action").unwrap_or_default());
        let action = action.map_err(|_| Trouble::Form("It names no action."))?;
        let list =
            Visit { pairs: Pairs::of(pairs.get("filter").unwrap_or_default()), ..visit.clone() };
        let asked = Asked::of(&list)?;
        let is_filter = pairs.get("scope") == Some("filter");
        let ids: Vec<_> = pairs.all("id").filter(|id| !id.is_empty()).map(str::to_owned).collect();
        if ids.is_empty() && !is_filter {
            return Err(Trouble::Form("No task is selected."));
        }
        let number = |name| pairs.get(name).and_then(|text| text.parse().ok());
        Ok(Self {
            action,
            pairs: asked.pairs(),
            filter: asked.filter,
            ids: (!is_filter).then_some(ids),
            cursor: pairs.get("cursor").map(str::to_owned),
            whole: number("whole"),
            done: Done {
                changed: number("changed").unwrap_or_default(),
                skipped: number("skipped").unwrap_or_default(),
                refused: number("refused").unwrap_or_default(),
                refusal: pairs.get("refusal").map(str::to_owned),
            },
        })
    }

    /// The list that the form came from.
    fn back(&self) -> String {
        link::to("tasks", self.pairs.iter().map(|(name, value)| (name, value)))
    }

    /// The filter with those statuses alone in which the action changes a task. `None` if there are none.
    fn narrowed(&self) -> Option<TaskFilter> {
        let can = changeable(self.action);
        let statuses: Vec<_> = match self.filter.statuses.as_slice() {
            [] => can.to_vec(),
            chosen => chosen.iter().copied().filter(|status| can.contains(status)).collect(),
        };
        (!statuses.is_empty()).then(|| TaskFilter { statuses, ..self.filter.clone() })
    }
}

/// The statuses in which an action changes a task.
fn changeable(action: BulkAction) -> &'static [TaskStatus] {
    use TaskStatus::{
        Assigned, Cancelled, Completed, Expired, Failed, Pending, Running, Scheduled,
    };
    match action {
        BulkAction::Cancel => &[Scheduled, Pending, Assigned, Running],
        BulkAction::Retry => &[Failed, Cancelled, Expired],
        BulkAction::Delete | BulkAction::Unspecified => &[Completed, Failed, Cancelled, Expired],
    }
}

/// The action as a button, what it is doing, what it has done, and the message after it.
const fn words(action: BulkAction) -> (&'static str, &'static str, &'static str, &'static str) {
    match action {
        BulkAction::Cancel => ("Cancel", "Cancelling", "cancelled", "tasks-cancelled"),
        BulkAction::Retry => ("Retry", "Retrying", "retried", "tasks-retried"),
        BulkAction::Delete | BulkAction::Unspecified => {
            ("Delete", "Deleting", "deleted", "tasks-deleted")
        }
    }
}

/// The bar below the list, with the buttons. Its form has the boxes of the rows.
pub(super) fn bar(asked: &Asked) -> Markup {
    let pairs = asked.pairs();
    let query = link::to("", pairs.iter().map(|(name, value)| (name, value)));
    let query = query.split_once('?').map(|(_, query)| query).unwrap_or_default();
    html! {
        form #bulk.bulk action="tasks" method="post" {
            input type="hidden" name="filter" value=(query);
            span #chosen.scripted role="status" {}
            label { input type="checkbox" name="scope" value="filter"; " All that match the filter" }
            div.actions {
                @for action in [BulkAction::Retry, BulkAction::Cancel, BulkAction::Delete] {
                    button type="submit" name="action" value=(action.word()) { (words(action).0) }
                }
            }
        }
    }
}

pub(in crate::pages) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let mut bulk = Bulk::of(visit)?;
    if !visit.is_confirmed() {
        return question(visit, &bulk).await.map(Shown::from);
    }
    let until = Instant::now() + BOUND;
    let stopped = match bulk.ids.take() {
        Some(ids) => {
            let (left, stopped) = each(visit, &mut bulk, ids, until).await;
            bulk.ids = Some(left);
            stopped
        }
        None => matching(visit, &mut bulk, until).await,
    };
    let is_over = match &bulk.ids {
        Some(left) => left.is_empty(),
        None => bulk.cursor.is_none(),
    };
    match stopped {
        Some(status) if status.code() == Code::Unauthenticated => Err(Trouble::SignIn),
        stopped if stopped.is_none() && is_over && bulk.done.skipped + bulk.done.refused == 0 => {
            let told = flash::counted(words(bulk.action).3, bulk.done.changed);
            let pairs = bulk.pairs.iter().map(|(name, value)| (*name, value.clone()));
            Ok(Shown::See(link::to("tasks", pairs.chain([told]))))
        }
        stopped => Ok(progress(&bulk, is_over, stopped).into()),
    }
}

/// Asks, with the number of tasks.
async fn question(visit: &Visit, bulk: &Bulk) -> Result<View, Trouble> {
    let (verb, ..) = words(bulk.action);
    let (number, about, whole) = if let Some(ids) = &bulk.ids {
        let about = html! {
            ul.ids {
                @for id in ids.iter().take(SHOWN) { li { bdi { (id) } } }
                @if ids.len() > SHOWN { li { "and " (count((ids.len() - SHOWN) as u64)) " more" } }
            }
        };
        (plural(ids.len() as u64, "task", "tasks"), about, Some(ids.len() as u64))
    } else {
        let many = match bulk.narrowed() {
            Some(filter) => how_many(visit, &filter).await?,
            None => HowMany { number: 0, or_more: false },
        };
        let about = html! {
            @if bulk.filter.pairs().is_empty() {
                p.bad { "There is no filter: these are all tasks in a status that allows it." }
            } @else {
                p { "All tasks that match the filter, on all pages:" }
                (filter::chosen(&bulk.filter))
            }
            p.note { "Tasks whose status does not allow it stay as they are. Those that begin to match meanwhile can be included." }
        };
        if many.number == 0 && !many.or_more {
            let body = html! {
                div.head { h1 { "Nothing to " (verb.to_lowercase()) } }
                p { "No task that matches the filter has a status that allows it." }
                p { a.button href=(bulk.back()) { "Go back" } }
            };
            return Ok(View::new("Tasks", "tasks", body));
        }
        (many.of("task", "tasks"), about, (!many.or_more).then_some(many.number))
    };
    let question = format!("{verb} {number}?");
    let mut again = visit.clone();
    again.pairs.0.extend(whole.map(|whole| ("whole".to_owned(), whole.to_string())));
    // `Cancel` alone could mean the question.
    let go = format!("{verb} the tasks");
    let asked = confirm::Question { title: &question, about, go: &go, back: &bulk.back() };
    Ok(confirm::ask_about(&again, "tasks", &asked))
}

/// Changes one task after the other. Returns those that are left, and why it stopped before the time was over.
async fn each(
    visit: &Visit,
    bulk: &mut Bulk,
    ids: Vec<String>,
    until: Instant,
) -> (Vec<String>, Option<Status>) {
    let mut tasks = visit.api.tasks();
    let mut left = ids.into_iter();
    while let Some(id) = left.next() {
        let request = TaskRequest { id: id.clone() };
        let changed = match bulk.action {
            BulkAction::Cancel => tasks.cancel_task(request).await.map(drop),
            BulkAction::Retry => tasks.retry_task(request).await.map(drop),
            BulkAction::Delete | BulkAction::Unspecified => {
                tasks.delete_task(request).await.map(drop)
            }
        };
        match changed {
            Ok(()) => bulk.done.changed += 1,
            Err(status) => match status.code() {
                Code::FailedPrecondition | Code::NotFound => bulk.done.skipped += 1,
                Code::Unavailable | Code::DeadlineExceeded | Code::Unauthenticated => {
                    return (std::iter::once(id).chain(left).collect(), Some(status));
                }
                _ => {
                    bulk.done.refused += 1;
                    bulk.done.refusal.get_or_insert_with(|| status.message().to_owned());
                }
            },
        }
        if Instant::now() >= until {
            break;
        }
    }
    (left.collect(), None)
}

/// Changes portion after portion of the tasks that match. Returns why it stopped before the time was over.
async fn matching(visit: &Visit, bulk: &mut Bulk, until: Instant) -> Option<Status> {
    let filter = bulk.narrowed()?;
    let mut tasks = visit.api.tasks();
    loop {
        let request = BulkTasksRequest {
            action: bulk.action.into(),
            filter: Some(filter.clone().into()),
            all: false,
            limit: Some(PORTION),
            page_token: bulk.cursor.clone(),
            dry_run: false,
        };
        let answer = match tasks.bulk_tasks(request).await {
            Ok(answer) => answer.into_inner(),
            // Nobody knows whether this portion was changed. It is safe to repeat.
            Err(status) => return Some(status),
        };
        let done = &mut bulk.done;
        done.changed += u64::from(answer.changed);
        done.skipped += u64::from(answer.skipped);
        done.refused += u64::from(answer.refused);
        done.refusal = done.refusal.take().or(answer.refusal_message);
        let before = std::mem::replace(&mut bulk.cursor, answer.next_page_token);
        bulk.cursor.as_ref()?;
        if bulk.cursor == before {
            return Some(Status::resource_exhausted("the server cannot change the next task now"));
        }
        if Instant::now() >= until {
            return None;
        }
    }
}

/// What is done so far, and the form that goes on.
fn progress(bulk: &Bulk, is_over: bool, stopped: Option<Status>) -> View {
    let (verb, doing, did, _) = words(bulk.action);
    let done = &bulk.done;
    let all = done.changed + done.skipped + done.refused;
    let goes_on = !is_over && stopped.is_none();
    let title = if is_over { format!("{verb}: done") } else { format!("{doing} tasks") };
    let body = html! {
        div.head { h1 { (title) } }
        @if let Some(status) = stopped { (trouble_panel(&Trouble::from(status))) }
        div.card.progress {
            @if let Some(whole) = bulk.whole.filter(|whole| *whole > 0 && !is_over) {
                (share(all, whole, &format!("{} of {}", count(all), count(whole))))
            }
            p role="status" {
                strong { (plural(done.changed, "task", "tasks")) " " (did) }
                @if let Some(whole) = bulk.whole.filter(|_| !is_over) { " of " (count(whole)) }
            }
            @if done.skipped > 0 { p { (count(done.skipped)) " left as they were, because of their status." } }
            @if done.refused > 0 {
                p.bad { (count(done.refused)) " refused" @if let Some(why) = &done.refusal { ": " bdi { (why) } } }
            }
        }
        @if is_over {
            p { a.button href=(bulk.back()) { "Back to the list" } }
        } @else {
            (further(bulk, all, goes_on))
        }
    };
    View::new(title, "tasks", body)
}

/// The form that goes on. The script sends it if nothing went wrong.
fn further(bulk: &Bulk, all: u64, goes_on: bool) -> Markup {
    let pairs = link::to("", bulk.pairs.iter().map(|(name, value)| (name, value)));
    let query = pairs.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let done = &bulk.done;
    let hidden = |name: &str, value: &str| html! { input type="hidden" name=(name) value=(value); };
    html! {
        form.actions action="tasks" method="post" data-auto[goes_on] {
            (hidden("action", bulk.action.word()))
            (hidden("filter", query))
            (hidden("confirmed", "yes"))
            (hidden("changed", &done.changed.to_string()))
            (hidden("skipped", &done.skipped.to_string()))
            (hidden("refused", &done.refused.to_string()))
            @if let Some(why) = &done.refusal { (hidden("refusal", why)) }
            @if let Some(whole) = bulk.whole { (hidden("whole", &whole.to_string())) }
            @match &bulk.ids {
                Some(ids) => { @for id in ids { (hidden("id", id)) } }
                None => {
                    (hidden("scope", "filter"))
                    @if let Some(cursor) = &bulk.cursor { (hidden("cursor", cursor)) }
                }
            }
            button.main type="submit" { "Continue (" (count(all)) " done)" }
            a.button href=(bulk.back()) { "Stop" }
        }
    }
}

#[cfg(test)]
mod tests;
