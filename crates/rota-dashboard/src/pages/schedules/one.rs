//! One schedule: what it does and why, its next runs, what became of its ticks, and its definition.

use maud::{Markup, html};
use rota_proto::{
    Date,
    json::Words,
    v1::{
        Backfill, ListTasksRequest, ListTicksRequest, ListTicksResponse, MissedTick,
        PreviewScheduleRequest, Schedule, SchedulePreview, ScheduleRequest, ScheduleState,
        TaskFilter,
    },
};
use tonic::{Response, Status};

use super::{
    act::{cancel_question, delete_question, trigger_question},
    edit::{json, upcoming},
    ticks::{self, Ended},
};
use crate::{
    layout::View,
    link,
    pages::change::{Change, pause_sheet, paused_by},
    parts::{
        Pager, copy, count, empty, facts, failed, id, labels, name, pager, plural, share, state,
        time, when,
    },
    trouble::Trouble,
    visit::Visit,
};

/// What a pause does.
const PAUSE: &str = "Its ticks are skipped until somebody resumes it. Running tasks continue.";
/// Coming runs to show.
const RUNS: u32 = 10;
/// Ticks on a page.
const TICKS: u32 = 30;
/// Tasks to read for what became of ticks.
const TASKS: u32 = 100;

/// What the API says about a schedule. A part can fail while others are there.
struct Seen {
    schedule: Schedule,
    preview: Result<SchedulePreview, Status>,
    ticks: Result<ListTicksResponse, Status>,
    ended: Ended,
}

pub(super) async fn show(visit: &Visit) -> Result<View, Trouble> {
    let name = visit.pairs.need("name")?;
    let (mut one, mut other, mut third) =
        (visit.api.schedules(), visit.api.schedules(), visit.api.schedules());
    let coming = PreviewScheduleRequest { name: name.to_owned(), count: Some(RUNS), from: None };
    let page_token = visit.pairs.get("cursor").unwrap_or_default().to_owned();
    let past = ListTicksRequest {
        name: name.to_owned(),
        page_size: TICKS,
        page_token,
        ..ListTicksRequest::default()
    };
    let (schedule, preview, ticks, ended) = tokio::join!(
        one.get_schedule(ScheduleRequest { name: name.to_owned() }),
        other.preview_schedule(coming),
        third.list_ticks(past),
        ended(visit, name),
    );
    let seen = Seen {
        schedule: schedule?.into_inner(),
        preview: preview.map(Response::into_inner),
        ticks: ticks.map(Response::into_inner),
        ended,
    };
    Ok(View::new(format!("Schedule {name}"), "schedules", page(visit, &seen)))
}

/// The states of the newest tasks of the schedule. Without them, ticks still have their outcomes.
async fn ended(visit: &Visit, name: &str) -> Ended {
    let filter = TaskFilter { schedule: Some(name.to_owned()), ..TaskFilter::default() };
    let request =
        ListTasksRequest { filter: Some(filter), page_size: TASKS, ..ListTasksRequest::default() };
    let tasks = visit.api.tasks().list_tasks(request).await;
    let tasks = tasks.map(|list| list.into_inner().tasks).unwrap_or_default();
    tasks.into_iter().map(|task| (task.id.clone(), task.status())).collect()
}

fn page(visit: &Visit, seen: &Seen) -> Markup {
    let schedule = &seen.schedule;
    html! {
        div.head {
            h1 { (name(&schedule.name)) }
            div.actions { (actions(schedule)) }
        }
        div #state data-live="schedules" { (notices(schedule)) }
        div #facts.card data-live="schedules" { (about(schedule)) }
        section aria-labelledby="runs-title" {
            h2 #runs-title { "Next runs" }
            div #runs data-live="schedules" { (runs(seen)) }
        }
        section aria-labelledby="ticks-title" {
            div.section-head {
                h2 #ticks-title { "Ticks" }
                a href=(link::to("tasks", [("schedule", &schedule.name)])) { "Its tasks" }
            }
            div #ticks data-live="schedules tasks" { (past(visit, seen)) }
        }
        @if let Some(definition) = &schedule.definition {
            @let text = json(definition);
            section aria-labelledby="definition-title" {
                div.section-head {
                    h2 #definition-title { "Definition" }
                    (copy(&text, "Copy the definition"))
                }
                pre tabindex="0" { bdi { (text) } }
            }
        }
    }
}

fn actions(schedule: &Schedule) -> Markup {
    let name = schedule.name.as_str();
    let version = schedule.version.to_string();
    let trigger = [("name", name), ("do", "trigger")];
    let delete = [("name", name), ("do", "delete"), ("version", version.as_str())];
    let change = |fields, label, question: String, class| {
        let question = Some(question);
        Change { page: "schedule", fields, label, question, class, title: None }.form()
    };
    html! {
        (change(&trigger, "Trigger", trigger_question(name), ""))
        @match schedule.state() {
            ScheduleState::Paused => (resume(name, "")),
            ScheduleState::Active => (pause_sheet("schedule", name, PAUSE, "Pause the schedule")),
            _ => {}
        }
        a.button href=(link::to("schedule-backfill", [("name", name)])) { "Backfill" }
        a.button href=(link::to("schedule-edit", [("name", name)])) { "Edit" }
        a.button href=(link::to("schedule-edit", [("copy", name)])) { "Copy" }
        (change(&delete, "Delete", delete_question(name), "quiet"))
    }
}

