//! The frame around every page: head, navigation, search, and the state of the live refresh.

use bytes::Bytes;
use maud::{DOCTYPE, Markup, html};
use rota_proto::v1::{GetServerInfoRequest, ServerInfo};

use crate::{
    assets, link,
    parts::{icon, trouble_panel, unread},
    trouble::Trouble,
    visit::{Theme, Visit},
};

/// A page without its frame.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) title: String,
    /// Name of the page in the navigation that it belongs to.
    pub(crate) of: &'static str,
    pub(crate) body: Markup,
}

impl View {
    pub(crate) fn new(title: impl Into<String>, of: &'static str, body: Markup) -> Self {
        Self { title: title.into(), of, body }
    }

    /// The page of an error, in the place of the page that was asked for.
    pub(crate) fn of_trouble(visit: &Visit, trouble: &Trouble) -> Self {
        Self::instead(visit, trouble, &unread(trouble))
    }

    /// The page of a change that was not made. The script does not ask for it again: it would make another request.
    pub(crate) fn of_refusal(visit: &Visit, trouble: &Trouble) -> Self {
        Self::instead(visit, trouble, &trouble_panel(trouble))
    }

    fn instead(visit: &Visit, trouble: &Trouble, panel: &Markup) -> Self {
        let what = trouble.words().what;
        let of = NAVIGATION.iter().find(|(name, ..)| *name == visit.page);
        let body = html! {
            div.head { h1 { (what) } }
            (panel)
            @if matches!(trouble, Trouble::Parameter { .. }) {
                p { a href=(link::page(&visit.page)) { "The page without parameters" } }
            }
        };
        Self::new(what, of.map_or("none", |(name, ..)| name), body)
    }
}

/// What a request leads to.
#[derive(Debug)]
pub(crate) enum Shown {
    Page(View),
    /// Another page, by its link.
    See(String),
    /// A file to keep, whatever is in it.
    File {
        name: &'static str,
        content: Bytes,
    },
}

impl From<View> for Shown {
    fn from(view: View) -> Self {
        Self::Page(view)
    }
}

/// The pages of the navigation: name, title, key after `g`.
const NAVIGATION: [(&str, &str, char); 7] = [
    ("", "Overview", 'o'),
    ("tasks", "Tasks", 't'),
    ("failures", "Failures", 'f'),
    ("schedules", "Schedules", 's'),
    ("queues", "Queues", 'q'),
    ("workers", "Workers", 'w'),
    ("cluster", "Cluster", 'c'),
];

/// The node that answers, for the frame.
pub(crate) async fn info(visit: &Visit) -> Option<ServerInfo> {
    let info = visit.api.server().get_server_info(GetServerInfoRequest {}).await;
    info.ok().map(tonic::Response::into_inner)
}

/// The head of a document.
pub(crate) fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (title) " · Rota" }
            link rel="icon" type="image/svg+xml" href=(assets::link("icon.svg"));
            link rel="stylesheet" href=(assets::link("app.css"));
            script defer src=(assets::link("app.js")) data-worker=(assets::link("live.js")) {}
        }
    }
}

/// A whole page.
pub(crate) fn page(visit: &Visit, view: &View, info: Option<&ServerInfo>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-theme=(visit.theme.word()) {
            (head(&view.title))
            body {
                a.skip href="#main" { "Skip to the content" }
                (top(visit, info))
                (navigation(view.of))
                // The script asks again after so many milliseconds, whatever it hears.
                main #main tabindex="-1" data-again=[visit.again.millis()] {
                    // Written by the script, while what the page shows cannot be refreshed.
                    p #stale.stale role="status" {}
                    @if let Some(flash) = visit.flash() {
                        p.flash role="status" { (flash) }
                    }
                    (view.body)
                }
                (help())
                (confirmation())
            }
        }
    }
}

fn top(visit: &Visit, info: Option<&ServerInfo>) -> Markup {
    html! {
        header.top {
            a.brand href="./" { (icon("logo")) span { "Rota" } }
            form.search role="search" action="tasks" method="get" {
                (icon("search"))
                input #search dir="auto" type="search" name="search" placeholder="Task id or text" aria-label="Search tasks"
                    autocomplete="off" maxlength="200" enterkeyhint="search";
                kbd.scripted { "/" }
            }
            div.state {
                span #pending.pending role="status" {}
                label.live.scripted title="How often this page refreshes" {
                    span #dot.dot data-state="off" {}
                    span.sr { "Refresh" }
                    select #interval {
                        option value="live" { "Live" }
                        option value="5" { "Every 5 s" }
                        option value="30" { "Every 30 s" }
                        option value="paused" { "Paused" }
                    }
                }
                (settings(visit.theme))
                @if visit.signed_in {
                    form action="logout" method="post" {
                        button.quiet type="submit" { "Sign out" }
                    }
                }
            }
            (node(info))
        }
    }
}

