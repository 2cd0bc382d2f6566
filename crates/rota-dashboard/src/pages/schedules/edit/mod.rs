//! Creates and changes schedules: a form or JSON, a preview of what it means, and then the save of what was previewed.
//!
//! The form names the version that it was made from. A save of another version is refused, and then the page shows the
//! texts again, with what differs from the version that somebody else saved.

mod changes;
mod fields;
mod form;
pub(super) mod upcoming;

use rota_proto::{
    Reason,
    json::Object,
    v1::{
        PreviewDefinitionRequest, PutScheduleRequest, Schedule, ScheduleDefinition,
        SchedulePreview, ScheduleRequest,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use self::{fields::Fields, fields::Wrong};
use crate::{
    flash,
    layout::{Shown, View},
    link,
    trouble::Trouble,
    visit::Visit,
};

/// Coming runs of a preview.
const RUNS: u32 = 10;

/// A definition as JSON that people read.
pub(super) fn json(definition: &ScheduleDefinition) -> String {
    // Definitions come from JSON or protobuf, and both can be written as JSON.
    serde_json::to_string_pretty(definition).unwrap_or_default()
}

fn read(text: &str) -> Result<ScheduleDefinition, Wrong> {
    let read = serde_json::from_str::<Object<ScheduleDefinition>>(text);
    read.map(|Object(definition)| definition)
        .map_err(|error| ("definition".to_owned(), error.to_string()))
}

/// What is wrong, or what a definition means.
#[derive(Debug, Default)]
enum Said {
    #[default]
    Nothing,
    Preview(Box<(ScheduleDefinition, SchedulePreview)>),
    Wrong(Vec<Wrong>),
    Refused(Box<Status>),
    /// Somebody else has saved the schedule meanwhile.
    Conflict,
    /// There is another schedule of the name.
    Exists(String),
}

/// The page as it is edited.
#[derive(Debug, Default)]
struct Draft {
    /// Name of the schedule that is changed. Absent for a new one.
    schedule: Option<String>,
    /// Version that the form was made from. 0 for a new schedule.
    version: u64,
    /// The definition without the changes of the fields.
    base: ScheduleDefinition,
    /// The definition that is saved. Absent for a new schedule.
    saved: Option<ScheduleDefinition>,
    fields: Fields,
    /// The text of the definition, if it is edited as JSON.
    text: Option<String>,
}

impl Draft {
    fn of(schedule: Schedule) -> Self {
        let base = schedule.definition.unwrap_or_default();
        Self {
            schedule: Some(schedule.name),
            version: schedule.version,
            fields: Fields::of(&base),
            saved: Some(base.clone()),
            base,
            text: None,
        }
    }

    fn of_form(visit: &Visit) -> Result<Self, Trouble> {
        let pairs = &visit.pairs;
        let unreadable = || Trouble::Form("It does not say which definition it changes.");
        let base = read(pairs.need("base")?).map_err(|_| unreadable())?;
        let is_json = pairs.get("form") == Some("json");
        Ok(Self {
            schedule: pairs.get("schedule").map(str::to_owned),
            version: pairs.need("version")?.parse().map_err(|_| unreadable())?,
            fields: Fields::of_form(pairs),
            text: is_json.then(|| pairs.get("definition").unwrap_or_default().to_owned()),
            base,
            saved: None,
        })
    }

    /// The definition as it was typed.
    fn definition(&self) -> Result<ScheduleDefinition, Vec<Wrong>> {
        let mut definition = match &self.text {
            Some(text) => read(text).map_err(|wrong| vec![wrong])?,
            None => {
                let mut definition = self.base.clone();
                definition.name = Some(self.fields.text("new_name").trim().to_owned());
                self.fields.apply(&mut definition)?;
                definition
            }
        };
        if let Some(name) = &self.schedule {
            definition.name = Some(name.clone());
        }
        if definition.name.as_ref().is_none_or(String::is_empty) {
            return Err(vec![("name".to_owned(), "is missing".to_owned())]);
        }
        Ok(definition)
    }

    /// The same page with this definition in its form.
    fn with(mut self, definition: &ScheduleDefinition) -> Self {
        self.fields = Fields::of(definition);
        self.base = definition.clone();
        if self.text.is_some() {
            self.text = Some(json(definition));
        }
        self
    }
}

async fn saved(visit: &Visit, name: &str) -> Result<Schedule, Status> {
    let request = ScheduleRequest { name: name.to_owned() };
    visit.api.schedules().get_schedule(request).await.map(tonic::Response::into_inner)
}

pub(super) async fn show(visit: &Visit) -> Result<View, Trouble> {
    let draft = match (visit.pairs.get("name"), visit.pairs.get("copy")) {
        (Some(name), _) => Draft::of(saved(visit, name).await?),
        (None, Some(copy)) => {
            let mut definition = saved(visit, copy).await?.definition.unwrap_or_default();
            definition.name = None;
            Draft::default().with(&definition)
        }
        (None, None) => Draft::default(),
    };
    Ok(form::view(&draft, &Said::Nothing))
}

pub(super) async fn act(visit: &Visit) -> Result<Shown, Trouble> {
    let mut draft = Draft::of_form(visit)?;
    let word = visit.pairs.need("do")?;
    let definition = match draft.definition() {
        Ok(definition) => definition,
        // Half a definition can be looked at in the other form once it can be read.
        Err(wrong) => return Ok(form::view(&draft, &Said::Wrong(wrong)).into()),
    };
    match word {
        "json" => {
            draft.text = Some(json(&definition));
            Ok(form::view(&draft, &Said::Nothing).into())
        }
        "fields" => {
            draft.text = None;
            Ok(form::view(&draft.with(&definition), &Said::Nothing).into())
        }
        "preview" => preview(visit, draft, definition).await,
        "save" => save(visit, draft, definition).await,
        _ => Err(Trouble::Form("It asks for a change that this version does not know.")),
    }
}

async fn preview(
    visit: &Visit,
    mut draft: Draft,
    definition: ScheduleDefinition,
) -> Result<Shown, Trouble> {
    let request = PreviewDefinitionRequest {
        definition: Some(definition.clone()),
        count: Some(RUNS),
        from: None,
    };
    if let Some(name) = &draft.schedule {
        // Without it, the preview cannot tell what changes, and is still a preview.
        draft.saved = saved(visit, name).await.ok().and_then(|schedule| schedule.definition);
    }
    let said = match visit.api.schedules().preview_definition(request).await {
        Ok(preview) => Said::Preview(Box::new((definition, preview.into_inner()))),
        Err(status) => refused(status)?,
    };
    Ok(form::view(&draft, &said).into())
}

async fn save(
    visit: &Visit,
    mut draft: Draft,
    definition: ScheduleDefinition,
) -> Result<Shown, Trouble> {
    let name = definition.name.clone().unwrap_or_default();
    let request = PutScheduleRequest {
        definition: Some(definition.clone()),
        expected_version: Some(draft.version),
    };
    let Err(status) = visit.api.schedules().put_schedule(request).await else {
        let to = [("name", name), flash::pair("schedule-saved")];
        return Ok(Shown::See(link::to("schedule", to)));
    };
    if !is_conflict(&status) {
        return Ok(form::view(&draft.with(&definition), &refused(status)?).into());
    }
    if draft.schedule.is_none() {
        return Ok(form::view(&draft.with(&definition), &Said::Exists(name)).into());
    }
    match saved(visit, &name).await {
        Ok(schedule) => {
            draft.version = schedule.version;
            draft.saved = schedule.definition;
            Ok(form::view(&draft.with(&definition), &Said::Conflict).into())
        }
        // It was deleted meanwhile: the next save creates it.
        Err(gone) if gone.code() == Code::NotFound => {
            (draft.version, draft.schedule) = (0, None);
            Ok(form::view(&draft.with(&definition), &Said::Refused(Box::new(gone))).into())
        }
        Err(other) => Err(other.into()),
    }
}

fn is_conflict(status: &Status) -> bool {
    let details = status.get_error_details();
    details.error_info().is_some_and(|info| {
        matches!(Reason::parse(&info.reason), Some(Reason::VersionConflict | Reason::Conflict))
    })
}

/// What the form says about a refusal. Without a session, there is no form.
fn refused(status: Status) -> Result<Said, Trouble> {
    match status.code() {
        Code::Unauthenticated => Err(Trouble::SignIn),
        _ => Ok(Said::Refused(Box::new(status))),
    }
}

#[cfg(test)]
mod tests;
