//! Small drawings of numbers, as SVG that needs no style and no script.

use maud::{Markup, html};

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
        assert!(share(7, 0, "x").into_string().contains("width=\"0\""));
        assert!(
            share(u64::MAX, 1, "x").into_string().contains("width=\"100\" height=\"6\" rx=\"3\"")
        );
    }
}
