//! The verbs of `rota schedule` and their help.

use clap::{Subcommand, builder::NonEmptyStringValueParser as Text, value_parser};

use super::{
    apply::ApplyArgs,
    args::{CrontabArgs, PreviewArgs},
    backfill::BackfillArgs,
    create::CreateArgs,
    export::ExportArgs,
    import::ImportArgs,
    pause::{PauseArgs, Which},
    select::SelectArgs,
    ticks::TicksArgs,
};

/// Commands for recurring schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleVerb {
    /// Create a schedule from flags.
    #[command(after_help = CREATE_HELP)]
    Create(Box<CreateArgs>),
    /// Make the server have the schedules and calendars of YAML files. Shows the differences and asks first.
    #[command(after_help = APPLY_HELP)]
    Apply(ApplyArgs),
    /// Show a schedule: its state, its next runs and its definition.
    Get {
        /// Name of the schedule.
        #[arg(value_parser = Text::new(), add = crate::complete::schedules())]
        name: String,
    },
    /// List schedules, by name.
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        select: SelectArgs,
        /// Maximum number of schedules to show.
        #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show when a schedule or an expression runs: a sentence, the next runs, what is skipped, and warnings.
    #[command(after_help = PREVIEW_HELP)]
    Preview(Box<PreviewArgs>),
    /// List what became of the ticks of a schedule, newest first.
    Ticks(TicksArgs),
    /// Explain a schedule: its next run, what holds it up, who paused it, and its last ticks.
    Why {
        /// Name of the schedule.
        #[arg(value_parser = Text::new(), add = crate::complete::schedules())]
        name: String,
    },
    /// Pause one schedule, or all schedules that match a filter. Their ticks are skipped.
    Pause(PauseArgs),
    /// Resume one schedule, or all schedules that match a filter. Nothing runs late.
    Resume(Which),
    /// Create a task of a schedule now. Its ticks stay as they are.
    Trigger {
        /// Name of the schedule.
        #[arg(value_parser = Text::new(), add = crate::complete::schedules())]
        name: String,
        /// Wait until the task has ended, and print its output and result.
        #[arg(long)]
        wait: bool,
    },
    /// Skip a coming tick, or take that back.
    Skip {
        /// Name of the schedule.
        #[arg(value_parser = Text::new(), add = crate::complete::schedules())]
        name: String,
        /// Nominal time of the tick, such as 2026-12-24T17:00:00Z, or a local time in the time zone of the schedule.
        /// `next` is the next tick, with --undo the next one that is skipped.
        #[arg(value_parser = Text::new())]
        time: String,
        /// Let a skipped tick run after all.
        #[arg(long)]
        undo: bool,
    },
    /// Create the tasks of past ticks. Counts them and asks first.
    Backfill(BackfillArgs),
    /// Delete a schedule. Its tasks stay.
    Delete {
        /// Name of the schedule.
        #[arg(value_parser = Text::new(), add = crate::complete::schedules())]
        name: String,
        /// Delete the schedule only if it has this version.
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
    },
    /// Write schedules and their calendars as YAML, for `rota schedule apply`.
    Export(ExportArgs),
    /// Make schedules of crontabs: as YAML, or on the server with --apply.
    #[command(after_help = IMPORT_HELP)]
    ImportCrontab(ImportArgs),
    /// Read a crontab and explain each line. Only reads: it creates and changes nothing.
    #[command(after_help = CRONTAB_HELP)]
    ReadCrontab(CrontabArgs),
}

const CREATE_HELP: &str = "\
Examples:
  rota schedule create nightly --cron '30 2 * * *' --time-zone Europe/Berlin --kind report
  rota schedule create payroll --cron '0 9 L * *' --calendar holidays=before --kind payroll
  rota schedule create backup --cron '@daily' --command -- backup.sh '{{nominal_time}}'

In the payload of a command or HTTP request, {{schedule}}, {{nominal_time}}, {{previous_time}},
{{last_success_time}} and {{actual_time}} stand for the name and the times of the run.";

const APPLY_HELP: &str = "\
A document of a file is a schedule, a calendar, a list of them, or an object with the lists `schedules` and
`calendars`. `rota schedule export` writes such a file. Fields are those of the API:

  name: nightly
  expressions: ['30 2 * * *']
  time_zone: Europe/Berlin
  template: {kind: report, payload: {days: 1}}";

const PREVIEW_HELP: &str = "\
A name shows a schedule of the server. An expression, --every and --at need no server.
A date is a local time in the time zone (2026-12-24T18:00) or has an offset (2026-12-24T17:00:00Z).

Examples:
  rota schedule preview nightly-report
  rota schedule preview '30 2 * * *' --time-zone America/New_York
  rota schedule preview '0 9 * * MON-FRI' --time-zone Europe/Berlin --calendar holidays.ics=after
  rota schedule preview --every 90m/10m -n 20";

const IMPORT_HELP: &str = "\
For each line, comments tell its meaning, what it could not carry over, and what Debian's cron does differently
when the clock changes. Commands become tasks of the kind `command`; workers run them with --allow-command.

Examples:
  rota schedule import-crontab /etc/crontab /etc/cron.d > schedules.yaml
  crontab -l | rota schedule import-crontab - --prefix ada/ --apply";

const CRONTAB_HELP: &str = "\
For each line, the command shows its meaning, its next run, and what Debian's cron does differently
when the clock changes. It needs no server. `rota schedule import-crontab` makes schedules of it.";
