//! Draws the view: a title, throughput, one table, and the keys. It fits 80 columns and 24 rows.

use std::time::{Duration, Instant};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table},
};
use rota_client::{
    Date,
    v1::{NodeRole, ScheduleState},
};
use rota_proto::json::Words;

use super::{
    sample::Sample,
    state::{Pane, State},
};
use crate::{
    manage::cluster::{lag, role, size, state as state_of},
    output::coarse,
    text::line as printable,
};

/// Colours, unless they are turned off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    fn fg(self, color: Color) -> Style {
        if self.0 { Style::new().fg(color) } else { Style::new() }
    }

    fn dim(self) -> Style {
        if self.0 { Style::new().fg(Color::DarkGray) } else { Style::new() }
    }

    fn bad(self) -> Style {
        self.fg(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn good(self) -> Style {
        self.fg(Color::Green)
    }
}

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, paint: Paint, now: Instant) {
    let [title, numbers, chart, tabs, table, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(3),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(title_line(state, paint), title);
    frame.render_widget(Paragraph::new(number_lines(state, paint)), numbers);
    draw_chart(frame, state, paint, chart);
    frame.render_widget(tab_line(state), tabs);
    match (&state.sample, state.pane) {
        (None, _) => frame.render_widget(Line::styled(" no answer yet", paint.dim()), table),
        (Some(_), Pane::Queues) => draw_queues(frame, state, paint, table),
        (Some(_), Pane::Workers) => draw_workers(frame, state, paint, table),
        (Some(sample), Pane::Schedules) => draw_schedules(frame, state, sample, paint, table),
        (Some(_), Pane::Errors) => draw_errors(frame, state, paint, table),
        (Some(sample), Pane::Nodes) => draw_nodes(frame, sample, paint, table),
    }
    frame.render_widget(key_line(state, paint, now), keys);
}

fn title_line<'a>(state: &'a State, paint: Paint) -> Line<'a> {
    let mut parts = vec![Span::styled(" rota top ", Style::new().add_modifier(Modifier::REVERSED))];
    let Some(sample) = &state.sample else {
        parts.push(format!(" {}", printable(&state.address)).into());
        return Line::from(parts);
    };
    let cluster = &sample.cluster;
    if state.trouble.is_some() {
        parts.push(Span::styled(" OUT OF DATE ", paint.bad()));
    }
    parts.push(match &cluster.leader {
        Some(leader) => Span::raw(format!(" leader {}", printable(leader))),
        None => Span::styled(" no leader", paint.bad()),
    });
    parts.push(format!("  epoch {}", cluster.epoch).into());
    let ready = cluster.nodes.iter().filter(|node| node.ready).count();
    let all = cluster.nodes.len();
    let style = if ready == all { Style::new() } else { paint.bad() };
    parts.push(Span::styled(format!("  nodes {ready}/{all} ready"), style));
    let store = cluster.store.clone().unwrap_or_default();
    parts.push(match &store.problem {
        None => format!("  store {}", printable(&store.backend)).into(),
        Some(problem) => Span::styled(format!("  store: {}", printable(problem)), paint.bad()),
    });
    if store.bytes_used.is_some() {
        parts.push(format!(" {}", size(store.bytes_used, store.bytes_max)).into());
    }
    Line::from(parts)
}

fn number_lines<'a>(state: &State, paint: Paint) -> Vec<Line<'a>> {
    let Some(sample) = &state.sample else { return Vec::new() };
    let total = state.rates.as_ref().map(super::sample::Rates::total);
    let shown = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), per_second);
    let failing = total.is_some_and(|rate| rate.failed > 0.0);
    let slots: u64 = sample.workers.iter().map(|worker| u64::from(worker.slots)).sum();
    let used: u64 = sample.workers.iter().map(|worker| u64::from(worker.slots_used)).sum();
    let oldest = sample.queues.iter().filter_map(|queue| queue.oldest_pending_age).max();
    let oldest = oldest.map_or_else(|| "-".to_owned(), |age| coarse(age.duration()));
    vec![
        Line::from(vec![
            " done/s ".into(),
            Span::styled(format!("{:<9}", shown(total.map(|rate| rate.completed))), paint.good()),
            "failed/s ".into(),
            Span::styled(
                format!("{:<9}", shown(total.map(|rate| rate.failed))),
                if failing { paint.bad() } else { Style::new() },
            ),
            format!("workers {}  slots {used}/{slots}", sample.workers.len()).into(),
        ]),
        Line::from(format!(
            " pending {}  running {}  scheduled {}  oldest pending {oldest}",
            sample.sum(|queue| queue.pending),
            sample.sum(|queue| queue.running),
            sample.sum(|queue| queue.scheduled),
        )),
    ]
}

