//! Calendars: sets of days that schedules share. A list, the page of one, and its form.

use maud::{Markup, html};
use rota_proto::v1::{
    Calendar, CalendarEntry, CalendarRequest, DeleteCalendarRequest, ListCalendarsRequest,
    ListCalendarsResponse, PutCalendarRequest,
};
use tonic::Response;

use super::{change::Change, confirm};
use crate::{
    flash,
    layout::{Shown, View},
    link,
    parts::{Pager, count, empty, facts, icon, name, pager, trouble_panel, when},
    trouble::Trouble,
    visit::Visit,
};

/// Entries on the page of a calendar. The form has all.
const SHOWN: usize = 400;

/// Shows a page about calendars. `None` if the name is of another page.
pub(super) async fn show(visit: &Visit) -> Option<Result<View, Trouble>> {
    Some(match visit.page.as_str() {
        "calendars" => list(visit).await,
        "calendar" => one(visit).await,
        "calendar-edit" => edit(visit).await,
        _ => return None,
    })
}

/// Makes a change of a calendar. `None` if the page is another.
pub(super) async fn act(visit: &Visit) -> Option<Result<Shown, Trouble>> {
    Some(match visit.page.as_str() {
        "calendar" => delete(visit).await,
        "calendar-edit" => save(visit).await,
        _ => return None,
    })
}

async fn list(visit: &Visit) -> Result<View, Trouble> {
    let page_token = visit.pairs.get("cursor").unwrap_or_default().to_owned();
    let request = ListCalendarsRequest { page_size: 100, page_token };
    let list = visit.api.calendars().list_calendars(request).await?.into_inner();
    let body = html! {
        div.head {
            h1 { "Calendars" }
            a.button href="calendar-edit" { (icon("new")) "New calendar" }
        }
        p.note { "Days that " a href="schedules" { "schedules" } " leave out or move, such as public holidays." }
        @if list.calendars.is_empty() {
            (empty(
                "There are no calendars yet.",
                "Create one with the button New calendar, or from a file of a calendar program:",
                Some("rota calendar import-ics holidays holidays.ics"),
            ))
        } @else {
            (table(&list))
        }
        (pager(&Pager { visit, next: list.next_page_token.as_deref(), first: "First" }))
    };
    Ok(View::new("Calendars", "schedules", body))
}

fn table(list: &ListCalendarsResponse) -> Markup {
    html! {
        div.scroll {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "Calendar" }
                        th.number scope="col" { "Entries" }
                        th.wide scope="col" { "Changed" }
                    }
                }
                tbody {
                    @for calendar in &list.calendars {
                        tr {
                            td.task {
                                span.kind { a href=(to(&calendar.name)) { (name(&calendar.name)) } }
                                @if let Some(text) = &calendar.description { div.note { bdi { (text) } } }
                            }
                            td.number { (count(calendar.entry_count)) }
                            td.wide { (when(calendar.updated_at)) }
                        }
                    }
                }
            }
        }
    }
}

fn to(calendar: &str) -> String {
    link::to("calendar", [("name", calendar)])
}

async fn read(visit: &Visit, name: &str) -> Result<Calendar, Trouble> {
    let request = CalendarRequest { name: name.to_owned() };
    Ok(visit.api.calendars().get_calendar(request).await.map(Response::into_inner)?)
}

fn delete_question(name: &str) -> String {
    format!("Delete the calendar {name}? This cannot be undone.")
}

async fn one(visit: &Visit) -> Result<View, Trouble> {
    let calendar = read(visit, visit.pairs.need("name")?).await?;
    let version = calendar.version.to_string();
    let fields = [("name", calendar.name.as_str()), ("version", &version)];
    let delete = Change {
        page: "calendar",
        fields: &fields,
        label: "Delete",
        question: Some(delete_question(&calendar.name)),
        ..Change::default()
    };
    let body = html! {
        div.head {
            h1 { bdi { (calendar.name) } }
            div.actions {
                a.button href=(link::to("calendar-edit", [("name", &calendar.name)])) { "Edit" }
                (delete.form())
            }
        }
        div.card {
            (facts([
                ("Description", calendar.description.as_ref().map(|text| html! { bdi { (text) } })),
                ("Entries", Some(html! { (count(calendar.entry_count)) })),
                ("Version", Some(html! { (count(calendar.version)) })),
                ("Created", Some(when(calendar.created_at))),
                ("Changed", Some(when(calendar.updated_at))),
            ]))
        }
        section aria-labelledby="days-title" {
            h2 #days-title { "Days" }
            (days(&calendar.entries))
        }
    };
    Ok(View::new(calendar.name.clone(), "schedules", body))
}

fn days(entries: &[CalendarEntry]) -> Markup {
    html! {
        @if entries.is_empty() { p.note { "It has no days." } } @else {
            div.scroll {
                table {
                    thead { tr { th scope="col" { "Day" } th scope="col" { "Note" } } }
                    tbody {
                        @for entry in entries.iter().take(SHOWN) {
                            tr {
                                td { code { (entry.days) } }
                                td { bdi { (entry.note.as_deref().unwrap_or_default()) } }
                            }
                        }
                    }
                }
            }
            @if entries.len() > SHOWN {
                p.note { "and " (count((entries.len() - SHOWN) as u64)) " more, which the form shows" }
            }
        }
    }
}

