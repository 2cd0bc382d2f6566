//! Changes that one button asks for, as forms.

use maud::{Markup, html};
use rota_proto::Date;

use crate::parts::when;

/// A change that one button asks for.
#[derive(Debug, Default)]
pub(super) struct Change<'a> {
    /// The page whose `act` makes the change.
    pub(super) page: &'a str,
    pub(super) fields: &'a [(&'a str, &'a str)],
    /// The words of the button.
    pub(super) label: &'a str,
    /// What to ask before, if the change should not happen by a slip.
    pub(super) question: Option<String>,
    /// Class of the button.
    pub(super) class: &'a str,
    /// Longer words for readers that hear the button without the row that it stands in.
    pub(super) title: Option<String>,
}

impl Change<'_> {
    /// The form.
    pub(super) fn form(&self) -> Markup {
        html! {
            form.change action=(self.page) method="post" data-confirm=[self.question.as_deref()] {
                @for (name, value) in self.fields {
                    input type="hidden" name=(name) value=(value);
                }
                button type="submit" class=[(!self.class.is_empty()).then_some(self.class)]
                    aria-label=[self.title.as_deref()] title=[self.title.as_deref()] { (self.label) }
            }
        }
    }
}

/// A sheet that says what a pause does, and asks who pauses and why.
pub(super) fn pause_sheet(page: &str, name: &str, effect: &str, label: &str) -> Markup {
    html! {
        details.menu.sheeted {
            summary.button { "Pause" }
            form.sheet action=(page) method="post" {
                input type="hidden" name="name" value=(name);
                input type="hidden" name="do" value="pause";
                input type="hidden" name="confirmed" value="yes";
                p { bdi { (effect) } }
                label { "Reason"
                    input dir="auto" type="text" name="note" maxlength="256" autocomplete="off";
                }
                label { "Your name"
                    input dir="auto" type="text" name="by" maxlength="128" autocomplete="username";
                }
                button.main type="submit" { (label) }
            }
        }
    }
}

/// Who paused something, when and why.
pub(super) fn paused_by(by: &str, at: Option<Date>, note: &str) -> Markup {
    html! {
        @if !by.is_empty() { " by " bdi { (by) } }
        ", " (when(at))
        @if !note.is_empty() { ": " bdi { (note) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apart::assert_apart;

    #[test]
    fn hostile_names_stay_text() {
        let hostile = "\"><script>alert(1)</script>\u{202e}";
        let change = Change {
            page: "queue",
            fields: &[("name", hostile)],
            label: "Pause",
            question: Some(format!("Pause {hostile}?")),
            title: Some(format!("Pause {hostile}")),
            ..Change::default()
        };
        let html = change.form().into_string();
        assert!(!html.contains("<script") && html.contains("&lt;script"), "{html}");
        assert!(
            html.contains("action=\"queue\" method=\"post\" data-confirm=\"Pause &quot;"),
            "{html}"
        );
        let sheet = pause_sheet("queue", "q", hostile, "Pause");
        assert_apart(&html! { (sheet) (paused_by(hostile, None, hostile)) }.into_string());
    }
}