/// The choices of the script: colours and times.
fn settings(theme: Theme) -> Markup {
    html! {
        details.menu.scripted {
            summary.quiet aria-label="Settings" title="Settings" { (icon("settings")) }
            div.sheet {
                label { "Colours"
                    select #theme {
                        @for one in [Theme::System, Theme::Light, Theme::Dark] {
                            option value=(one.word()) selected[one == theme] { (one.word()) }
                        }
                    }
                }
                label { "Times"
                    select #times {
                        option value="relative" { "relative" }
                        option value="local" { "local" }
                        option value="utc" { "UTC" }
                    }
                }
                p { kbd { "?" } " shows all keys." }
            }
        }
    }
}

fn node(info: Option<&ServerInfo>) -> Markup {
    html! {
        p #node.node data-live="cluster" {
            @match info {
                None => { span.bad { "no answer from the node" } }
                Some(info) => {
                    span title="The node that answers" { bdi { (info.node) } }
                    @match &info.leader {
                        Some(leader) if *leader == info.node => { " leads" }
                        Some(leader) => { ", leader " bdi { (leader) } }
                        None => { ", " span.bad { "no leader" } }
                    }
                    span.version { " · " (info.version) }
                }
            }
        }
    }
}

fn navigation(of: &str) -> Markup {
    html! {
        nav.side aria-label="Pages" {
            ul {
                @for (name, title, key) in NAVIGATION {
                    li {
                        a href=(link::page(name)) data-key=(key) aria-current=[(name == of).then_some("page")] {
                            (icon(if name.is_empty() { "overview" } else { name }))
                            span { (title) }
                        }
                    }
                }
            }
            a.new href="new" data-key="n" { (icon("new")) span { "New task" } }
        }
    }
}

/// The sheet with all keys, which the script opens.
fn help() -> Markup {
    html! {
        dialog #help aria-labelledby="help-title" {
            h2 #help-title { "Keys" }
            dl.keys {
                dt { kbd { "/" } } dd { "Search" }
                dt { kbd { "r" } } dd { "Refresh now" }
                dt { kbd { "." } } dd { "Pause and go on" }
                @for (_, title, key) in NAVIGATION {
                    dt { kbd { "g" } " " kbd { (key) } } dd { (title) }
                }
                dt { kbd { "g" } " " kbd { "n" } } dd { "New task" }
                dt { kbd { "j" } " " kbd { "k" } } dd { "Next and previous row" }
                dt { kbd { "Enter" } } dd { "Open the row" }
                dt { kbd { "x" } } dd { "Select the row" }
                dt { kbd { "?" } } dd { "This sheet" }
                dt { kbd { "Esc" } } dd { "Close" }
            }
            form method="dialog" { button type="submit" { "Close" } }
        }
    }
}

/// The question before a change, which the script asks. Without it, the server asks on a page of its own.
fn confirmation() -> Markup {
    html! {
        dialog #confirm aria-labelledby="confirm-text" {
            p #confirm-text {}
            form method="dialog" {
                button type="submit" value="no" autofocus { "Go back" }
                button.danger type="submit" value="yes" { "Confirm" }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;
    use crate::{apart::assert_apart, fake::Fake};

    const HOSTILE: &str = "</title><script>alert(1)</script>\u{202e}";

    #[test]
    fn hostile_nodes_and_errors_stay_text_in_the_frame() {
        let info = ServerInfo {
            node: HOSTILE.to_owned(),
            leader: Some(format!("other {HOSTILE}")),
            ..ServerInfo::default()
        };
        let visit = Fake::default().visit("tasks", "");
        let refused = Trouble::Api(Box::new(Status::invalid_argument(HOSTILE)));
        let wrong = Trouble::Parameter { name: "x".to_owned(), message: HOSTILE.to_owned() };
        for trouble in [refused, wrong] {
            let view = View::of_trouble(&visit, &trouble);
            let html = page(&visit, &view, Some(&info)).into_string();
            assert!(!html.contains("<script>"), "{html}");
            assert_apart(&html);
        }
    }
}