fn draw_chart(frame: &mut Frame<'_>, state: &State, paint: Paint, area: Rect) {
    let room = usize::from(area.width.saturating_sub(2));
    let newest: Vec<u64> = state.history.iter().rev().take(room).rev().copied().collect();
    let chart = Sparkline::default().data(&newest).style(paint.good());
    let inner = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    frame.render_widget(chart, inner);
}

fn tab_line<'a>(state: &State) -> Line<'a> {
    let mut parts = Vec::new();
    for pane in Pane::ALL {
        let chosen = pane == state.pane;
        let style =
            if chosen { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        let title =
            if chosen { format!("[{}]", pane.title()) } else { format!(" {} ", pane.title()) };
        parts.push(Span::styled(title, style));
        parts.push(" ".into());
    }
    parts.push(format!(" by {}", state.order()).into());
    Line::from(parts)
}

fn key_line<'a>(state: &State, paint: Paint, now: Instant) -> Line<'a> {
    if let (Some((_, reason)), Some(silence)) = (&state.trouble, state.silence(now)) {
        let ago = coarse(Duration::from_secs(silence.as_secs()));
        return Line::styled(
            format!(" NOT CONNECTED for {ago}: {}", printable(reason)),
            paint.bad(),
        );
    }
    let keys = " q quit  p pause  tab/←/→ pane  ↑/↓ scroll  s sort";
    if state.paused {
        return Line::from(vec![
            Span::styled(" PAUSED ", Style::new().add_modifier(Modifier::REVERSED)),
            keys.into(),
        ]);
    }
    Line::styled(keys, paint.dim())
}

/// A rate with few digits.
fn per_second(rate: f64) -> String {
    if rate == 0.0 {
        "0".to_owned()
    } else if rate < 10.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

fn draw_table<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    head: &[&'a str],
    widths: Vec<Constraint>,
    rows: impl Iterator<Item = Row<'a>>,
    scroll: usize,
) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let head = Row::new(head.iter().map(|title| Cell::from(*title))).style(bold);
    let block = Block::new().borders(Borders::TOP);
    let table = Table::new(rows.skip(scroll), widths).header(head).block(block).column_spacing(1);
    frame.render_widget(table, area);
}

fn number(count: u64) -> Cell<'static> {
    Cell::from(count.to_string())
}

fn draw_queues(frame: &mut Frame<'_>, state: &State, paint: Paint, area: Rect) {
    let rows = state.queues().into_iter().map(|queue| {
        let rate = state.rate(&queue.name);
        let shown = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), per_second);
        let failing = rate.is_some_and(|rate| rate.failed > 0.0);
        let name = printable(&queue.name);
        Row::new([
            Cell::from(if queue.paused { format!("{name} (paused)") } else { name }),
            number(queue.pending),
            number(queue.running),
            number(queue.scheduled),
            Cell::from(
                queue
                    .oldest_pending_age
                    .map_or_else(|| "-".to_owned(), |age| coarse(age.duration())),
            ),
            Cell::from(shown(rate.map(|rate| rate.completed))),
            Cell::from(shown(rate.map(|rate| rate.failed))).style(if failing {
                paint.bad()
            } else {
                Style::new()
            }),
            number(queue.failed_total),
        ])
    });
    let head =
        ["QUEUE", "PENDING", "RUNNING", "SCHEDULED", "OLDEST", "DONE/S", "FAILED/S", "FAILED"];
    let mut widths = vec![Constraint::Min(14)];
    widths.extend([8, 7, 9, 8, 7, 8, 7].map(Constraint::Length));
    draw_table(frame, area, &head, widths, rows, state.scroll);
}

fn draw_workers(frame: &mut Frame<'_>, state: &State, paint: Paint, area: Rect) {
    let rows = state.workers().into_iter().map(|worker| {
        let names = |names: &[String]| {
            if names.is_empty() { "all".to_owned() } else { printable(&names.join(",")) }
        };
        let age = worker.heartbeat_age.unwrap_or_default().duration();
        let silent = age > Duration::from_secs(6);
        Row::new([
            Cell::from(printable(&worker.name)),
            Cell::from(if worker.draining { "draining" } else { "active" }),
            Cell::from(format!("{}/{}", worker.slots_used, worker.slots)),
            Cell::from(format!("{} ago", coarse(age))).style(if silent {
                paint.bad()
            } else {
                Style::new()
            }),
            Cell::from(names(&worker.queues)),
            Cell::from(names(&worker.kinds)),
        ])
    });
    let head = ["WORKER", "STATE", "SLOTS", "HEARD", "QUEUES", "KINDS"];
    let widths = vec![
        Constraint::Min(18),
        Constraint::Length(8),
        Constraint::Length(11),
        Constraint::Length(11),
        Constraint::Length(12),
        Constraint::Length(14),
    ];
    draw_table(frame, area, &head, widths, rows, state.scroll);
}

