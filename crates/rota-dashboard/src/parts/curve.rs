//! Curves of the last hour. Lines are drawn with attributes alone, because the policy of pages allows no inline style, and
//! their numbers stand beside them as text.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use maud::{Markup, html};

use super::count;
use crate::pulse::{Beat, Rates};

/// The window of the curves: what is known, within these bounds.
const LEAST: Duration = Duration::from_secs(600);
const MOST: Duration = Duration::from_secs(3600);
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 80.0;

/// One line: its name, its colour, and its value at each point. A gap has none.
struct Line {
    name: &'static str,
    state: &'static str,
    values: Vec<(SystemTime, Option<f64>)>,
}

/// The time that is drawn.
#[derive(Clone, Copy)]
struct View {
    now: SystemTime,
    window: Duration,
}

/// How many tasks were created and ended a minute, and how many waited.
pub(crate) fn curves(beats: &[Beat], now: SystemTime) -> Markup {
    if beats.len() < 2 {
        return html! {
            p.note { "Curves begin now. A node remembers an hour, from the first time that somebody opens this page." }
        };
    }
    let rate =
        |of: fn(Rates) -> f64| beats.iter().map(|beat| (beat.at, beat.rates.map(of))).collect();
    let known = beats.first().and_then(|first| now.duration_since(first.at).ok());
    let view = View { now, window: known.unwrap_or_default().clamp(LEAST, MOST) };
    #[expect(clippy::cast_precision_loss, reason = "a height of at most 80 pixels")]
    let waiting = beats.iter().map(|beat| (beat.at, Some(beat.waiting as f64))).collect();
    let flow = [
        Line { name: "Created", state: "scheduled", values: rate(|rates| rates.created) },
        Line { name: "Completed", state: "completed", values: rate(|rates| rates.completed) },
        Line { name: "Failed", state: "failed", values: rate(|rates| rates.failed) },
    ];
    let waits = [Line { name: "Waiting", state: "pending", values: waiting }];
    html! {
        (chart("Tasks that came and ended, a minute", &flow, view))
        (chart("Tasks that waited for a worker", &waits, view))
    }
}

fn chart(title: &str, lines: &[Line], view: View) -> Markup {
    let most = lines.iter().map(Line::most).fold(0.0, f64::max);
    let minutes = view.window.as_secs() / 60;
    let words: Vec<_> = lines.iter().map(Line::words).collect();
    html! {
        figure.curve {
            figcaption {
                strong { (title) }
                @for line in lines {
                    span.of data-state=(line.state) { span.mark {} (line.name) " " strong { (whole(line.last())) } }
                }
            }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" preserveAspectRatio="none"
                aria-label=(format!("{title}, in the last {minutes} minutes. {}", words.join(" "))) {
                @for line in lines {
                    path data-state=(line.state) d=(line.path(most, view)) vector-effect="non-scaling-stroke" {}
                }
            }
            p.note { span { (minutes) " min ago" } span { "at most " (whole(most)) } span { "now" } }
        }
    }
}

impl Line {
    fn most(&self) -> f64 {
        self.values.iter().filter_map(|(_, value)| *value).fold(0.0, f64::max)
    }

    fn last(&self) -> f64 {
        self.values.iter().rev().find_map(|(_, value)| *value).unwrap_or_default()
    }

    fn words(&self) -> String {
        format!("{}: {} now, at most {}.", self.name, whole(self.last()), whole(self.most()))
    }

    /// The line within the box, with a new beginning after each gap.
    fn path(&self, most: f64, view: View) -> String {
        let (mut path, mut is_open) = (String::new(), false);
        for (at, value) in &self.values {
            let age = view.now.duration_since(*at).unwrap_or_default();
            let Some(value) = value.filter(|_| age <= view.window) else {
                is_open = false;
                continue;
            };
            let x = WIDTH * (1.0 - age.as_secs_f64() / view.window.as_secs_f64());
            // The line stays within the box with half its width.
            let y = (HEIGHT - 2.0) * (1.0 - value / most.max(1.0)) + 1.0;
            // Writing to a string cannot fail.
            let _ = write!(path, "{}{x:.0} {y:.1}", if is_open { 'L' } else { 'M' });
            is_open = true;
        }
        path
    }
}

/// A rate as text: small ones with a digit, so that they are not shown as nothing.
fn whole(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 && rate.fract() != 0.0 {
        return format!("{rate:.1}");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are small and positive"
    )]
    count(rate.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(seconds: u64, waiting: u64, rates: Option<(f64, f64)>) -> Beat {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let rates =
            rates.map(|(completed, failed)| Rates { created: completed, completed, failed });
        Beat { at, waiting, rates }
    }

    #[test]
    fn curves_have_gaps_and_words_and_no_style() {
        let beats = [
            beat(0, 4, None),
            beat(1800, 2, Some((60.0, 0.0))),
            beat(1810, 2, None),
            beat(3600, 0, Some((1234.0, 0.5))),
        ];
        let now = SystemTime::UNIX_EPOCH + MOST;
        let html = curves(&beats, now).into_string();
        assert!(html.contains("Created: 1,234 now, at most 1,234. Completed: 1,234 now, at most 1,234. Failed: 0.5 now"), "{html}");
        // The first value of the rates stands in the middle, and the last begins anew at the top of the right edge.
        assert!(html.contains("d=\"M360 75.2M720 1.0\""), "{html}");
        assert!(html.contains("d=\"M0 1.0L360 40.0L362 40.0L720 79.0\""), "{html}");
        assert!(!html.contains("style"), "{html}");
    }

    #[test]
    fn a_point_older_than_the_window_is_left_out() {
        let line =
            Line { name: "x", state: "failed", values: vec![(SystemTime::UNIX_EPOCH, Some(1.0))] };
        let view = View { now: SystemTime::UNIX_EPOCH + MOST * 2, window: MOST };
        assert_eq!(line.path(1.0, view), "");
    }

    #[test]
    fn without_points_it_says_when_they_come() {
        let html = curves(&[], SystemTime::UNIX_EPOCH).into_string();
        assert!(html.contains("Curves begin now") && !html.contains("svg"), "{html}");
    }
}
