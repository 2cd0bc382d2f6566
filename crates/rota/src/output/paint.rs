//! Colours by state. The text is safe for a terminal before it gets here.

const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";
const DIM: &str = "2";

fn painted(text: &str, style: &str) -> String {
    format!("\u{1b}[{style}m{text}\u{1b}[0m")
}

/// A title of a column.
pub(super) fn title(text: &str, colour: bool) -> String {
    if colour && !text.is_empty() { painted(text, BOLD) } else { text.to_owned() }
}

/// A text that begins with the word of a state.
pub(super) fn state(text: &str, colour: bool) -> String {
    let style = if colour { style(text) } else { None };
    style.map_or_else(|| text.to_owned(), |style| painted(text, style))
}

/// The style of a state. A text that is no known state has none.
fn style(text: &str) -> Option<&'static str> {
    let word = text.split([' ', ':', ',']).next().unwrap_or_default();
    Some(match word {
        "completed" | "active" | "ready" | "ok" | "yes" | "fired" | "leader" => GREEN,
        "running" | "assigned" => CYAN,
        "pending" | "scheduled" | "paused" | "draining" | "queued" | "warning" | "snoozed" => {
            YELLOW
        }
        "failed" | "expired" | "unreachable" | "missed" | "conflict" | "not" | "no" | "error" => {
            RED
        }
        "cancelled" | "skipped" => DIM,
        _ => return None,
    })
}
