//! Changes the definition of a waiting task.

use maud::{Markup, html};
use rota_proto::{
    FieldMask,
    v1::{Task, TaskChange, UpdateTaskRequest},
};

use super::{page_of, read};
use crate::{
    flash,
    layout::{Shown, View},
    link,
    pages::draft::{self, Faults, Form},
    parts::{cut, size, trouble_panel},
    trouble::Trouble,
    visit::{Pairs, Visit},
};

pub(in crate::pages) async fn show(visit: &Visit) -> Result<Shown, Trouble> {
    let task = read(visit, visit.pairs.need("id")?).await?;
    let mut typed = now(&task);
    typed.0.push(("version".to_owned(), task.version.to_string()));
    Ok(view(&task, &typed, &Faults::default(), None).into())
}

/// Sends what was changed in the form.
pub(in crate::pages) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let id = visit.pairs.need("id")?;
    let task = read(visit, id).await?;
    let paths = draft::changed(&now(&task), &visit.pairs);
    let to = |flash| Shown::See(link::to("task", [("id", id.to_owned()), flash::pair(flash)]));
    if paths.is_empty() {
        return Ok(to("unchanged"));
    }
    let (new, mut faults) = draft::read(&visit.pairs);
    let version = visit.pairs.need("version")?.parse();
    let version = version.map_err(|_| Trouble::Form("It has no version."))?;
    if !faults.are_none() {
        return Ok(view(&task, &visit.pairs, &faults, None).into());
    }
    let change = TaskChange {
        description: new.description,
        payload: new.payload,
        labels: new.labels,
        priority: new.priority,
        run_at: new.run_at,
        delay: new.delay,
        expires_at: new.expires_at,
        timeout: new.timeout,
        retry: new.retry,
        retention: new.retention,
    };
    let request = UpdateTaskRequest {
        id: id.to_owned(),
        change: Some(change),
        update_mask: Some(FieldMask { paths: paths.into_iter().map(str::to_owned).collect() }),
        expected_version: Some(version),
    };
    match visit.api.tasks().update_task(request).await.map_err(Trouble::from) {
        Ok(_) => Ok(to("changed")),
        Err(Trouble::SignIn) => Err(Trouble::SignIn),
        Err(trouble) => {
            faults.extend(trouble.words().fields);
            Ok(view(&task, &visit.pairs, &faults, Some(&trouble)).into())
        }
    }
}

/// What the form would say now.
fn now(task: &Task) -> Pairs {
    let mut pairs = draft::of_task(task);
    pairs.0.extend(draft::times_of(task));
    pairs
}

fn view(task: &Task, typed: &Pairs, faults: &Faults, trouble: Option<&Trouble>) -> View {
    let form = Form { typed, faults, exists: true, payload: fixed_payload(task) };
    let body = html! {
        div.head { h1 { "Edit " bdi { (task.kind) } } }
        p.id.whole { bdi { (task.id) } }
        @match trouble {
            Some(trouble) => {
                (trouble_panel(trouble))
                p { a href=(link::to("edit", [("id", &task.id)])) { "Load the form with the current values" } }
            }
            None if !faults.are_none() => p.trouble role="alert" { "Nothing was changed. Correct the marked fields." },
            None => {}
        }
        form.draft action="edit" method="post" {
            input type="hidden" name="id" value=(task.id);
            input type="hidden" name="version" value=(typed.get("version").unwrap_or_default());
            (draft::fields(&form))
            div.actions {
                button.main type="submit" { "Save" }
                a.button href=(page_of(&task.id)) { "Go back" }
            }
        }
    };
    View::new(format!("Edit {}", cut(&task.id)), "tasks", body)
}

/// Why the payload cannot be changed here, if it cannot.
fn fixed_payload(task: &Task) -> Option<Markup> {
    let len = task.payload.len();
    (!draft::is_editable(&task.payload)).then(|| {
        html! {
            p.note {
                "The payload has " (size(len)) " and "
                @if len > draft::EDITED { "is too large to be changed here." } @else { "is not JSON." }
                " It stays as it is. Change it with "
                code { "rota task update " bdi { (task.id) } " --payload @FILE" } "."
            }
        }
    })
}
