//! Shows how far a transfer is: a bar on a terminal, and a line now and then elsewhere.

use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rota_engine::transfer::{Progress, Stage};

use crate::output::{self, Format};

/// Interval of lines where there is no terminal. A transfer that takes less says nothing.
const INTERVAL: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Reporter {
    bar: ProgressBar,
    format: Format,
    lines: Mutex<Lines>,
}

struct Lines {
    stage: Option<Stage>,
    /// When the stage began, and what it had done then.
    since: (Instant, u64),
    last: Instant,
}

impl Reporter {
    pub(super) fn new(format: Format) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let now = Instant::now();
        let lines = Lines { stage: None, since: (now, 0), last: now };
        Self { bar, format, lines: Mutex::new(lines) }
    }

    /// Takes note of progress.
    pub(super) fn report(&self, progress: Progress) {
        let Progress { stage, done, total } = progress;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_new = lines.stage != Some(stage);
        if is_new {
            lines.stage = Some(stage);
            lines.since = (now, done);
            self.bar.set_style(style(total.is_some()));
            self.bar.set_message(words(stage));
            self.bar.reset();
            // A resumed copy does not begin at zero.
            self.bar.set_position(done);
            self.bar.reset_eta();
        }
        if let Some(total) = total {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
        let is_due = now.duration_since(lines.last) >= INTERVAL;
        if !self.format.is_data() && is_due && !std::io::stderr().is_terminal() {
            lines.last = now;
            let (since, before) = lines.since;
            output::note(&line(progress, done - before.min(done), now.duration_since(since)));
        }
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn words(stage: Stage) -> &'static str {
    match stage {
        Stage::Waiting => "waiting until the store is free",
        Stage::Reading => "reading",
        Stage::Clearing => "removing an unfinished transfer",
        Stage::Writing => "writing",
        Stage::Verifying => "reading back",
    }
}

fn style(has_total: bool) -> ProgressStyle {
    let template = if has_total {
        "{msg} {bar:30} {percent}%, {human_pos} of {human_len} records, {per_sec}, {eta} left"
    } else {
        "{spinner} {msg}, {human_pos} records, {per_sec}"
    };
    // The templates are valid constants.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A line about a stage in which so many records were dealt with in that time.
fn line(progress: Progress, new: u64, elapsed: Duration) -> String {
    let Progress { stage, done, total } = progress;
    if stage == Stage::Waiting {
        return words(stage).to_owned();
    }
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = new.saturating_mul(1000) / millis;
    match total {
        Some(total) if total > 0 => {
            let percent = done.saturating_mul(100) / total;
            let left = total.saturating_sub(done).checked_div(rate);
            let left = left.map(|left| format!(", {left} s left")).unwrap_or_default();
            format!("{}: {done} of {total} records ({percent}%), {rate}/s{left}", words(stage))
        }
        _ => format!("{}: {done} records, {rate}/s", words(stage)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_share_the_rate_and_an_estimate() {
        let told = |stage, done, total, new| {
            line(Progress { stage, done, total }, new, Duration::from_secs(5))
        };
        assert_eq!(
            told(Stage::Writing, 250_000, Some(1_000_000), 100_000),
            "writing: 250000 of 1000000 records (25%), 20000/s, 37 s left"
        );
        assert_eq!(told(Stage::Writing, 7, Some(10), 0), "writing: 7 of 10 records (70%), 0/s");
        assert_eq!(told(Stage::Reading, 50, None, 50), "reading: 50 records, 10/s");
        assert_eq!(told(Stage::Waiting, 0, None, 0), "waiting until the store is free");
    }
}
