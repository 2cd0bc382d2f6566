//! `rota schedule import-crontab`: schedules from crontabs, in a file for `apply` or on the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use clap::{Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, TimeSpan,
    v1::{CatchUp, Overlap, RetryPolicy, ScheduleDefinition, TaskTemplate},
};
use rota_cron::{
    Timestamp, Zone,
    crontab::{Content, Entry, Line, MAX_CRONTAB, parse},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    apply::{How, apply},
    crontab::{Explained, explained, totals},
    dates,
    manifest::{Manifest, Placed},
    normal,
    program::{program, slug},
};
use crate::{
    dates::zone_of_host,
    exit::{Exit, Failure},
    manage::labels,
    output::{self, Format},
    text, yaml,
};

/// The longest timeout of an attempt that a server takes: cron has none.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30 * 24 * 3600);
/// Variables that are settings of cron, and not for commands.
const OF_CRON: [&str; 6] =
    ["MAILTO", "MAILFROM", "SHELL", "RANDOM_DELAY", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING"];
/// Shells that the command executor knows.
const SHELLS: [&str; 4] = ["sh", "bash", "dash", "zsh"];
/// What holds for all lines.
const GENERAL: [&str; 4] = [
    "cron runs a command on its own host, as the user of the line, in the home directory of this user. A task runs on any \
     worker of its queue, as the user of the worker and in its directory.",
    "As in cron, runs can overlap, missed runs are not made up for, and failures are not retried: overlap, catch_up and \
     max_attempts say so. Rota's defaults are often better.",
    "cron mails the output of a command. Rota keeps the end of it with the task.",
    "cron sets PATH to /usr/bin:/bin if the crontab does not set it. A task gets the PATH of the worker.",
];

/// Crontabs, and what becomes of them.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Crontab, directory of crontabs such as /etc/cron.d, or - for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Lines name a user behind the times, as in /etc/crontab and /etc/cron.d. The default for these paths.
    #[arg(long)]
    system: bool,
    /// Time zone of the host of the crontabs [default: that of this host]. CRON_TZ in a file has precedence.
    #[arg(long, value_name = "NAME", value_parser = Text::new())]
    time_zone: Option<String>,
    /// Queue of the tasks [default: default].
    #[arg(long, value_parser = Text::new())]
    queue: Option<String>,
    /// Text to put before the names of the schedules.
    #[arg(long, value_name = "TEXT", default_value = "")]
    prefix: String,
    /// Label of the schedules. Can be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Date from which to look for changes of the clock [default: now].
    #[arg(long, value_name = "DATE", value_parser = Text::new())]
    from: Option<String>,
    /// Create the schedules on the server. Without it, the command writes them as YAML.
    #[arg(long)]
    apply: bool,
    /// Do not ask for confirmation.
    #[arg(long, requires = "apply")]
    yes: bool,
}

/// A line of a crontab and its schedule.
#[derive(Debug, Serialize)]
struct Imported {
    file: String,
    #[serde(flatten)]
    line: Explained,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<ScheduleDefinition>,
}

/// Reads the crontabs, and writes or creates their schedules.
pub(super) async fn run(
    args: ImportArgs,
    client: impl FnOnce() -> Result<Client, Failure>,
    format: Format,
) -> Result<(), Failure> {
    let zone = zone(args.time_zone.as_deref())?;
    let from = dates::from(args.from.as_deref(), &zone)?;
    let mut import = Import { args: &args, zone, from, names: BTreeSet::new(), lines: Vec::new() };
    for file in &args.files {
        import.read(file)?;
    }
    let Import { zone, lines, .. } = import;
    if args.apply {
        summary(&lines);
        return create(&args, lines, &client()?, format).await;
    }
    if format.is_data() {
        output::data(&lines, format)?;
    } else {
        output::text(&written(&lines, &zone)?)?;
    }
    summary(&lines);
    let invalid = lines.iter().filter(|its| its.line.kind == "invalid").count();
    if invalid > 0 {
        return Err(Failure::new(Exit::Failure, format!("{invalid} lines cannot be read")));
    }
    Ok(())
}

