//! Changes that one button asks for, as forms.

use maud::{Markup, html};

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

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
