//! Pauses or resumes many schedules: those that are selected, or all that match the filter. The page asks first and says
//! how many.

use maud::{Markup, html};
use rota_proto::v1::{
    ListSchedulesRequest, PauseScheduleRequest, PauseSchedulesRequest, ResumeSchedulesRequest,
    ScheduleFilter, ScheduleRequest, ScheduleState,
};
use tonic::Code;

use super::Asked;
use crate::{
    counts::HowMany,
    flash,
    layout::{Shown, View},
    link,
    pages::confirm,
    parts::count,
    trouble::Trouble,
    visit::{Pairs, Visit},
};

/// Schedules that one call changes, which is the most that the API allows.
const PORTION: u32 = 1000;
/// Calls of one request. A cluster with more schedules needs another press.
const CALLS: usize = 20;
/// Names that are shown before a change.
const SHOWN: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Pause,
    Resume,
}

impl Action {
    const ALL: [Self; 2] = [Self::Pause, Self::Resume];

    const fn word(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Pause => "Pause",
            Self::Resume => "Resume",
        }
    }

    /// The state that the action changes.
    const fn changes(self) -> ScheduleState {
        match self {
            Self::Pause => ScheduleState::Active,
            Self::Resume => ScheduleState::Paused,
        }
    }

    const fn told(self) -> &'static str {
        match self {
            Self::Pause => "schedules-paused",
            Self::Resume => "schedules-resumed",
        }
    }
}

/// What a form asks for.
struct Many {
    action: Action,
    asked: Asked,
    /// The names that are selected. `None` for all that match.
    names: Option<Vec<String>>,
}

impl Many {
    fn of(visit: &Visit) -> Result<Self, Trouble> {
        let pairs = &visit.pairs;
        let word = pairs.get("action").unwrap_or_default();
        let action = Action::ALL.into_iter().find(|action| action.word() == word);
        let action = action.ok_or(Trouble::Form("It names no action."))?;
        let list =
            Visit { pairs: Pairs::of(pairs.get("filter").unwrap_or_default()), ..visit.clone() };
        let asked = Asked::of(&list)?;
        let is_filter = pairs.get("scope") == Some("filter");
        let names: Vec<_> =
            pairs.all("id").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.is_empty() && !is_filter {
            return Err(Trouble::Form("No schedule is selected."));
        }
        Ok(Self { action, asked, names: (!is_filter).then_some(names) })
    }

    fn back(&self) -> String {
        link::to("schedules", self.asked.pairs(self.asked.state()))
    }

    /// The filter with the state alone that the action changes. `None` if the filter has another.
    fn narrowed(&self) -> Option<ScheduleFilter> {
        let state = self.action.changes();
        let fits = self.asked.state().is_none_or(|chosen| chosen == state);
        fits.then(|| ScheduleFilter { state: Some(state.into()), ..self.asked.filter.clone() })
    }
}

/// The bar below the list. Its form has the boxes of the rows.
pub(super) fn bar(asked: &Asked) -> Markup {
    let query = link::to("", asked.pairs(asked.state()));
    let query = query.split_once('?').map(|(_, query)| query).unwrap_or_default();
    html! {
        form #bulk.bulk action="schedules" method="post" {
            input type="hidden" name="filter" value=(query);
            span #chosen.scripted role="status" {}
            label { input type="checkbox" name="scope" value="filter"; " All that match the filter" }
            div.actions {
                @for action in Action::ALL {
                    button type="submit" name="action" value=(action.word()) { (action.verb()) }
                }
            }
        }
    }
}

pub(super) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let many = Many::of(visit)?;
    if !visit.is_confirmed() {
        return question(visit, &many).await.map(Shown::from);
    }
    let changed = match &many.names {
        Some(names) => each(visit, many.action, names).await?,
        None => matching(visit, &many).await?,
    };
    let told = flash::counted(many.action.told(), changed);
    let pairs = many.asked.pairs(many.asked.state());
    Ok(Shown::See(link::to("schedules", pairs.into_iter().chain([told]))))
}

