//! Larger parts: tiles, lists of what needs attention, empty states, errors, and pagers.

use maud::{Markup, html};

use super::{copy, icon};
use crate::{link, trouble::Trouble, visit::Visit};

/// A number with its name, and a link to what it counts.
pub(crate) fn tile(title: &str, number: &str, note: &str, href: &str, state: &str) -> Markup {
    html! {
        a.tile href=(href) data-state=(state) {
            span.title { (title) }
            strong { (number) }
            @if !note.is_empty() { span.note { (note) } }
        }
    }
}

/// How much something needs attention. The order is that of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// Work stands still, or is in danger.
    Bad,
    /// Somebody should know.
    Warning,
}

/// Something that needs attention: what, why or how much, and where to go.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) weight: Weight,
    pub(crate) what: Markup,
    pub(crate) why: Markup,
    pub(crate) href: String,
    /// The words of the link.
    pub(crate) go: &'static str,
}

/// The list of what needs attention, worst first.
pub(crate) fn attention(mut list: Vec<Attention>) -> Markup {
    list.sort_by_key(|one| one.weight);
    html! {
        @if list.is_empty() {
            p.calm { (icon("ok")) "Nothing needs attention." }
        } @else {
            ul.attention {
                @for one in &list {
                    li data-weight=(if one.weight == Weight::Bad { "bad" } else { "warning" }) {
                        div.what {
                            strong { (one.what) }
                            span.why { (one.why) }
                        }
                        a href=(one.href) { (one.go) }
                    }
                }
            }
        }
    }
}

/// What to do where there is nothing yet, with a command to paste.
pub(crate) fn empty(what: &str, todo: &str, command: Option<&str>) -> Markup {
    html! {
        div.empty {
            p.what { (what) }
            p { (todo) }
            @if let Some(command) = command {
                p.command { code { (command) } (copy(command, "Copy the command")) }
            }
        }
    }
}

/// A part of a page that could not be read, while the rest could.
pub(crate) fn failed(status: tonic::Status) -> Markup {
    unread(&Trouble::from(status))
}

/// Why a page, or a part of it, cannot be shown. If that passes, the script keeps what it showed before, says so, and
/// asks again.
pub(crate) fn unread(trouble: &Trouble) -> Markup {
    panel(trouble, trouble.passes())
}

/// An error: what failed, why, and what to do.
pub(crate) fn trouble_panel(trouble: &Trouble) -> Markup {
    panel(trouble, false)
}

fn panel(trouble: &Trouble, passes: bool) -> Markup {
    let words = trouble.words();
    html! {
        div.trouble role="alert" data-passing[passes] {
            p.what { (words.what) }
            p { bdi { (words.why) } }
            @if !words.fields.is_empty() {
                ul {
                    @for (field, message) in &words.fields {
                        li { code { (field) } " " bdi { (message) } }
                    }
                }
            }
            p.todo { (words.todo) }
            @if let Some(reason) = &words.reason {
                p.reason { "Reason: " code { (reason) } }
            }
        }
    }
}

/// The links below a page of a list.
#[derive(Debug)]
pub(crate) struct Pager<'a> {
    pub(crate) visit: &'a Visit,
    /// Cursor of the next page.
    pub(crate) next: Option<&'a str>,
    /// Name of the first page, such as `Newest`.
    pub(crate) first: &'a str,
}

/// Links to the first and the next page. A list can be too long to count, so there is no last one.
pub(crate) fn pager(pager: &Pager<'_>) -> Markup {
    let kept = || {
        let pairs = pager.visit.pairs.0.iter();
        pairs.filter(|(name, _)| !matches!(name.as_str(), "cursor" | crate::flash::PARAMETER))
    };
    let to = |cursor: Option<&str>| {
        let pairs = kept().map(|(name, value)| (name.as_str(), value.as_str()));
        link::to(&pager.visit.page, pairs.chain(cursor.map(|cursor| ("cursor", cursor))))
    };
    let is_further = pager.visit.pairs.get("cursor").is_some();
    html! {
        @if is_further || pager.next.is_some() {
            nav.pager aria-label="Pages of the list" {
                @if is_further { a href=(to(None)) rel="first" { (pager.first) } }
                @if let Some(next) = pager.next { a href=(to(Some(next))) rel="next" { "Next page" } }
            }
        }
    }
}