async fn delete(visit: &Visit) -> Result<Shown, Trouble> {
    let name = visit.pairs.need("name")?;
    if !visit.is_confirmed() {
        return Ok(confirm::ask(visit, "schedules", &delete_question(name)).into());
    }
    let expected_version = super::schedules::version(visit)?;
    let request = DeleteCalendarRequest { name: name.to_owned(), expected_version };
    visit.api.calendars().delete_calendar(request).await?;
    Ok(Shown::See(link::to("calendars", [flash::pair("calendar-deleted")])))
}

/// What the fields of the form have.
#[derive(Debug, Default)]
struct Typed {
    name: String,
    description: String,
    /// One entry a line: the days, and a note.
    days: String,
    ics: String,
    /// Version that the form is about. 0 for a new calendar.
    version: u64,
}

impl Typed {
    fn of(calendar: &Calendar) -> Self {
        let line = |entry: &CalendarEntry| {
            let note = entry.note.as_deref().unwrap_or_default();
            format!("{} {note}", entry.days).trim_end().to_owned()
        };
        Self {
            name: calendar.name.clone(),
            description: calendar.description.clone().unwrap_or_default(),
            days: calendar.entries.iter().map(line).collect::<Vec<_>>().join("\n"),
            ics: String::new(),
            version: calendar.version,
        }
    }

    fn sent(visit: &Visit) -> Result<Self, Trouble> {
        let text = |name| visit.pairs.get(name).unwrap_or_default().trim().to_owned();
        Ok(Self {
            name: text("name"),
            description: text("description"),
            days: text("days"),
            ics: text("ics"),
            version: super::schedules::version(visit)?.unwrap_or_default(),
        })
    }

    fn request(&self) -> PutCalendarRequest {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let lines = self.days.lines().map(str::trim).filter(|line| !line.is_empty());
        let entries = lines.map(|line| {
            let (days, note) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            CalendarEntry { days: days.to_owned(), note: filled(note.trim()) }
        });
        let ics = filled(&self.ics);
        PutCalendarRequest {
            name: self.name.clone(),
            entries: if ics.is_some() { Vec::new() } else { entries.collect() },
            description: filled(&self.description),
            ics,
            expected_version: Some(self.version),
        }
    }
}

async fn edit(visit: &Visit) -> Result<View, Trouble> {
    let typed = match visit.pairs.get("name") {
        Some(name) => Typed::of(&read(visit, name).await?),
        None => Typed::default(),
    };
    Ok(form(&typed, None))
}

async fn save(visit: &Visit) -> Result<Shown, Trouble> {
    let typed = Typed::sent(visit)?;
    match visit.api.calendars().put_calendar(typed.request()).await.map_err(Trouble::from) {
        Ok(answer) => {
            let told = if answer.into_inner().changed { "calendar-saved" } else { "unchanged" };
            Ok(Shown::See(link::to("calendar", [("name", typed.name), flash::pair(told)])))
        }
        Err(Trouble::SignIn) => Err(Trouble::SignIn),
        // What was typed stays.
        Err(trouble) => Ok(form(&typed, Some(&trouble)).into()),
    }
}

fn form(typed: &Typed, trouble: Option<&Trouble>) -> View {
    let exists = typed.version > 0;
    let title = if exists { "Edit the calendar" } else { "New calendar" };
    let back = if exists { to(&typed.name) } else { link::page("calendars") };
    let body = html! {
        div.head { h1 { (title) @if exists { " " bdi { (typed.name) } } } }
        @if let Some(trouble) = trouble { (trouble_panel(trouble)) }
        form.editor.card action="calendar-edit" method="post" {
            input type="hidden" name="version" value=(typed.version);
            @if exists { input type="hidden" name="name" value=(typed.name); } @else {
                label { "Name"
                    input dir="auto" type="text" name="name" value=(typed.name) maxlength="128" required autocomplete="off" spellcheck="false";
                }
            }
            label { "Description, for people"
                input dir="auto" type="text" name="description" value=(typed.description) maxlength="256" autocomplete="off";
            }
            label { "Days, one entry on each line"
                textarea dir="auto" name="days" rows="14" spellcheck="false"
                    placeholder="2026-12-24..2026-12-26 Christmas\n01-01 New Year, every year" { "\n" (typed.days) }
                span.note { "A date, a range with its last day, or a day of every year; then a note." }
            }
            details open[!typed.ics.is_empty()] {
                summary { "or the content of an iCalendar file (.ics)" }
                textarea dir="auto" name="ics" rows="8" spellcheck="false" aria-label="Content of an iCalendar file"
                    placeholder="BEGIN:VCALENDAR" { "\n" (typed.ics) }
                p.note { "It replaces all days." }
            }
            div.actions {
                button.main type="submit" { "Save" }
                a.button href=(back) { "Go back" }
            }
        }
    };
    View::new(title, "schedules", body)
}

