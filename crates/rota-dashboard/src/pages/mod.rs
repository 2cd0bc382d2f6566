//! The pages. A page reads its parameters, asks the API, and makes a [`View`](crate::layout::View).
//!
//! To add a page: write a module with `show`, and with `act` if it has forms; name it below; give it a place in the
//! navigation (`layout`) if it needs one.

mod attention;
mod calendars;
mod change;
mod cluster;
mod confirm;
mod draft;
mod failures;
pub(crate) mod login;
mod new;
mod overview;
mod queue;
mod queues;
mod schedules;
mod task;
mod tasks;
mod workers;

use crate::{layout::Shown, trouble::Trouble, visit::Visit};

/// Shows a page.
pub(crate) async fn show(visit: &Visit) -> Result<Shown, Trouble> {
    if let Some(shown) = schedules::show(visit).await {
        return shown;
    }
    if let Some(shown) = calendars::show(visit).await {
        return shown.map(Shown::from);
    }
    match visit.page.as_str() {
        "" => overview::show(visit).await.map(Shown::from),
        "tasks" => tasks::show(visit).await,
        "cluster" => cluster::show(visit).await.map(Shown::from),
        "queue" => queue::show(visit).await.map(Shown::from),
        "task" => task::show(visit).await,
        "edit" => task::show_edit(visit).await,
        "payload" | "result" => task::content(visit).await,
        "new" => new::show(visit).await,
        "failures" => failures::show(visit).await.map(Shown::from),
        "queues" => queues::show(visit).await.map(Shown::from),
        "workers" => workers::show(visit).await.map(Shown::from),
        _ => Err(Trouble::NoPage),
    }
}

/// Makes the change that a form asks for.
pub(crate) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    if let Some(done) = schedules::act(visit).await {
        return done;
    }
    if let Some(done) = calendars::act(visit).await {
        return done;
    }
    match visit.page.as_str() {
        "cluster" => cluster::act(visit).await,
        "queue" | "queues" => queue::act(visit).await,
        "workers" => workers::act(visit).await,
        "tasks" => tasks::act(visit).await,
        "task" => task::act(visit).await,
        "edit" => task::edit(visit).await,
        "new" => new::act(visit).await,
        _ => Err(Trouble::NoPage),
    }
}
