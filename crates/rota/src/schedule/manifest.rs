//! Files of schedules and calendars, in YAML.
//!
//! A file has any number of documents. Each is a schedule, a calendar (it has `entries`), a list of those, or an object
//! with the lists `schedules` and `calendars`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rota_client::v1::{CalendarEntry, PutCalendarRequest, ScheduleDefinition};
use rota_proto::json::Object;
use serde::{Deserialize, Serialize};

use super::dates;
use crate::{
    exit::Failure,
    yaml::{self, Fault, Node},
};

/// The longest file.
const MAX_FILE: usize = 64 << 20;

/// A calendar in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CalendarContent {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    pub(super) entries: Vec<CalendarEntry>,
}

impl CalendarContent {
    /// The request to put it, if it has this version.
    pub(super) fn request(self, expected_version: Option<u64>) -> PutCalendarRequest {
        let Self { name, description, entries } = self;
        PutCalendarRequest { name, entries, description, ics: None, expected_version }
    }
}

/// A schedule or calendar, and its place in a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed<T> {
    pub(super) place: String,
    pub(super) content: T,
}

/// What files say, by name.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Manifest {
    pub(super) calendars: BTreeMap<String, Placed<CalendarContent>>,
    pub(super) schedules: BTreeMap<String, Placed<ScheduleDefinition>>,
}

/// The whole content of a file that `export` writes.
#[derive(Debug, Serialize)]
pub(super) struct Content {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) calendars: Vec<CalendarContent>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) schedules: Vec<ScheduleDefinition>,
}

impl Content {
    /// The content as YAML.
    pub(super) fn yaml(&self) -> Result<String, Failure> {
        let json = serde_json::to_string(self).map_err(Failure::failed)?;
        yaml::of_json(&json).map_err(Failure::failed)
    }
}

