//! Commands about recurrences that need no server: `rota schedule`. The rules are those of `rota-cron`; this module reads
//! arguments and files, and prints.

mod args;
mod crontab;
mod dates;
mod preview;
mod refused;

pub(crate) use self::args::ScheduleVerb;
use crate::{exit::Failure, output::Format};

/// Runs the command.
pub(crate) fn run(verb: ScheduleVerb, format: Format) -> Result<(), Failure> {
    match verb {
        ScheduleVerb::Preview(args) => preview::run(&args, format),
        ScheduleVerb::ReadCrontab(args) => crontab::run(&args, format),
    }
}