/// The zone of the flag, or of this host.
fn zone(name: Option<&str>) -> Result<Zone, Failure> {
    if let Some(name) = name {
        return Zone::find(name).map_err(|error| Failure::usage(format!("--time-zone: {error}")));
    }
    let unknown = || {
        Failure::usage("the time zone of this host is not known").hint("set it with --time-zone")
    };
    zone_of_host().ok_or_else(unknown)
}

/// An import under way.
struct Import<'a> {
    args: &'a ImportArgs,
    zone: Zone,
    from: Timestamp,
    names: BTreeSet<String>,
    lines: Vec<Imported>,
}

impl Import<'_> {
    fn read(&mut self, file: &Path) -> Result<(), Failure> {
        if !file.is_dir() {
            return self.crontab(file);
        }
        let failed = |error| Failure::usage(format!("{}: {error}", file.display()));
        let entries = std::fs::read_dir(file).map_err(failed)?;
        let paths: Result<Vec<PathBuf>, _> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut paths = paths.map_err(failed)?;
        paths.sort();
        for path in paths.into_iter().filter(|path| path.is_file()) {
            if is_ignored(&path) {
                output::note(&format!("{}: not read; cron ignores it by its name", path.display()));
            } else {
                self.crontab(&path)?;
            }
        }
        Ok(())
    }

    fn crontab(&mut self, file: &Path) -> Result<(), Failure> {
        let text = dates::text_of(file, MAX_CRONTAB)?;
        let system = self.args.system || is_system(file);
        for line in parse(&text, system) {
            let schedule = match &line.content {
                Content::Entry(entry) => Some(self.definition(file, &line, entry)?),
                _ => None,
            };
            let mut line = explained(&line, &self.zone, self.from);
            // A zone of the crontab that is not known.
            let schedule = schedule.filter(|_| line.kind == "entry");
            if let Some(user) = &line.user {
                line.notes
                    .push(format!("cron runs it as {user}, a task as the user of the worker"));
            }
            if !system && line.command.as_deref().is_some_and(|its| its.starts_with("root ")) {
                let note = "the command begins with a user; is it a system crontab? use --system";
                line.notes.push(note.to_owned());
            }
            self.lines.push(Imported { file: file.display().to_string(), line, schedule });
        }
        Ok(())
    }

    fn definition(
        &mut self,
        file: &Path,
        line: &Line,
        entry: &Entry,
    ) -> Result<ScheduleDefinition, Failure> {
        let name = self.name(file, entry);
        let zone = entry.zone.clone().unwrap_or_else(|| self.zone.name().to_owned());
        let payload = payload(entry).to_string();
        let template = TaskTemplate {
            queue: self.args.queue.clone(),
            kind: "command".to_owned(),
            payload: payload.into(),
            timeout: Some(TimeSpan::from(TIMEOUT)),
            retry: Some(RetryPolicy { max_attempts: Some(1), ..RetryPolicy::default() }),
            ..TaskTemplate::default()
        };
        Ok(ScheduleDefinition {
            name: Some(name),
            expressions: vec![entry.expression.clone()],
            time_zone: Some(zone),
            overlap: Some(Overlap::Allow.into()),
            catch_up: Some(CatchUp::None.into()),
            labels: labels(&self.args.labels)?,
            description: Some(format!("Line {} of {}", line.number, file.display())),
            template: Some(template),
            ..ScheduleDefinition::default()
        })
    }

    /// A name that no other line has.
    fn name(&mut self, file: &Path, entry: &Entry) -> String {
        let stem = file.file_name().map(|name| slug(&name.to_string_lossy()));
        let stem = stem.filter(|stem| !stem.is_empty()).unwrap_or_else(|| "crontab".to_owned());
        let program = program(&entry.command).unwrap_or_else(|| "command".to_owned());
        let base = format!("{}{stem}/{program}", self.args.prefix);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        let mut names = std::iter::once(base.clone()).chain(numbered);
        // There are more numbers than lines.
        let name = names.find(|name| !self.names.contains(name)).unwrap_or(base);
        self.names.insert(name.clone());
        name
    }
}

/// Whether lines of this file name a user.
fn is_system(file: &Path) -> bool {
    let dir = file.parent().and_then(Path::file_name);
    dir.is_some_and(|dir| dir == "cron.d") || file.ends_with("etc/crontab")
}

