//! Several ids at once: from arguments, or from standard input with `-`.

use std::io::{self, Read as _};

use clap::{Args, builder::NonEmptyStringValueParser as Text};

use crate::{
    exit::{Exit, Failure},
    input, output,
};

/// Ids of tasks.
#[derive(Debug, Args)]
pub(crate) struct Ids {
    /// Task id. Several can be given; - reads them from standard input, one on each line.
    #[arg(required = true, value_name = "ID", value_parser = Text::new(), add = crate::complete::tasks())]
    pub(super) ids: Vec<String>,
}

/// Ids that were read.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) ids: Vec<String>,
    /// Whether the command line names exactly one, so that the output is not a list.
    pub(super) is_one: bool,
}

/// The ids, each once, in their order.
///
/// # Errors
/// When standard input cannot be read, or is read for something else.
pub(super) fn read(given: Vec<String>) -> Result<Named, Failure> {
    let is_one = given.len() == 1 && given[0] != "-";
    let mut ids: Vec<String> = Vec::with_capacity(given.len());
    for id in given {
        if id != "-" {
            ids.push(id);
            continue;
        }
        input::claim("-")?;
        let mut text = String::new();
        io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::usage(format!("standard input: {error}")))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        ids.extend(lines.map(str::to_owned));
    }
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    if ids.is_empty() {
        output::note("no ids on standard input");
    }
    Ok(Named { ids, is_one })
}

/// The failure with the id that it is about.
fn named_by(failure: Failure, id: &str) -> Failure {
    if failure.parts().0.starts_with(id) { failure } else { failure.after(id) }
}

/// Failures of some of several tasks. Each is told as it happens, and the command goes on.
#[derive(Debug, Default)]
pub(super) struct Failed {
    count: usize,
    exit: Option<Exit>,
}

impl Failed {
    /// Tells a failure, or returns it if the command is about one task or no other task would fare better.
    pub(super) fn tell(
        &mut self,
        id: &str,
        failure: Failure,
        named: &Named,
        format: output::Format,
    ) -> Result<(), Failure> {
        if named.is_one {
            return Err(failure);
        }
        // Without a server or the right token, every other task would fail as well.
        if matches!(failure.exit, Exit::Unavailable | Exit::Denied) {
            return Err(named_by(failure, id));
        }
        let failed = failure.exit;
        output::error(&named_by(failure, id), format);
        self.count += 1;
        self.exit = match self.exit {
            None => Some(failed),
            Some(exit) if exit == failed => Some(exit),
            Some(_) => Some(Exit::Failure),
        };
        Ok(())
    }

    /// The failure of the command, if some task failed: with the exit code of all failures, or 1 if they differ.
    pub(super) fn end(self, named: &Named) -> Result<(), Failure> {
        match self.exit {
            None => Ok(()),
            Some(exit) => {
                let all = named.ids.len();
                Err(Failure::new(
                    exit,
                    format!("the command failed for {} of {all} tasks", self.count),
                ))
            }
        }
    }
}
