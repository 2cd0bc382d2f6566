//! Pages that have a place in the navigation and no content yet, with the command that shows the same.

use maud::html;

use crate::{layout::View, parts::empty, trouble::Trouble};

pub(super) fn show(page: &str) -> Result<View, Trouble> {
    let (of, title, command) = match page {
        "failures" => ("failures", "Failures", "rota task list --status failed"),
        _ => return Err(Trouble::NoPage),
    };
    let body = html! {
        div.head { h1 { (title) } }
        (empty("This page has no content yet.", "The command line shows the same:", Some(command)))
    };
    Ok(View::new(title, of, body))
}