/// Reads files, or standard input for `-`.
pub(super) fn read(files: &[PathBuf]) -> Result<Manifest, Failure> {
    let mut manifest = Manifest::default();
    for file in files {
        let text = dates::text_of(file, MAX_FILE)?;
        if text.len() > MAX_FILE {
            let limit = MAX_FILE >> 20;
            return Err(Failure::usage(format!("{}: longer than {limit} MiB", shown(file))));
        }
        let failed = |fault: Fault| {
            Failure::usage(format!("{}:{}: {}", shown(file), fault.line, fault.reason))
        };
        for document in yaml::documents(&text).map_err(failed)? {
            manifest.add(file, &document).map_err(failed)?;
        }
    }
    if manifest == Manifest::default() {
        return Err(Failure::usage("the files have no schedules and no calendars"));
    }
    Ok(manifest)
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

impl Manifest {
    fn add(&mut self, file: &Path, node: &Node<'_>) -> Result<(), Fault> {
        if let Some(items) = node.items() {
            return items.iter().try_for_each(|item| self.add(file, item));
        }
        let fault = |reason: String| Fault { line: node.line(), reason };
        let Some(members) = node.members() else {
            return Err(fault("neither a schedule nor a calendar: must be an object".to_owned()));
        };
        let has = |name: &str| members.iter().any(|(member, _)| member == name);
        if !has("schedules") && !has("calendars") {
            return if has("entries") {
                self.calendar(file, node)
            } else {
                self.schedule(file, node)
            };
        }
        for (name, list) in &members {
            let Some(items) = list.items() else {
                return Err(fault(format!("{name} must be a list")));
            };
            match name.as_str() {
                "schedules" => items.iter().try_for_each(|item| self.schedule(file, item))?,
                "calendars" => items.iter().try_for_each(|item| self.calendar(file, item))?,
                _ => {
                    return Err(fault(format!(
                        "unknown member {name} beside schedules and calendars"
                    )));
                }
            }
        }
        Ok(())
    }

    fn schedule(&mut self, file: &Path, node: &Node<'_>) -> Result<(), Fault> {
        let read = serde_json::from_str(&node.json()?);
        let Object(content): Object<ScheduleDefinition> =
            read.map_err(|error| fault_of(node, "schedule", &error))?;
        let Some(name) = content.name.clone() else {
            let reason = "the schedule has no name".to_owned();
            return Err(Fault { line: node.line(), reason });
        };
        let place = format!("{}:{}", shown(file), node.line());
        add(&mut self.schedules, "schedule", name, Placed { place, content }, node.line())
    }

    fn calendar(&mut self, file: &Path, node: &Node<'_>) -> Result<(), Fault> {
        let read = serde_json::from_str::<CalendarContent>(&node.json()?);
        let content = read.map_err(|error| fault_of(node, "calendar", &error))?;
        let place = format!("{}:{}", shown(file), node.line());
        let name = content.name.clone();
        add(&mut self.calendars, "calendar", name, Placed { place, content }, node.line())
    }
}

fn add<T>(
    all: &mut BTreeMap<String, Placed<T>>,
    kind: &str,
    name: String,
    placed: Placed<T>,
    line: usize,
) -> Result<(), Fault> {
    if let Some(earlier) = all.get(&name) {
        let reason = format!("the {kind} {name} is also at {}", earlier.place);
        return Err(Fault { line, reason });
    }
    all.insert(name, placed);
    Ok(())
}

/// The message without its place in the JSON text, which nobody sees.
fn fault_of(node: &Node<'_>, kind: &str, error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let text = text.rsplit_once(" at line 1 column ").map_or(text.as_str(), |(text, _)| text);
    let name = node.members().into_iter().flatten().find(|(name, _)| name == "name");
    let name = name.and_then(|(_, name)| name.json().ok()).map(|name| format!(" {name}"));
    let reason = format!("{kind}{}: {text}", name.unwrap_or_default());
    Fault { line: node.line(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Result<Manifest, String> {
        let mut manifest = Manifest::default();
        let told = |fault: Fault| format!("{}: {}", fault.line, fault.reason);
        for document in yaml::documents(text).map_err(told)? {
            manifest.add(Path::new("f.yaml"), &document).map_err(told)?;
        }
        Ok(manifest)
    }

    #[test]
    fn documents_lists_and_groups_are_read() {
        let text = "name: a\nexpressions: ['* * * * *']\ntemplate: {kind: k}\n---\n- name: b\n- name: c\n  \
                    entries:\n    - days: 2026-12-25\n---\nschedules:\n  - name: d\ncalendars:\n  - name: e\n    entries: []\n";
        let read = manifest(text).expect("a manifest");
        let places = |placed: Vec<(&String, &String)>| {
            placed.iter().map(|(name, place)| format!("{name} {place}")).collect::<Vec<_>>()
        };
        let schedules = read.schedules.iter().map(|(name, placed)| (name, &placed.place));
        assert_eq!(places(schedules.collect()), ["a f.yaml:1", "b f.yaml:5", "d f.yaml:11"]);
        let calendars = read.calendars.iter().map(|(name, placed)| (name, &placed.place));
        assert_eq!(places(calendars.collect()), ["c f.yaml:6", "e f.yaml:13"]);
    }

    #[test]
    fn faults_name_the_line_and_the_schedule() {
        let fault = |text: &str| manifest(text).expect_err(text);
        assert_eq!(fault("hello"), "1: neither a schedule nor a calendar: must be an object");
        let told = fault("---\nname: a\n---\nname: b\ncron: x\n");
        assert!(told.starts_with("4: schedule \"b\": unknown field `cron`"), "{told}");
        assert_eq!(fault("- name: a\n- name: a\n"), "2: the schedule a is also at f.yaml:1");
        assert_eq!(fault("expressions: []"), "1: the schedule has no name");
        assert_eq!(fault("schedules: {}"), "1: schedules must be a list");
        assert!(
            fault("name: a\ntemplate: {kind: k, run_at: x}").contains("unknown field `run_at`")
        );
    }
}