fn draw_schedules(frame: &mut Frame<'_>, state: &State, sample: &Sample, paint: Paint, area: Rect) {
    let day_of = |date: Option<Date>| {
        let text = date.map(|date| date.timestamp().strftime("%m-%d %H:%M:%S").to_string());
        Cell::from(text.unwrap_or_else(|| "-".to_owned()))
    };
    let rows =
        state.schedules().into_iter().map(|schedule| {
            let stopped = schedule.pause.as_ref().is_some_and(|pause| pause.on_failure);
            let style = match schedule.state() {
                _ if stopped => paint.bad(),
                ScheduleState::Paused => paint.fg(Color::Yellow),
                ScheduleState::Completed => paint.dim(),
                ScheduleState::Active | ScheduleState::Unspecified => Style::new(),
            };
            Row::new([
                Cell::from(printable(&schedule.name)),
                Cell::from(schedule.state().word()).style(style),
                day_of(schedule.next_time),
                day_of(schedule.last_fired_time),
                day_of(schedule.last_success_time),
                number(schedule.failures_in_a_row.into())
                    .style(if schedule.failures_in_a_row > 0 { paint.bad() } else { Style::new() }),
            ])
        });
    let note = sample.has_more_schedules.then(|| {
        let note = "more exist: `rota schedule list` shows all";
        Row::new([Cell::from(note)]).style(paint.dim())
    });
    let head = ["SCHEDULE", "STATE", "NEXT (UTC)", "LAST RUN", "LAST SUCCESS", "FAILED"];
    let mut widths = vec![Constraint::Min(16)];
    widths.extend([9, 14, 14, 14, 6].map(Constraint::Length));
    draw_table(frame, area, &head, widths, note.into_iter().chain(rows), state.scroll);
}

fn draw_errors(frame: &mut Frame<'_>, state: &State, paint: Paint, area: Rect) {
    let rows = state.failures().into_iter().map(|task| {
        let error = task.error.as_ref();
        let reason = error.map_or("", |error| error.reason().word());
        let message = error.map_or_else(String::new, |error| printable(&error.message));
        Row::new([
            Cell::from(task.finished_at.map_or_else(|| "-".to_owned(), time_of)),
            Cell::from(printable(&task.id)),
            Cell::from(printable(&task.queue)),
            Cell::from(task.attempt.to_string()),
            Cell::from(reason).style(paint.fg(Color::Red)),
            Cell::from(message),
        ])
    });
    let head = ["ENDED", "TASK", "QUEUE", "TRIES", "REASON", "MESSAGE"];
    let widths = vec![
        Constraint::Length(8),
        Constraint::Length(19),
        Constraint::Length(10),
        Constraint::Length(5),
        Constraint::Length(11),
        Constraint::Min(18),
    ];
    draw_table(frame, area, &head, widths, rows, state.scroll);
}

/// The time of day in UTC.
fn time_of(date: Date) -> String {
    date.timestamp().strftime("%H:%M:%S").to_string()
}

fn draw_nodes(frame: &mut Frame<'_>, sample: &Sample, paint: Paint, area: Rect) {
    let cluster = &sample.cluster;
    let rows = cluster.nodes.iter().map(|node| {
        let style = match node.role() {
            NodeRole::Leader => paint.good(),
            NodeRole::Follower => Style::new(),
            NodeRole::Unknown | NodeRole::Unreachable | NodeRole::Unspecified => paint.bad(),
        };
        Row::new([
            Cell::from(printable(&node.name)),
            Cell::from(role(node.role())).style(style),
            number(node.epoch),
            number(node.live_tasks),
            Cell::from(lag(cluster, node).map_or_else(|| "-".to_owned(), |lag| lag.to_string())),
            Cell::from(printable(&state_of(node))).style(if node.ready {
                Style::new()
            } else {
                paint.bad()
            }),
        ])
    });
    let head = ["NODE", "ROLE", "EPOCH", "LIVE", "LAG", "STATE"];
    let widths = vec![
        Constraint::Length(16),
        Constraint::Length(11),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Min(20),
    ];
    draw_table(frame, area, &head, widths, rows, 0);
}
