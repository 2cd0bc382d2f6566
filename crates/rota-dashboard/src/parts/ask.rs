//! The question before a change, for browsers without scripts, and for changes whose size the server must count first.

use maud::{Markup, html};

use crate::visit::Visit;

/// A question with the form that repeats the request, confirmed.
#[derive(Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) question: &'a str,
    /// More that there is to say.
    pub(crate) about: Markup,
    /// The words of the button.
    pub(crate) go: &'a str,
    /// The way back, as a link.
    pub(crate) back: &'a str,
}

/// Asks. Everything that was sent is sent again.
pub(crate) fn ask(visit: &Visit, ask: &Ask<'_>) -> Markup {
    html! {
        div.head { h1 { (ask.question) } }
        form.ask.card action=(visit.page) method="post" {
            @for (name, value) in &visit.pairs.0 {
                input type="hidden" name=(name) value=(value);
            }
            input type="hidden" name="confirmed" value="yes";
            (ask.about)
            div.actions {
                button.danger type="submit" autofocus { (ask.go) }
                a.button href=(ask.back) { "Go back" }
            }
        }
    }
}
