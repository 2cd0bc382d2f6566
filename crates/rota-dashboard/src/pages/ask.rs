//! Changes as forms, and the question before one where no script asks it.

use maud::{Markup, html};

use crate::{layout::View, visit::Visit};

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

/// The page that asks whether to make the change of this form. The answer sends the same form again, confirmed.
pub(super) fn question(
    visit: &Visit,
    of: &'static str,
    question: &str,
    label: &str,
    back: &str,
) -> View {
    let fields = visit.pairs.0.iter().filter(|(name, _)| name != "confirmed");
    let body = html! {
        div.head { h1 { "Are you sure?" } }
        form.question action=(visit.page) method="post" {
            p { bdi { (question) } }
            @for (name, value) in fields {
                input type="hidden" name=(name) value=(value);
            }
            input type="hidden" name="confirmed" value="yes";
            div.actions {
                button.danger type="submit" { (label) }
                a.button href=(back) { "Cancel" }
            }
        }
    };
    View::new("Are you sure?", of, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::fake::Fake;

    #[test]
    fn the_question_sends_the_same_form_again() {
        let hostile = "\"><script>alert(1)</script>\u{202e}";
        let pairs = [("name", hostile), ("do", "pause"), ("confirmed", "no")];
        let visit = Fake::default().form("queue", &pairs);
        let view = question(&visit, "queues", &format!("Pause {hostile}?"), "Pause", "queues");
        let html = view.body.into_string();
        assert!(!html.contains("<script") && html.contains("&lt;script"), "{html}");
        assert!(html.contains("action=\"queue\" method=\"post\""), "{html}");
        assert!(html.contains("name=\"do\" value=\"pause\""), "{html}");
        assert_eq!(html.matches("name=\"confirmed\"").count(), 1, "{html}");
        assert!(html.contains("name=\"confirmed\" value=\"yes\""), "{html}");
    }
}
