//! The question before a change, on a page of its own: for browsers without the script, which would have asked in a
//! dialog, and for changes whose size the server must count first.

use maud::{Markup, html};

use crate::{layout::View, visit::Visit};

/// A question about a change.
#[derive(Debug)]
pub(super) struct Question<'a> {
    pub(super) title: &'a str,
    /// What there is to say about the change.
    pub(super) about: Markup,
    /// The words of the button.
    pub(super) go: &'a str,
    /// The way back, as a link.
    pub(super) back: &'a str,
}

/// Asks the question, and sends the same form again with the confirmation.
pub(super) fn ask(visit: &Visit, of: &'static str, question: &str) -> View {
    let about = html! { p { bdi { (question) } } };
    ask_about(visit, of, &Question { title: "Confirm", about, go: "Confirm", back: of })
}

/// The same with more to say.
pub(super) fn ask_about(visit: &Visit, of: &'static str, question: &Question<'_>) -> View {
    let body = html! {
        div.head { h1 { (question.title) } }
        form.card.confirm action=(visit.page) method="post" {
            (question.about)
            @for (name, value) in &visit.pairs.0 {
                input type="hidden" name=(name) value=(value);
            }
            div.actions {
                a.button href=(question.back) { "Go back" }
                button.danger type="submit" name="confirmed" value="yes" { (question.go) }
            }
        }
    };
    View::new(question.title, of, body)
}
