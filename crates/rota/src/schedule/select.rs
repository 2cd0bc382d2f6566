//! The flags that select schedules.

use clap::Args;
use rota_client::v1::{ScheduleFilter, ScheduleState};

use super::words;
use crate::{exit::Failure, manage::labels};

// No doc comment: clap would show it as the description of the command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SelectArgs {
    /// Only schedules with this label. Can be repeated; all labels must match.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Only schedules whose name begins with this text.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    prefix: Option<String>,
    /// Only schedules in this state.
    #[arg(long, value_parser = words::<ScheduleState>())]
    state: Option<ScheduleState>,
}

/// Ids of the flags.
pub(super) const FILTERS: [&str; 3] = ["labels", "prefix", "state"];

impl SelectArgs {
    /// The schedules with these labels.
    pub(super) fn labelled(labels: Vec<String>) -> Self {
        Self { labels, ..Self::default() }
    }

    pub(super) fn filter(&self) -> Result<ScheduleFilter, Failure> {
        Ok(ScheduleFilter {
            prefix: self.prefix.clone(),
            labels: labels(&self.labels)?,
            state: self.state.map(Into::into),
        })
    }
}