fn resume(name: &str, class: &str) -> Markup {
    let fields = [("name", name), ("do", "resume")];
    Change { page: "schedule", fields: &fields, label: "Resume", class, ..Change::default() }.form()
}

/// What somebody should know first: a pause, failures, a backfill that is under way.
fn notices(schedule: &Schedule) -> Markup {
    let failures = u64::from(schedule.failures_in_a_row);
    html! {
        @if let Some(pause) = &schedule.pause {
            div.notice data-state="paused" {
                p {
                    strong {
                        @if pause.on_failure { "Paused, because its tasks failed" } @else { "Paused" }
                    }
                    (paused_by(&pause.by, pause.at, &pause.note))
                }
                (resume(&schedule.name, "small"))
            }
        }
        @if failures > 0 {
            div.notice data-state="failed" {
                p {
                    strong { (plural(failures, "task", "tasks")) " failed in a row." }
                    " Last success: " (when(schedule.last_success_time))
                }
                a href=(link::to("tasks", [("schedule", schedule.name.as_str()), ("status", "failed")])) { "Failed tasks" }
            }
        }
        @if let Some(backfill) = &schedule.backfill { (under_way(&schedule.name, backfill)) }
    }
}

fn under_way(name: &str, backfill: &Backfill) -> Markup {
    let second =
        |at: Option<Date>| u64::try_from(at.unwrap_or_default().seconds).unwrap_or_default();
    let from = second(backfill.from);
    let whole = second(backfill.to).saturating_sub(from);
    let done = second(backfill.decided_until).saturating_sub(from);
    html! {
        div.notice data-state="running" {
            div {
                p {
                    strong { "Backfill" } " from " (when(backfill.from)) " to " (when(backfill.to)) ", done until "
                    (when(backfill.decided_until)) ": "
                    (plural(backfill.created.into(), "task", "tasks")) " created, "
                    (count(backfill.present)) " present, " (count(backfill.refused)) " refused"
                }
                (share(done, whole, "Part of the backfill that is done"))
            }
            (Change {
                page: "schedule",
                fields: &[("name", name), ("do", "cancel-backfill")],
                label: "Cancel the backfill",
                question: Some(cancel_question(name)),
                class: "small",
                title: None,
            }.form())
        }
    }
}

fn about(schedule: &Schedule) -> Markup {
    let definition = schedule.definition.clone().unwrap_or_default();
    let template = definition.template.clone().unwrap_or_default();
    let next = match (schedule.state(), schedule.next_time) {
        (ScheduleState::Active, Some(next)) => time(next),
        (ScheduleState::Paused, _) => html! { span.none { "none while paused" } },
        _ => html! { span.none { "none" } },
    };
    let tasks = html! {
        (name(&template.kind))
        @if let Some(queue) = &template.queue {
            " in " a href=(link::to("queue", [("name", queue)])) { (name(queue)) }
        }
    };
    let list = |times: &[Date]| {
        (!times.is_empty()).then(|| html! { @for at in times { (time(*at)) br; } })
    };
    html! {
        p.lead { (state(schedule.state().word())) " " strong { bdi { (schedule.sentence) } } }
        @if let Some(description) = definition.description.as_ref().filter(|text| !text.is_empty()) {
            p.lead { bdi { (description) } }
        }
        (facts([
            ("Next run", Some(next)),
            ("Last run", Some(when(schedule.last_fired_time))),
            ("Last success", Some(when(schedule.last_success_time))),
            ("Last missed", schedule.last_missed.as_ref().map(missed)),
            ("Running task", schedule.running_task.as_ref().map(|task| id(task))),
            ("Waiting ticks", list(&schedule.queued_times)),
            ("Runs left", schedule.remaining_runs.map(|left| html! { (count(left)) })),
            ("Time zone", Some(html! { bdi { (schedule.time_zone) } })),
            ("Creates", Some(tasks)),
            ("Labels", (!definition.labels.is_empty()).then(|| labels(&definition.labels))),
            ("Version", Some(html! { (count(schedule.version)) ", since " (when(schedule.updated_at)) })),
        ]))
    }
}

fn runs(seen: &Seen) -> Markup {
    let preview = match &seen.preview {
        Ok(preview) => preview,
        Err(status) => return failed(status.clone()),
    };
    let schedule = &seen.schedule;
    html! {
        @if preview.upcoming.is_empty() {
            (empty("It has no more runs.", "All its times are in the past. Edit the definition to add others.", None))
        } @else {
            @if schedule.state() == ScheduleState::Paused {
                p.note.gap { "While the schedule is paused, all of these are skipped." }
            }
            (upcoming::table(&preview.upcoming, Some(&schedule.name)))
        }
        (upcoming::warnings(&preview.warnings))
    }
}

