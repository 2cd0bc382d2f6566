//! The page of the editor.

use maud::{Markup, html};
use rota_proto::{
    json::Words,
    v1::{CatchUp, Overlap, ScheduleDefinition, SchedulePreview},
};

use super::{Draft, Said, changes, fields::Wrong, json, upcoming};
use crate::{
    layout::View,
    link,
    parts::{failed, name},
};

pub(super) fn view(draft: &Draft, said: &Said) -> View {
    let title = match &draft.schedule {
        Some(schedule) => format!("Edit {schedule}"),
        None => "New schedule".to_owned(),
    };
    let body = html! {
        div.head {
            h1 {
                @match &draft.schedule {
                    Some(schedule) => { "Edit " (name(schedule)) }
                    None => "New schedule",
                }
            }
        }
        div.said { (notice(draft, said)) }
        div.columns {
            section.card aria-label="Definition" { (form(draft)) }
            section #preview aria-labelledby="preview-title" {
                h2 #preview-title { "Preview" }
                @match said {
                    Said::Preview(both) => (preview(draft, &both.0, &both.1)),
                    _ => p.note { "Preview the definition to see its next runs, and what changes. Then save it." },
                }
            }
        }
    };
    View::new(title, "schedules", body)
}

fn notice(draft: &Draft, said: &Said) -> Markup {
    html! {
        @match said {
            Said::Nothing | Said::Preview(_) => {}
            Said::Wrong(wrong) => (wrong_fields(wrong)),
            Said::Refused(status) => (failed((**status).clone())),
            Said::Conflict => {
                div.trouble role="alert" {
                    p.what { "Somebody else has saved this schedule meanwhile" }
                    p { "Nothing was changed, and your texts are below. They differ from the saved version in this:" }
                    @if let Some(saved) = &draft.saved { (changes::list(saved, &draft.base)) }
                    p.todo { "Correct the texts where the other change should stay. Then preview and save again." }
                }
            }
            Said::Exists(other) => {
                div.trouble role="alert" {
                    p.what { "There is a schedule of this name" }
                    p { a href=(link::to("schedule", [("name", other)])) { (name(other)) } " exists, and was not changed." }
                    p.todo { "Choose another name, or edit the existing schedule." }
                }
            }
        }
    }
}

fn wrong_fields(wrong: &[Wrong]) -> Markup {
    html! {
        div.trouble role="alert" {
            p.what { "The definition cannot be read" }
            ul {
                @for (field, message) in wrong { li { code { (field) } " " bdi { (message) } } }
            }
        }
    }
}

/// What the form knows beside its fields.
fn hidden(draft: &Draft) -> Markup {
    html! {
        @if let Some(schedule) = &draft.schedule {
            input type="hidden" name="schedule" value=(schedule);
        }
        input type="hidden" name="version" value=(draft.version);
        input type="hidden" name="base" value=(json(&draft.base));
    }
}

fn form(draft: &Draft) -> Markup {
    let is_json = draft.text.is_some();
    html! {
        form.editor action="schedule-edit" method="post" {
            (hidden(draft))
            input type="hidden" name="form" value=(if is_json { "json" } else { "fields" });
            // The first button of a form is the one that the key Enter presses.
            div.editor-head {
                button.main type="submit" name="do" value="preview" { "Preview" }
                @if is_json {
                    button type="submit" name="do" value="fields" { "Edit as a form" }
                } @else {
                    button type="submit" name="do" value="json" { "Edit as JSON" }
                }
                a.button.quiet href=(back(draft)) { "Cancel" }
            }
            @match &draft.text {
                Some(text) => {
                    label { "Definition"
                        textarea.tall dir="auto" name="definition" rows="28" spellcheck="false" { (text) }
                    }
                }
                None => (inputs(draft)),
            }
        }
    }
}

fn back(draft: &Draft) -> String {
    match &draft.schedule {
        Some(schedule) => link::to("schedule", [("name", schedule)]),
        None => link::page("schedules"),
    }
}

