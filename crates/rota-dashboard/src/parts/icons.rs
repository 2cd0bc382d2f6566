//! Icons, drawn with lines of one width on a grid of 16.

use maud::{Markup, PreEscaped, html};

/// The icon of this name. It is decoration: a text beside it, or a label, says the same.
pub(crate) fn icon(name: &str) -> Markup {
    // Constants of this file.
    let drawing = PreEscaped(match name {
        "logo" => r#"<circle cx="8" cy="8" r="6"/><path d="M8 4.5V8l2.5 1.8"/>"#,
        "search" => r#"<circle cx="7" cy="7" r="4.5"/><path d="m10.5 10.5 3.5 3.5"/>"#,
        "overview" => {
            r#"<rect x="2" y="2" width="5" height="6" rx="1"/><rect x="9" y="2" width="5" height="3" rx="1"/><rect x="2" y="11" width="5" height="3" rx="1"/><rect x="9" y="8" width="5" height="6" rx="1"/>"#
        }
        "tasks" => r#"<path d="M2 4h1M6 4h8M2 8h1M6 8h8M2 12h1M6 12h8"/>"#,
        "failures" => r#"<path d="M8 2 1.5 13.5h13zM8 6.5v3M8 11.5v.1"/>"#,
        "schedules" => {
            r#"<rect x="2" y="3" width="12" height="11" rx="1.5"/><path d="M2 6.5h12M5.5 1.5V4M10.5 1.5V4"/>"#
        }
        "queues" => {
            r#"<rect x="2" y="2.5" width="12" height="3" rx="1"/><rect x="2" y="7" width="9" height="3" rx="1"/><rect x="2" y="11.5" width="6" height="2.5" rx="1"/>"#
        }
        "workers" => {
            r#"<rect x="4" y="4" width="8" height="8" rx="1.5"/><path d="M6.5 1.5V4M9.5 1.5V4M6.5 12v2.5M9.5 12v2.5M1.5 6.5H4M1.5 9.5H4M12 6.5h2.5M12 9.5h2.5"/>"#
        }
        "cluster" => {
            r#"<circle cx="8" cy="3.5" r="2"/><circle cx="3.5" cy="12" r="2"/><circle cx="12.5" cy="12" r="2"/><path d="m7 5.3-2.6 5M9 5.3l2.6 5M5.5 12h5"/>"#
        }
        "new" => r#"<path d="M8 3v10M3 8h10"/>"#,
        "settings" => {
            r#"<path d="M2 5h7M13 5h1M2 11h1M7 11h7"/><circle cx="11" cy="5" r="2"/><circle cx="5" cy="11" r="2"/>"#
        }
        "copy" => {
            r#"<rect x="5.5" y="5.5" width="8" height="8" rx="1.5"/><path d="M10.5 2.5h-7a1 1 0 0 0-1 1v7"/>"#
        }
        "pause" => r#"<path d="M5.5 3.5v9M10.5 3.5v9"/>"#,
        "ok" => r#"<path d="m3 8.5 3.5 3.5L13 4.5"/>"#,
        "close" => r#"<path d="m4 4 8 8M12 4l-8 8"/>"#,
        _ => "",
    });
    html! {
        svg.icon viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.5"
            stroke-linecap="round" stroke-linejoin="round" aria-hidden="true" {
            (drawing)
        }
    }
}
