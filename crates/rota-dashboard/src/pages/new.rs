//! Creates a task.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::{Markup, html};
use ring::rand::{SecureRandom, SystemRandom};
use rota_proto::v1::{CreateTaskRequest, Task};

use super::{
    draft::{self, Faults, Form},
    task,
};
use crate::{
    flash,
    layout::{Shown, View},
    link,
    parts::{cut, size, trouble_panel},
    trouble::Trouble,
    visit::{Pairs, Visit},
};

/// The task whose payload is sent with the form, if it is too large for it or not JSON.
const PAYLOAD_OF: &str = "payload_of";
const KEY: &str = "idempotency_key";

pub(super) async fn show(visit: &Visit) -> Result<Shown, Trouble> {
    let (mut typed, from) = match visit.pairs.get("from") {
        Some(id) => {
            let task = task::read(visit, id).await?;
            (draft::of_task(&task), Some(task))
        }
        // A link can fill the form.
        None => (visit.pairs.clone(), None),
    };
    if let Some(task) = from.as_ref().filter(|task| !draft::is_editable(&task.payload)) {
        typed.0.push((PAYLOAD_OF.to_owned(), task.id.clone()));
    }
    Ok(view(&typed, from.as_ref(), &Faults::default(), None).into())
}

/// Creates the task of the form.
pub(super) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let (mut new, mut faults) = draft::read(&visit.pairs);
    let from = match visit.pairs.get(PAYLOAD_OF) {
        Some(id) => Some(task::read(visit, id).await?),
        None => None,
    };
    if let Some(from) = &from {
        new.payload = from.payload.clone();
    }
    if !faults.are_none() {
        return Ok(view(&visit.pairs, from.as_ref(), &faults, None).into());
    }
    let request = CreateTaskRequest { task: Some(new) };
    match visit.api.tasks().create_task(request).await.map_err(Trouble::from) {
        Ok(answer) => {
            let answer = answer.into_inner();
            let id = answer.task.map(|task| task.id).unwrap_or_default();
            let told = if answer.created { "created" } else { "existed" };
            Ok(Shown::See(link::to("task", [("id", id), flash::pair(told)])))
        }
        Err(Trouble::SignIn) => Err(Trouble::SignIn),
        Err(trouble) => {
            faults.extend(trouble.words().fields);
            Ok(view(&visit.pairs, from.as_ref(), &faults, Some(&trouble)).into())
        }
    }
}

/// A key that makes it safe to send the form twice.
fn fresh_key() -> String {
    let mut bytes = [0; 16];
    // Without a key, a repeat creates a second task. That is no reason to show no form.
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => format!("page-{}", URL_SAFE_NO_PAD.encode(bytes)),
        Err(_) => String::new(),
    }
}

fn view(typed: &Pairs, from: Option<&Task>, faults: &Faults, trouble: Option<&Trouble>) -> View {
    let payload = typed.get(PAYLOAD_OF).zip(from).map(|(_, task)| payload_of(task));
    let form = Form { typed, faults, exists: false, payload };
    // After a refusal nothing holds the key. If nobody knows what happened, a repeat must have the same.
    let is_unknown = trouble.is_some_and(|trouble| trouble.status().is_server_error());
    let key = typed.get(KEY).filter(|_| is_unknown).map(str::to_owned);
    let body = html! {
        div.head { h1 { "New task" } }
        @if let Some(task) = from {
            p.note { "Filled from the task " a href=(link::to("task", [("id", &task.id)])) { bdi { (cut(&task.id)) } } "." }
        }
        @match trouble {
            Some(trouble) => (trouble_panel(trouble)),
            None if !faults.are_none() => p.trouble role="alert" { "Nothing was created. Correct the marked fields." },
            None => {}
        }
        form.draft action="new" method="post" {
            input type="hidden" name=(KEY) value=(key.unwrap_or_else(fresh_key));
            @if let Some(id) = typed.get(PAYLOAD_OF) { input type="hidden" name=(PAYLOAD_OF) value=(id); }
            (draft::fields(&form))
            div.actions {
                button.main type="submit" { "Create" }
                a.button href="tasks" { "Go back" }
            }
        }
    };
    View::new("New task", "new", body)
}

fn payload_of(task: &Task) -> Markup {
    html! {
        p.note {
            "The payload is that of the other task: " (size(task.payload.len())) ". It is too large for this form, or not JSON."
        }
    }
}
