//! Small drawings of numbers, as SVG that needs no style and no script.

use std::fmt::Write as _;

use maud::{Markup, html};

const WIDTH: u64 = 120;
const HEIGHT: u64 = 28;

/// A line of numbers, oldest first. `label` says in words what it shows.
pub(crate) fn sparkline(numbers: &[u64], label: &str) -> Markup {
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    let last = numbers.len().saturating_sub(1).max(1) as u64;
    let mut points = String::new();
    for (at, number) in numbers.iter().enumerate() {
        let x = at as u64 * WIDTH / last;
        // Wide, so that no number overflows.
        let y = HEIGHT
            - 2
            - u64::try_from(u128::from(*number) * u128::from(HEIGHT - 4) / u128::from(most))
                .unwrap_or(0);
        // Writing to a string does not fail.
        let _ = write!(points, "{x},{y} ");
    }
    html! {
        svg.spark viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) preserveAspectRatio="none" {
            polyline points=(points.trim_end()) fill="none" stroke="currentColor" stroke-width="1.5" {}
        }
    }
}

/// A bar that shows a part of a whole.
pub(crate) fn share(part: u64, whole: u64, label: &str) -> Markup {
    let filled = (u128::from(part) * 100).checked_div(u128::from(whole)).unwrap_or(0).min(100);
    html! {
        svg.share viewBox="0 0 100 6" role="img" aria-label=(label) preserveAspectRatio="none" {
            rect.back width="100" height="6" rx="3" {}
            rect.fill width=(filled) height="6" rx="3" {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawings_stay_in_their_box() {
        let html = sparkline(&[0, u64::MAX, 5], "x").into_string();
        assert!(html.contains("points=\"0,26 60,2 120,26\""), "{html}");
        assert!(sparkline(&[], "x").into_string().contains("points=\"\""));
        assert!(share(7, 0, "x").into_string().contains("width=\"0\""));
        assert!(
            share(u64::MAX, 1, "x").into_string().contains("width=\"100\" height=\"6\" rx=\"3\"")
        );
    }
}