/// Whether Debian's cron ignores a file of a directory because of its name.
fn is_ignored(file: &Path) -> bool {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
    !name.unwrap_or_default().chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// The payload for the command executor.
fn payload(entry: &Entry) -> Value {
    let variable = |name: &str| {
        let found = entry.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    };
    let shell = variable("SHELL").filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh");
    let known = Path::new(shell).file_name().and_then(|name| name.to_str());
    let known = known.filter(|name| SHELLS.contains(name));
    let mut payload = Map::new();
    match known {
        Some(name) => {
            payload.insert("argv".to_owned(), json!([entry.command]));
            payload.insert("shell".to_owned(), json!(name));
        }
        None => {
            payload.insert("argv".to_owned(), json!([shell, "-c", entry.command]));
        }
    }
    let passed = entry.environment.iter().filter(|(name, _)| !OF_CRON.contains(&name.as_str()));
    let env: BTreeMap<&String, &String> = passed.map(|(name, value)| (name, value)).collect();
    if !env.is_empty() {
        payload.insert("env".to_owned(), json!(env));
    }
    if let Some(home) = variable("HOME") {
        payload.insert("cwd".to_owned(), json!(home));
    }
    if let Some(stdin) = &entry.stdin {
        payload.insert("stdin".to_owned(), json!(stdin));
    }
    Value::Object(payload)
}

/// The schedules as YAML, with what is to be said about each line as comments.
fn written(lines: &[Imported], zone: &Zone) -> Result<String, Failure> {
    let mut written = format!("# Schedules of crontabs. The time zone of their host is {zone}.\n");
    let mut comment = |indent: &str, told: &str| {
        written.push_str(&format!("{indent}# {}\n", text::line(told)));
    };
    GENERAL.iter().for_each(|told| comment("", told));
    written.push_str("schedules:\n");
    for Imported { file, line, schedule } in lines {
        let mut comment = |told: &str| {
            written.push_str(&format!("  # {}\n", text::line(told)));
        };
        comment(&format!("{file}:{}: {}", line.line, line.text.trim()));
        for told in line.description.iter().chain(&line.reason) {
            comment(told);
        }
        line.notes.iter().for_each(|note| comment(&format!("note: {note}")));
        if let Some(schedule) = schedule {
            let list = [normal::without_defaults(schedule.clone())];
            let json = serde_json::to_string(&list).map_err(Failure::failed)?;
            for line in yaml::of_json(&json).map_err(Failure::failed)?.lines() {
                written.push_str(if line.is_empty() { "" } else { "  " });
                written.push_str(line);
                written.push('\n');
            }
        }
        written.push('\n');
    }
    if lines.iter().all(|line| line.schedule.is_none()) {
        written = written.replace("schedules:\n", "schedules: []\n");
    }
    Ok(format!("{}\n", written.trim_end()))
}

/// Tells the numbers, and the lines that need attention.
fn summary(lines: &[Imported]) {
    output::note(&totals(lines.iter().map(|its| its.line.kind)));
    let places = |is: &dyn Fn(&Imported) -> bool| {
        let places = lines.iter().filter(|line| is(line));
        let places: Vec<_> = places.map(|its| format!("{}:{}", its.file, its.line.line)).collect();
        places.join(", ")
    };
    for (told, places) in [
        ("differs from Debian's cron when the clock changes", places(&|its| its.line.differs)),
        ("not carried over", places(&|its| its.line.kind == "not_carried_over")),
        ("cannot be read", places(&|its| its.line.kind == "invalid")),
    ] {
        if !places.is_empty() {
            output::note(&format!("{told}: {places}"));
        }
    }
}

async fn create(
    args: &ImportArgs,
    lines: Vec<Imported>,
    client: &Client,
    format: Format,
) -> Result<(), Failure> {
    let mut manifest = Manifest::default();
    for Imported { file, line, schedule } in lines {
        let Some(content) = schedule else { continue };
        let name = content.name.clone().unwrap_or_default();
        let place = format!("{file}:{}", line.line);
        manifest.schedules.insert(name, Placed { place, content });
    }
    let how = How { yes: args.yes, ..How::default() };
    apply(manifest, how, client, format).await
}
