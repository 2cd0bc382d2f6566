//! The state of the view: samples, the chosen pane, and the effect of keys.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rota_client::v1::{Queue, Schedule, Task, Worker};

use super::sample::{Extra, Missing, Rate, Rates, Sample};

/// Seconds of throughput to keep.
const HISTORY: usize = 200;

/// A pane of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Queues,
    Workers,
    Schedules,
    Errors,
    Nodes,
}

impl Pane {
    pub(super) const ALL: [Self; 5] =
        [Self::Queues, Self::Workers, Self::Schedules, Self::Errors, Self::Nodes];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Queues => "Queues",
            Self::Workers => "Workers",
            Self::Schedules => "Schedules",
            Self::Errors => "Errors",
            Self::Nodes => "Nodes",
        }
    }

    /// What is requested for it only.
    pub(super) fn extra(self) -> Extra {
        match self {
            Self::Errors => Extra::Failures,
            Self::Schedules => Extra::Schedules,
            Self::Queues | Self::Workers | Self::Nodes => Extra::Nothing,
        }
    }

    fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|pane| *pane == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }

    /// The possible sort orders of its rows. The first is the default.
    pub(super) fn orders(self) -> &'static [&'static str] {
        match self {
            Self::Queues => &["name", "pending", "done/s", "failed/s"],
            Self::Workers => &["name", "used", "silence"],
            Self::Schedules => &["name", "next", "failed"],
            Self::Errors => &["newest", "queue"],
            Self::Nodes => &["name"],
        }
    }
}

/// Whether to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    GoOn,
    Quit,
}

/// Everything that the view draws.
pub(super) struct State {
    pub(super) address: String,
    pub(super) pane: Pane,
    pub(super) paused: bool,
    /// Index of the first visible row.
    pub(super) scroll: usize,
    sort: usize,
    pub(super) sample: Option<Sample>,
    pub(super) rates: Option<Rates>,
    /// Completed tasks per second, newest last.
    pub(super) history: VecDeque<u64>,
    /// Since when the shown sample is out of date, and why.
    pub(super) trouble: Option<(Instant, String)>,
}

impl State {
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            pane: Pane::Queues,
            paused: false,
            scroll: 0,
            sort: 0,
            sample: None,
            rates: None,
            history: VecDeque::new(),
            trouble: None,
        }
    }

    /// Processes a sample, or its absence.
    pub(super) fn learn(&mut self, answer: Result<Sample, Missing>) {
        let sample = match answer {
            Ok(sample) => sample,
            Err(Missing { reason, cluster }) => {
                let since = match (&self.trouble, &self.sample) {
                    (Some((since, _)), _) => *since,
                    (None, Some(sample)) => sample.at,
                    (None, None) => Instant::now(),
                };
                self.trouble = Some((since, reason));
                if let (Some(sample), Some(cluster)) = (&mut self.sample, cluster) {
                    sample.cluster = *cluster;
                }
                self.rates = None;
                return;
            }
        };
        self.trouble = None;
        self.rates = self.sample.as_ref().and_then(|before| Rates::between(before, &sample));
        if let Some(rates) = &self.rates {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rate is neither negative nor beyond 64 bits, and drawn coarsely"
            )]
            self.history.push_back(rates.total().completed.round() as u64);
        }
        self.sample = Some(sample);
    }

    /// Age of the shown sample.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        let (since, _) = self.trouble.as_ref()?;
        Some(now.saturating_duration_since(*since))
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Flow {
        if key.kind == KeyEventKind::Release {
            return Flow::GoOn;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Flow::Quit,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Flow::Quit;
            }
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('s') => {
                self.sort = (self.sort + 1) % self.pane.orders().len();
                self.scroll = 0;
            }
            KeyCode::Tab | KeyCode::Right => self.look_at(self.pane.step(1)),
            KeyCode::BackTab | KeyCode::Left => self.look_at(self.pane.step(Pane::ALL.len() - 1)),
            KeyCode::Down => self.scroll = (self.scroll + 1).min(self.rows().saturating_sub(1)),
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Home => self.scroll = 0,
            _ => {}
        }
        Flow::GoOn
    }

    fn look_at(&mut self, pane: Pane) {
        self.pane = pane;
        (self.sort, self.scroll) = (0, 0);
    }

    /// The sort order of the rows.
    pub(super) fn order(&self) -> &'static str {
        self.pane.orders()[self.sort]
    }

    fn rows(&self) -> usize {
        let Some(sample) = &self.sample else { return 0 };
        match self.pane {
            Pane::Queues => sample.queues.len(),
            Pane::Workers => sample.workers.len(),
            Pane::Schedules => sample.schedules.as_ref().map_or(0, Vec::len),
            Pane::Errors => sample.failures.as_ref().map_or(0, Vec::len),
            Pane::Nodes => sample.cluster.nodes.len(),
        }
    }

    pub(super) fn rate(&self, queue: &str) -> Option<Rate> {
        self.rates.as_ref().map(|rates| rates.of(queue))
    }

    /// The queues in the chosen order.
    pub(super) fn queues(&self) -> Vec<&Queue> {
        let mut queues: Vec<_> = self.sample.iter().flat_map(|sample| &sample.queues).collect();
        let rate = |queue: &Queue| self.rate(&queue.name).unwrap_or_default();
        match self.order() {
            "pending" => queues.sort_by_key(|queue| std::cmp::Reverse(queue.pending)),
            "done/s" => queues.sort_by(|a, b| rate(b).completed.total_cmp(&rate(a).completed)),
            "failed/s" => queues.sort_by(|a, b| rate(b).failed.total_cmp(&rate(a).failed)),
            _ => queues.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        queues
    }

    /// The workers in the chosen order.
    pub(super) fn workers(&self) -> Vec<&Worker> {
        let mut workers: Vec<_> = self.sample.iter().flat_map(|sample| &sample.workers).collect();
        match self.order() {
            "used" => workers.sort_by_key(|worker| std::cmp::Reverse(worker.slots_used)),
            "silence" => workers.sort_by_key(|worker| std::cmp::Reverse(worker.heartbeat_age)),
            _ => workers.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        workers
    }

    /// The first schedules in the chosen order.
    pub(super) fn schedules(&self) -> Vec<&Schedule> {
        let sample = self.sample.iter();
        let mut schedules: Vec<_> =
            sample.filter_map(|sample| sample.schedules.as_ref()).flatten().collect();
        match self.order() {
            // Those without a next run come last.
            "next" => schedules.sort_by_key(|one| (one.next_time.is_none(), one.next_time)),
            "failed" => schedules.sort_by_key(|one| std::cmp::Reverse(one.failures_in_a_row)),
            _ => schedules.sort_by(|a, b| a.name.cmp(&b.name)),
        }
        schedules
    }

    /// The newest failed tasks in the chosen order.
    pub(super) fn failures(&self) -> Vec<&Task> {
        let sample = self.sample.iter();
        let mut tasks: Vec<_> = sample.filter_map(|s| s.failures.as_ref()).flatten().collect();
        match self.order() {
            "queue" => tasks.sort_by(|a, b| a.queue.cmp(&b.queue)),
            _ => tasks.sort_by_key(|task| std::cmp::Reverse(task.finished_at)),
        }
        tasks
    }
}