fn past(visit: &Visit, seen: &Seen) -> Markup {
    let list = match &seen.ticks {
        Ok(list) => list,
        Err(status) => return failed(status.clone()),
    };
    html! {
        @if list.ticks.is_empty() {
            (empty("No tick was decided yet.", "The first appears here at the next run.", None))
        } @else {
            @if visit.pairs.get("cursor").is_none() { p.gap { (ticks::strip(&list.ticks, &seen.ended)) } }
            (ticks::table(&list.ticks, &seen.ended))
        }
        (pager(&Pager { visit, next: list.next_page_token.as_deref(), first: "Newest" }))
    }
}

/// A tick that was missed or refused, and why.
fn missed(tick: &MissedTick) -> Markup {
    html! { (when(tick.nominal_time)) " " (ticks::outcome(tick.outcome(), tick.reason)) }
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::{
        ListTasksResponse, ScheduleDefinition, SchedulePause, SkippedBy, Task, TaskStatus,
        TaskTemplate, Tick, TickOutcome, UpcomingRun,
    };

    use super::*;
    use crate::{apart::assert_apart, fake::Fake};

    const HOSTILE: &str = "n/\"><script>alert(1)</script>\u{202e}";

    fn fake() -> Fake {
        let template = TaskTemplate { kind: HOSTILE.to_owned(), ..TaskTemplate::default() };
        let definition = ScheduleDefinition {
            template: Some(template),
            description: Some(HOSTILE.to_owned()),
            ..ScheduleDefinition::default()
        };
        let pause = SchedulePause {
            by: HOSTILE.to_owned(),
            note: HOSTILE.to_owned(),
            ..SchedulePause::default()
        };
        let schedule = Schedule {
            name: HOSTILE.to_owned(),
            definition: Some(definition),
            version: 9_007_199_254_740_993,
            state: ScheduleState::Paused.into(),
            sentence: HOSTILE.to_owned(),
            time_zone: HOSTILE.to_owned(),
            running_task: Some(HOSTILE.to_owned()),
            pause: Some(pause),
            backfill: Some(Backfill { created: 1234, ..Backfill::default() }),
            failures_in_a_row: 2,
            ..Schedule::default()
        };
        let run = |fires| UpcomingRun {
            nominal_time: Some("2026-03-08T07:00:00Z".parse().expect("a date")),
            local_time: "2026-03-08T03:00:00-04:00".to_owned(),
            utc_offset_seconds: -4 * 3600,
            fires,
            skipped_by: (!fires).then(|| SkippedBy::Request.into()),
            skip_reason: (!fires).then(|| HOSTILE.to_owned()),
            moved_from: fires.then(|| HOSTILE.to_owned()),
            ..UpcomingRun::default()
        };
        let preview = SchedulePreview {
            upcoming: vec![run(true), run(false)],
            warnings: vec![HOSTILE.to_owned()],
            ..SchedulePreview::default()
        };
        let tick = Tick {
            outcome: TickOutcome::Fired.into(),
            count: 1,
            task_id: Some(HOSTILE.to_owned()),
            ..Tick::default()
        };
        let task =
            Task { id: HOSTILE.to_owned(), status: TaskStatus::Failed.into(), ..Task::default() };
        Fake::default()
            .with("GetSchedule", &schedule)
            .with("PreviewSchedule", &preview)
            .with("ListTicks", &ListTicksResponse { ticks: vec![tick], next_page_token: None })
            .with(
                "ListTasks",
                &ListTasksResponse { tasks: vec![task], ..ListTasksResponse::default() },
            )
    }

    #[tokio::test]
    async fn a_hostile_schedule_stays_text() {
        let html =
            show(&fake().visit("schedule", "name=n")).await.expect("a page").body.into_string();
        assert!(!html.contains("<script") && !html.contains("style=\""), "{html}");
        assert_apart(&html);
        for text in [
            "9,007,199,254,740,993",
            "name=\"version\" value=\"9007199254740993\"",
            "1,234 tasks created",
            "2 tasks failed in a row",
            ">03:00:00 -04:00<",
            "2026-03-08 07:00:00<",
            "value=\"skip\"",
            "value=\"keep\"",
            "data-state=\"failed\"",
        ] {
            assert!(html.contains(text), "{text} is missing in {html}");
        }
    }

    #[tokio::test]
    async fn a_part_that_fails_leaves_the_others() {
        let fake = fake().refusing("PreviewSchedule", Status::unavailable("no leader"));
        let fake = fake.refusing("ListTasks", Status::unavailable("no leader"));
        let html =
            show(&fake.visit("schedule", "name=n")).await.expect("a page").body.into_string();
        assert!(html.contains("no leader") && html.contains("data-state=\"fired\""), "{html}");
        let gone = fake.refusing("GetSchedule", Status::not_found("gone"));
        assert!(show(&gone.visit("schedule", "name=n")).await.is_err());
    }
}
