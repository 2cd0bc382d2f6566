//! The changes of a schedule that need no page of their own.

use rota_proto::{
    Date,
    v1::{DeleteScheduleRequest, PauseScheduleRequest, ScheduleRequest, SkipTickRequest},
};
use tonic::Response;

use crate::{flash, layout::Shown, link, pages::confirm, trouble::Trouble, visit::Visit};

/// The question before a task is created by hand.
pub(super) fn trigger_question(name: &str) -> String {
    format!("Create a task of {name} now? The ticks of the schedule stay as they are.")
}

/// The question before a schedule is deleted.
pub(super) fn delete_question(name: &str) -> String {
    format!("Delete the schedule {name}? Its tasks stay. This cannot be undone.")
}

/// The question before a backfill ends early.
pub(super) fn cancel_question(name: &str) -> String {
    format!("Cancel the backfill of {name}? The tasks that it has created stay.")
}

pub(super) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let pairs = &visit.pairs;
    let name = pairs.need("name")?.to_owned();
    let ask = |question: &str| Ok(Shown::from(confirm::ask(visit, "schedules", question)));
    let back =
        |text| Ok(Shown::See(link::to("schedule", [("name", name.clone()), flash::pair(text)])));
    let request = || ScheduleRequest { name: name.clone() };
    let mut api = visit.api.schedules();
    let is_sure = visit.is_confirmed();
    match pairs.need("do")? {
        "trigger" if !is_sure => ask(&trigger_question(&name)),
        "trigger" => {
            let task = api.trigger_schedule(request()).await?.into_inner();
            Ok(Shown::See(link::to("task", [("id", task.id), flash::pair("schedule-triggered")])))
        }
        "pause" => {
            let text = |name: &str| pairs.get(name).map(|text| text.trim().to_owned());
            let request =
                PauseScheduleRequest { name: name.clone(), note: text("note"), by: text("by") };
            api.pause_schedule(request).await?;
            back("schedule-paused")
        }
        "resume" => {
            api.resume_schedule(request()).await?;
            back("schedule-resumed")
        }
        word @ ("skip" | "keep") => {
            let undo = word == "keep";
            let request =
                SkipTickRequest { name: name.clone(), nominal_time: Some(time(visit)?), undo };
            api.skip_tick(request).await.map(Response::into_inner)?;
            back(if undo { "tick-kept" } else { "tick-skipped" })
        }
        "delete" if !is_sure => ask(&delete_question(&name)),
        "delete" => {
            let expected_version = version(visit)?;
            api.delete_schedule(DeleteScheduleRequest { name, expected_version }).await?;
            Ok(Shown::See(link::to("schedules", [flash::pair("schedule-deleted")])))
        }
        "cancel-backfill" if !is_sure => ask(&cancel_question(&name)),
        "cancel-backfill" => {
            api.cancel_backfill(request()).await?;
            back("backfill-cancelled")
        }
        _ => Err(Trouble::Form("It asks for a change that this version does not know.")),
    }
}

fn wrong(name: &str, message: &dyn std::fmt::Display) -> Trouble {
    Trouble::Parameter { name: name.to_owned(), message: message.to_string() }
}

fn time(visit: &Visit) -> Result<Date, Trouble> {
    visit.pairs.need("time")?.parse().map_err(|error| wrong("time", &error))
}

/// The version that the page showed, so that a newer one is not changed by mistake.
pub(in crate::pages) fn version(visit: &Visit) -> Result<Option<u64>, Trouble> {
    let given = visit.pairs.get("version").map(str::parse);
    given.transpose().map_err(|error| wrong("version", &error))
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::{DeleteScheduleResponse, Schedule, Task};

    use super::*;
    use crate::fake::Fake;

    const NAME: &str = "n/\"><script>alert(1)</script>\u{202e}";
    const AT: &str = "2026-01-31T02:30:00.000Z";

    fn fake() -> Fake {
        let schedule = Schedule::default();
        let task = Task { id: "n/manual 1".to_owned(), ..Task::default() };
        Fake::default()
            .with("TriggerSchedule", &task)
            .with("PauseSchedule", &schedule)
            .with("ResumeSchedule", &schedule)
            .with("SkipTick", &schedule)
            .with("CancelBackfill", &schedule)
            .with("DeleteSchedule", &DeleteScheduleResponse::default())
    }

    async fn sent(fake: &Fake, more: &[(&str, &str)]) -> Shown {
        let pairs = [&[("name", NAME)], more].concat();
        act(&fake.form("schedule", &pairs)).await.expect("an answer")
    }

    #[tokio::test]
    async fn what_cannot_be_undone_is_asked_for() {
        let fake = fake();
        for word in ["trigger", "delete", "cancel-backfill"] {
            let Shown::Page(view) = sent(&fake, &[("do", word)]).await else { panic!("{word}") };
            let html = view.body.into_string();
            assert!(html.contains(word) && !html.contains("<script"), "{html}");
        }
        assert_eq!(fake.methods(), [""; 0]);
    }

    #[tokio::test]
    async fn each_form_makes_its_call() {
        let fake = fake();
        let yes = ("confirmed", "yes");
        let Shown::See(link) = sent(&fake, &[("do", "trigger"), yes]).await else { panic!() };
        assert_eq!(link, "task?id=n%2Fmanual+1&flash=schedule-triggered");
        sent(&fake, &[("do", "pause"), ("note", " <b>holiday</b> "), ("by", "")]).await;
        sent(&fake, &[("do", "resume")]).await;
        sent(&fake, &[("do", "skip"), ("time", AT)]).await;
        sent(&fake, &[("do", "keep"), ("time", AT)]).await;
        sent(&fake, &[("do", "cancel-backfill"), yes]).await;
        sent(&fake, &[("do", "delete"), ("version", "18446744073709551615"), yes]).await;

        let name = NAME.to_owned();
        let request = ScheduleRequest { name: name.clone() };
        for method in ["TriggerSchedule", "ResumeSchedule", "CancelBackfill"] {
            assert_eq!(
                fake.calls::<ScheduleRequest>(method),
                std::slice::from_ref(&request),
                "{method}"
            );
        }
        let note = Some("<b>holiday</b>".to_owned());
        let pause = PauseScheduleRequest { name: name.clone(), note, by: None };
        assert_eq!(fake.calls::<PauseScheduleRequest>("PauseSchedule"), [pause]);
        let skip = |undo| SkipTickRequest {
            name: name.clone(),
            nominal_time: Some(AT.parse().expect("a date")),
            undo,
        };
        assert_eq!(fake.calls::<SkipTickRequest>("SkipTick"), [skip(false), skip(true)]);
        let delete = DeleteScheduleRequest { name, expected_version: Some(u64::MAX) };
        assert_eq!(fake.calls::<DeleteScheduleRequest>("DeleteSchedule"), [delete]);
    }

    #[tokio::test]
    async fn a_form_of_another_version_is_refused() {
        for more in [[("do", "explode"), ("time", AT)], [("do", "skip"), ("time", "tomorrow")]] {
            let pairs = [&[("name", "n")], more.as_slice()].concat();
            assert!(act(&fake().form("schedule", &pairs)).await.is_err());
        }
    }
}