fn inputs(draft: &Draft) -> Markup {
    let input = |label: &str, name: &str, hint: &str| {
        html! {
            label { (label)
                input dir="auto" type="text" name=(name) value=(draft.fields.text(name)) placeholder=(hint) autocomplete="off"
                    spellcheck="false" maxlength="1000";
            }
        }
    };
    let payload = draft.base.template.as_ref().map(|template| &template.payload[..]);
    let has_field = payload.is_none_or(|payload| std::str::from_utf8(payload).is_ok());
    html! {
        @if draft.schedule.is_none() { (input("Name", "new_name", "nightly-report")) }
        (input("Description", "description", ""))
        fieldset {
            legend { "When" }
            label { "Cron expressions, one in a line"
                textarea.short dir="auto" name="expressions" rows="3" placeholder="30 2 * * *" spellcheck="false" {
                    (draft.fields.text("expressions"))
                }
            }
            div.pair {
                (input("Or every", "every", "90m"))
                (input("Time zone", "time_zone", "Europe/Berlin"))
            }
            (further(&draft.base))
        }
        fieldset {
            legend { "What" }
            div.pair {
                (input("Kind", "kind", "report"))
                (input("Queue", "queue", "default"))
            }
            @if has_field {
                label { "Payload, as JSON"
                    textarea.short dir="auto" name="payload" rows="4" placeholder="{\"days\": 1}" spellcheck="false" {
                        (draft.fields.text("payload"))
                    }
                }
            } @else {
                p.note { "The payload is not text. It stays as it is." }
            }
            div.pair {
                (input("Timeout of an attempt", "timeout", "30m"))
                (input("Priority, 0 to 9", "priority", "5"))
            }
        }
        fieldset {
            legend { "Rules" }
            div.pair {
                (choice::<Overlap>("While an earlier task runs", "overlap", draft, |word| match word {
                    "skip" => "skip the tick",
                    "queue_one" => "let one tick wait",
                    "queue_all" => "let ticks wait",
                    "cancel_running" => "cancel the running task",
                    "allow" => "run beside it",
                    other => other,
                }))
                (choice::<CatchUp>("Ticks that come late", "catch_up", draft, |word| match word {
                    "last" => "only the last creates a task",
                    "all" => "each creates a task",
                    "none" => "none creates a task",
                    other => other,
                }))
            }
            (input("Pause after failures in a row, 0 for never", "pause_on_failure", "0"))
        }
    }
}

fn choice<T: Words>(
    label: &str,
    name: &str,
    draft: &Draft,
    shown: impl Fn(&'static str) -> &'static str,
) -> Markup {
    let chosen = draft.fields.text(name);
    html! {
        label { (label)
            select name=(name) {
                @for word in T::WORDS {
                    option value=(word) selected[*word == chosen] { (shown(word)) }
                }
            }
        }
    }
}

/// Says that there is more than the form shows.
fn further(base: &ScheduleDefinition) -> Markup {
    let exclude = base.exclude.as_ref();
    let has = [
        (!base.dates.is_empty(), "single dates"),
        (exclude.is_some_and(|one| *one != Default::default()), "exclusions"),
        (base.start.as_ref().or(base.end.as_ref()).is_some(), "a start or an end"),
        (base.max_runs.is_some(), "a limit of runs"),
    ];
    let has: Vec<_> = has.into_iter().filter_map(|(is, what)| is.then_some(what)).collect();
    html! {
        @if !has.is_empty() {
            p.note { "It also has " (has.join(", ")) ", which stay. Edit them as JSON." }
        }
    }
}

fn preview(draft: &Draft, definition: &ScheduleDefinition, preview: &SchedulePreview) -> Markup {
    html! {
        div.card.preview {
            p { strong { bdi { (preview.sentence) } } }
            (upcoming::warnings(&preview.warnings))
            @if preview.upcoming.is_empty() {
                p.bad { "It has no run in the future." }
            } @else {
                h3 { "Next runs, " bdi { (preview.time_zone) } }
                (upcoming::short(&preview.upcoming))
            }
            @if let Some(saved) = &draft.saved {
                h3 { "Changes" }
                (changes::list(saved, definition))
            }
            form action="schedule-edit" method="post" {
                @if let Some(schedule) = &draft.schedule {
                    input type="hidden" name="schedule" value=(schedule);
                }
                input type="hidden" name="version" value=(draft.version);
                input type="hidden" name="base" value=(json(definition));
                // Exactly what is shown here, whatever was typed since.
                input type="hidden" name="form" value="json";
                input type="hidden" name="definition" value=(json(definition));
                button.main type="submit" name="do" value="save" {
                    @if draft.schedule.is_some() { "Save the schedule" } @else { "Create the schedule" }
                }
            }
        }
    }
}