/// Asks, with the number of schedules.
async fn question(visit: &Visit, many: &Many) -> Result<View, Trouble> {
    let verb = many.action.verb();
    let number = match &many.names {
        Some(names) => HowMany { number: names.len() as u64, or_more: false },
        None => how_many(visit, many).await?,
    };
    if number.number == 0 && !number.or_more {
        let body = html! {
            div.head { h1 { "Nothing to " (many.action.word()) } }
            p { "No schedule that matches the filter has a state that allows it." }
            p { a.button href=(many.back()) { "Go back" } }
        };
        return Ok(View::new("Schedules", "schedules", body));
    }
    let question = format!("{verb} {}?", number.of("schedule", "schedules"));
    let go = format!("{verb} the schedules");
    let about = about(many);
    let asked = confirm::Question { title: &question, about, go: &go, back: &many.back() };
    Ok(confirm::ask_about(visit, "schedules", &asked))
}

fn about(many: &Many) -> Markup {
    let pairs = many.asked.pairs(many.asked.state());
    html! {
        @if let Some(names) = &many.names {
            ul.ids {
                @for name in names.iter().take(SHOWN) { li { bdi { (name) } } }
                @if names.len() > SHOWN { li { "and " (count((names.len() - SHOWN) as u64)) " more" } }
            }
        } @else if pairs.is_empty() {
            p.bad { "There is no filter: these are all schedules whose state allows it." }
        } @else {
            p { "All schedules that match the filter, on all pages:" }
            ul.chosen.fixed {
                @for (name, value) in &pairs { li { span { (name) " " bdi { (value) } } } }
            }
        }
        @if many.action == Action::Pause {
            label { "Reason, for people" input dir="auto" type="text" name="note" maxlength="256" autocomplete="off"; }
        }
    }
}

/// Counts the schedules that the action changes, up to one page of the API.
async fn how_many(visit: &Visit, many: &Many) -> Result<HowMany, Trouble> {
    let Some(filter) = many.narrowed() else { return Ok(HowMany { number: 0, or_more: false }) };
    let request = ListSchedulesRequest {
        filter: Some(filter),
        page_size: PORTION,
        ..ListSchedulesRequest::default()
    };
    let list = visit.api.schedules().list_schedules(request).await?.into_inner();
    let or_more = list.next_page_token.is_some();
    Ok(HowMany { number: list.schedules.len() as u64, or_more })
}

/// Changes one schedule after the other. One that was deleted meanwhile is left out.
async fn each(visit: &Visit, action: Action, names: &[String]) -> Result<u64, Trouble> {
    let (mut api, mut changed) = (visit.api.schedules(), 0);
    for name in names {
        let name = name.clone();
        let done = match action {
            Action::Pause => {
                let request = PauseScheduleRequest { name, note: note(visit), by: None };
                api.pause_schedule(request).await
            }
            Action::Resume => api.resume_schedule(ScheduleRequest { name }).await,
        };
        match done {
            Ok(_) => changed += 1,
            Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => {}
            Err(status) => return Err(status.into()),
        }
    }
    Ok(changed)
}

async fn matching(visit: &Visit, many: &Many) -> Result<u64, Trouble> {
    let Some(filter) = many.narrowed() else { return Ok(0) };
    let (mut api, mut changed) = (visit.api.schedules(), 0);
    let (filter, limit) = (Some(filter), Some(PORTION));
    for _ in 0..CALLS {
        let filter = filter.clone();
        let done = match many.action {
            Action::Pause => {
                let note = note(visit);
                let request = PauseSchedulesRequest { filter, all: false, limit, note, by: None };
                api.pause_schedules(request).await?
            }
            Action::Resume => {
                let request = ResumeSchedulesRequest { filter, all: false, limit };
                api.resume_schedules(request).await?
            }
        };
        let done = done.into_inner().changed;
        changed += u64::from(done);
        if done < PORTION {
            break;
        }
    }
    Ok(changed)
}