#[cfg(test)]
mod tests {
    use rota_proto::v1::{DeleteCalendarResponse, PutCalendarResponse};
    use tonic::Status;

    use super::*;
    use crate::{apart::assert_apart, fake::Fake};

    const HOSTILE: &str = "c/\"><script>alert(1)</script>\u{202e}";

    fn calendar() -> Calendar {
        let entry = |days: &str, note: Option<&str>| CalendarEntry {
            days: days.to_owned(),
            note: note.map(str::to_owned),
        };
        Calendar {
            name: HOSTILE.to_owned(),
            entries: vec![
                entry("2026-12-24..2026-12-26", Some("Christmas <b>\u{202e}")),
                entry("01-01", None),
            ],
            entry_count: 2,
            description: Some("</textarea><script>\u{202e}".to_owned()),
            version: 3,
            ..Calendar::default()
        }
    }

    async fn html(fake: &Fake, page: &str, pairs: &[(&str, &str)]) -> String {
        let shown = show(&fake.form(page, pairs)).await.expect("a page of calendars");
        shown.expect("a page").body.into_string()
    }

    #[tokio::test]
    async fn hostile_calendars_stay_text_on_every_page() {
        let list = ListCalendarsResponse { calendars: vec![calendar()], next_page_token: None };
        let fake = Fake::default().with("ListCalendars", &list).with("GetCalendar", &calendar());
        for page in ["calendars", "calendar", "calendar-edit"] {
            let html = html(&fake, page, &[("name", HOSTILE)]).await;
            assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
            assert_apart(&html);
        }
        let form = html(&fake, "calendar-edit", &[("name", HOSTILE)]).await;
        assert!(
            form.contains("2026-12-24..2026-12-26 Christmas &lt;b&gt;\u{202e}\n01-01</textarea>"),
            "{form}"
        );
        assert!(form.contains("name=\"version\" value=\"3\""), "{form}");
    }

    #[tokio::test]
    async fn lines_become_entries_and_a_refusal_keeps_them() {
        let saved = PutCalendarResponse { calendar: None, created: false, changed: true };
        let fake = Fake::default().with("PutCalendar", &saved);
        let days = "2026-12-24..2026-12-26  Christmas and <more>\r\n\r\n 01-01";
        let pairs = [("name", "a/b"), ("days", days), ("version", "3"), ("description", "")];
        let done =
            act(&fake.form("calendar-edit", &pairs)).await.expect("a change").expect("saved");
        assert!(
            matches!(done, Shown::See(link) if link == "calendar?name=a%2Fb&flash=calendar-saved")
        );
        let sent: Vec<PutCalendarRequest> = fake.calls("PutCalendar");
        let days: Vec<_> =
            sent[0].entries.iter().map(|one| (one.days.as_str(), one.note.as_deref())).collect();
        let christmas = ("2026-12-24..2026-12-26", Some("Christmas and <more>"));
        assert_eq!(days, [christmas, ("01-01", None)]);
        assert_eq!((sent[0].expected_version, &sent[0].description), (Some(3), &None));

        let fake = Fake::default().refusing("PutCalendar", Status::invalid_argument("no such day"));
        let pairs = [("name", "new"), ("days", "02-31 never\u{202e}")];
        let refused = act(&fake.form("calendar-edit", &pairs)).await.expect("a change");
        let Ok(Shown::Page(view)) = refused else { panic!("{refused:?}") };
        let html = view.body.into_string();
        assert!(html.contains("no such day") && html.contains("02-31 never"), "{html}");
        assert_apart(&html);
        let sent: Vec<PutCalendarRequest> = fake.calls("PutCalendar");
        assert_eq!(sent[0].expected_version, Some(0), "a new one replaces none");
    }

    #[tokio::test]
    async fn a_file_replaces_the_days() {
        let fake = Fake::default().with("PutCalendar", &PutCalendarResponse::default());
        let pairs = [("name", "c"), ("days", "01-01"), ("ics", "BEGIN:VCALENDAR")];
        act(&fake.form("calendar-edit", &pairs)).await.expect("a change").expect("saved");
        let sent: Vec<PutCalendarRequest> = fake.calls("PutCalendar");
        assert_eq!((sent[0].entries.len(), sent[0].ics.as_deref()), (0, Some("BEGIN:VCALENDAR")));
    }

    #[tokio::test]
    async fn a_deletion_is_asked_for_and_is_of_the_version_that_was_seen() {
        let fake = Fake::default().with("DeleteCalendar", &DeleteCalendarResponse {});
        let pairs = [("name", "c"), ("version", "3")];
        let asked = act(&fake.form("calendar", &pairs)).await.expect("a change");
        assert!(matches!(asked, Ok(Shown::Page(_))) && fake.methods().is_empty());
        let pairs = [("name", "c"), ("version", "3"), ("confirmed", "yes")];
        act(&fake.form("calendar", &pairs)).await.expect("a change").expect("deleted");
        let sent: Vec<DeleteCalendarRequest> = fake.calls("DeleteCalendar");
        assert_eq!(sent[0].expected_version, Some(3));
    }
}
