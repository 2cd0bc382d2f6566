//! The question before a change, on a page of its own: for browsers without the script, which would have asked in a
//! dialog.

use maud::html;

use crate::{layout::View, visit::Visit};

/// Asks the question, and sends the same form again with the confirmation.
pub(super) fn ask(visit: &Visit, of: &'static str, question: &str) -> View {
    let body = html! {
        div.head { h1 { "Confirm" } }
        form.card.confirm action=(visit.page) method="post" {
            p { bdi { (question) } }
            @for (name, value) in &visit.pairs.0 {
                input type="hidden" name=(name) value=(value);
            }
            div.actions {
                a.button href=(of) { "Cancel" }
                button.danger type="submit" name="confirmed" value="yes" { "Confirm" }
            }
        }
    };
    View::new("Confirm", of, body)
}