fn note(visit: &Visit) -> Option<String> {
    visit.pairs.get("note").map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::{BulkSchedulesResponse, ListSchedulesResponse, Schedule};
    use tonic::Status;

    use super::*;
    use crate::{apart::assert_apart, fake::Fake};

    fn page(shown: Shown) -> String {
        let Shown::Page(view) = shown else { panic!("{shown:?}") };
        view.body.into_string()
    }

    #[tokio::test]
    async fn all_that_match_are_asked_for_with_their_number_and_then_paused() {
        let list = ListSchedulesResponse {
            schedules: vec![Schedule::default(); 3],
            ..ListSchedulesResponse::default()
        };
        let portions = std::sync::atomic::AtomicU32::new(0);
        let fake = Fake::default().with("ListSchedules", &list).answering(
            "PauseSchedules",
            move |_: PauseSchedulesRequest| {
                let before = portions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok(BulkSchedulesResponse { changed: if before == 0 { PORTION } else { 7 } })
            },
        );
        let form = "action=pause&scope=filter&filter=prefix%3Da%252F%26label%3Dteam%253D%253Cb%253E%25E2%2580%25AE";
        let asked = page(act(&fake.visit("schedules", form)).await.expect("a question"));
        assert!(asked.contains("Pause 3 schedules?") && asked.contains(">a/<"), "{asked}");
        assert!(asked.contains("team=&lt;b&gt;") && !asked.contains("<b>"), "{asked}");
        assert_apart(&asked);
        assert_eq!(fake.methods(), ["ListSchedules"]);
        let form = format!("{form}&confirmed=yes&note=+holiday+");
        let done = act(&fake.visit("schedules", &form)).await.expect("a change");
        let Shown::See(link) = done else { panic!("{done:?}") };
        assert_eq!(
            link,
            "schedules?prefix=a%2F&label=team%3D%3Cb%3E%E2%80%AE&flash=schedules-paused.1007"
        );
        let calls: Vec<PauseSchedulesRequest> = fake.calls("PauseSchedules");
        assert_eq!((calls.len(), calls[0].note.as_deref()), (2, Some("holiday")));
        let filter = calls[0].filter.as_ref().expect("a filter");
        assert_eq!((filter.prefix.as_deref(), filter.state()), (Some("a/"), ScheduleState::Active));
    }

    #[tokio::test]
    async fn a_selection_is_changed_one_by_one() {
        let fake = Fake::default().answering("ResumeSchedule", |request: ScheduleRequest| {
            match request.name.as_str() {
                "gone" => Err(Status::not_found("it is gone")),
                _ => Ok(Schedule::default()),
            }
        });
        let form = "action=resume&id=a%2Fb&id=gone&id=%3Cscript%3E%E2%80%AE&filter=state%3Dpaused";
        let asked = page(act(&fake.visit("schedules", form)).await.expect("a question"));
        assert!(asked.contains("Resume 3 schedules?") && !asked.contains("<script"), "{asked}");
        assert_apart(&asked);
        let done = act(&fake.visit("schedules", &format!("{form}&confirmed=yes"))).await;
        let Ok(Shown::See(link)) = done else { panic!("{done:?}") };
        assert_eq!(link, "schedules?state=paused&flash=schedules-resumed.2");
    }

    #[tokio::test]
    async fn what_has_no_effect_is_not_asked_for() {
        let fake = Fake::default();
        let form = "action=pause&scope=filter&filter=state%3Dpaused";
        let shown = page(act(&fake.visit("schedules", form)).await.expect("a page"));
        assert!(shown.contains("Nothing to pause"), "{shown}");
        for wrong in ["action=pause", "action=drop&id=a", "id=a", "action=pause&id=a&filter=x%3D1"]
        {
            assert!(act(&fake.visit("schedules", wrong)).await.is_err(), "{wrong}");
        }
        assert_eq!(fake.methods(), [""; 0]);
    }
}
