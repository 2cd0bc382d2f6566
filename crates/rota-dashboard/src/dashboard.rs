//! Finds the page of a request, and checks who asks.

use std::{sync::Arc, time::SystemTime};

use axum::body::Body;
use http::{Request, Response, StatusCode, header, request::Parts};
use maud::Markup;
use rota_proto::operations::{Operation, Route};
use tokio_util::sync::CancellationToken;

use crate::{
    answer,
    api::{Api, Inner},
    assets, flash,
    kept::AskAgain,
    layout::{self, Shown, View},
    link,
    live::Live,
    memory::Memory,
    origin, pages,
    session::{self, Sessions},
    trouble::Trouble,
    visit::{Pairs, Theme, Visit},
};

/// Maximum size of a form. A payload of a new task has up to 1 MiB by default, and its characters up to three bytes.
const FORM_BYTES: usize = 4 << 20;
/// The name for a path that cannot be that of a page.
const NO_PAGE: &str = "none";
const FORM: &str = "application/x-www-form-urlencoded";

/// What the server knows and the dashboard needs.
#[derive(Default)]
pub struct Options {
    /// Tokens of the API. Without any, nobody signs in.
    pub tokens: Vec<Box<str>>,
    /// Whether browsers connect by TLS.
    pub secure: bool,
    /// The origin of the URL by which browsers reach the server, if it is another than they ask for here, such as
    /// `https://rota.example.com`.
    pub public_origin: Option<String>,
    /// The address of a trace, with [`TRACE_ID`](crate::TRACE_ID) in the place of its id.
    pub trace_url: Option<String>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = (self.tokens.len(), self.secure, &self.public_origin, &self.trace_url);
        write!(f, "Options{shown:?}")
    }
}

/// The pages of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dashboard(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    api: Api,
    sessions: Sessions,
    secure: bool,
    public_origin: Option<String>,
    live: Live,
    memory: Arc<Memory>,
    stop: CancellationToken,
}

impl Dashboard {
    /// Pages over this API. Their streams end with `stop`.
    #[must_use]
    pub fn new(api: Inner, options: Options, stop: CancellationToken) -> Self {
        let public = options.public_origin.as_deref();
        let secure = options.secure || public.is_some_and(|url| url.starts_with("https://"));
        Self(Arc::new(Shared {
            api: Api::new(api),
            sessions: Sessions::new(options.tokens),
            secure,
            public_origin: options.public_origin,
            live: Live::new(stop.clone()),
            memory: Arc::new(Memory { trace_url: options.trace_url, ..Memory::default() }),
            stop,
        }))
    }

    /// Follows events for open pages, and takes points of their curves, until the stop. The server runs it beside its
    /// connections.
    pub async fn run(&self) {
        // Its streams name topics only, and its curves totals, so that everybody who is signed in may know them.
        let api = self.0.api.with_token(self.0.sessions.first());
        tokio::join!(self.0.live.run(api.clone()), self.0.memory.pulse.run(api, &self.0.stop));
    }

    /// Answers a request for an operation of the dashboard.
    pub async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let operation = Route::of(path).and_then(|route| route.operation(parts.method.as_str()));
        let page = path.strip_prefix("/ui/").unwrap_or_default();
        let page = if link::is_page(page) { page } else { NO_PAGE };
        match operation {
            Some(Operation::DashboardBase) => answer::see("ui/"),
            Some(Operation::DashboardAsset) => asset(&parts),
            Some(Operation::DashboardLive) => self.live(&parts),
            Some(Operation::DashboardHome | Operation::DashboardPage) => {
                self.show(&parts, page).await
            }
            Some(Operation::DashboardAction) => self.act(&parts, page, body).await,
            _ => answer::plain(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    /// The token of the session. `Err` if the server has tokens and nobody is signed in.
    fn token(&self, parts: &Parts) -> Result<Option<&str>, Trouble> {
        if self.0.sessions.are_open() {
            return Ok(None);
        }
        let cookie = session::cookie(&parts.headers, session::COOKIE);
        let token = cookie.and_then(|cookie| self.0.sessions.token(cookie, SystemTime::now()));
        token.map(Some).ok_or(Trouble::SignIn)
    }

    fn visit(&self, parts: &Parts, page: &str, token: Option<&str>) -> Visit {
        let theme = session::cookie(&parts.headers, Theme::COOKIE);
        Visit {
            page: page.to_owned(),
            pairs: Pairs::of(parts.uri.query().unwrap_or_default()),
            api: self.0.api.with_token(token),
            theme: Theme::of_cookie(theme),
            signed_in: token.is_some(),
            memory: self.0.memory.clone(),
            again: AskAgain::new(self.0.live.pace()),
        }
    }

    fn live(&self, parts: &Parts) -> Response<Body> {
        match self.token(parts) {
            Ok(_) => self.0.live.answer(),
            Err(_) => answer::plain(StatusCode::UNAUTHORIZED, "not signed in\n"),
        }
    }

    async fn show(&self, parts: &Parts, page: &str) -> Response<Body> {
        if page == "login" {
            return self.show_login(parts);
        }
        let Ok(token) = self.token(parts) else {
            return answer::see(&to_login(&self.visit(parts, page, None)));
        };
        let visit = self.visit(parts, page, token);
        let (info, shown) = tokio::join!(layout::info(&visit), pages::show(&visit));
        match shown {
            Ok(Shown::Page(view)) => framed(parts, &visit, &view, info.as_ref(), StatusCode::OK),
            Ok(Shown::See(link)) => answer::see(&link),
            Ok(Shown::File { name, content }) => answer::download(name, content),
            Err(Trouble::SignIn) => answer::see(&to_login(&visit)),
            Err(trouble) => {
                let view = View::of_trouble(&visit, &trouble);
                framed(parts, &visit, &view, info.as_ref(), trouble.status())
            }
        }
    }

    fn show_login(&self, parts: &Parts) -> Response<Body> {
        let visit = self.visit(parts, "login", None);
        if self.0.sessions.are_open() || self.token(parts).is_ok() {
            return answer::see(&way_back(&visit));
        }
        let page = pages::login::form(&visit, false);
        answer::page(StatusCode::OK, &parts.headers, page)
    }

    async fn act(&self, parts: &Parts, page: &str, body: Body) -> Response<Body> {
        let public = self.0.public_origin.as_deref();
        let is_ours = origin::check(&parts.headers, &parts.uri, public);
        let token = if page == "login" { Ok(None) } else { self.token(parts) };
        let mut visit = self.visit(parts, page, token.as_ref().ok().copied().flatten());
        let acted = async {
            is_ours.map_err(|origin::Foreign| Trouble::Foreign)?;
            token?;
            visit.pairs = form(parts, body).await?;
            match page {
                "login" => Ok(self.sign_in(parts, &visit)),
                "logout" => Ok(self.sign_out()),
                _ => match self.change(&visit).await? {
                    Shown::See(link) => Ok(answer::see(&link)),
                    Shown::File { name, content } => Ok(answer::download(name, content)),
                    Shown::Page(view) => {
                        let info = layout::info(&visit).await;
                        Ok(framed(parts, &visit, &view, info.as_ref(), StatusCode::OK))
                    }
                },
            }
        };
        match acted.await {
            Ok(response) => response,
            Err(Trouble::SignIn) => answer::see(&link::page("login")),
            Err(trouble) => {
                let view = View::of_refusal(&visit, &trouble);
                // Another site learns nothing about the node.
                let info = match trouble {
                    Trouble::Foreign => None,
                    _ => layout::info(&visit).await,
                };
                framed(parts, &visit, &view, info.as_ref(), trouble.status())
            }
        }
    }

    /// Makes a change. It may have been made also where its answer is an error.
    async fn change(&self, visit: &Visit) -> Result<Shown, Trouble> {
        let shown = pages::act(visit).await;
        self.0.memory.forget();
        shown
    }

    fn sign_in(&self, parts: &Parts, visit: &Visit) -> Response<Body> {
        if self.0.sessions.are_open() {
            return answer::see(&way_back(visit));
        }
        let given = visit.pairs.get("token").unwrap_or_default();
        let Some(cookie) = self.0.sessions.begin(given.trim(), SystemTime::now()) else {
            let page = pages::login::form(visit, true);
            return answer::page(StatusCode::UNAUTHORIZED, &parts.headers, page);
        };
        let cookie = session::set(&cookie, session::LIFE, self.0.secure);
        answer::see_with_cookie(&way_back(visit), &cookie)
    }

    fn sign_out(&self) -> Response<Body> {
        let cookie = session::set("", std::time::Duration::ZERO, self.0.secure);
        answer::see_with_cookie(&link::to("login", [flash::pair("signed-out")]), &cookie)
    }
}

fn framed(
    parts: &Parts,
    visit: &Visit,
    view: &View,
    info: Option<&rota_proto::v1::ServerInfo>,
    status: StatusCode,
) -> Response<Body> {
    let page: Markup = layout::page(visit, view, info);
    answer::page(status, &parts.headers, page)
}

/// The page to sign in, with the way back.
fn to_login(visit: &Visit) -> String {
    match visit.here() {
        home if home == "./" => link::page("login"),
        here => link::to("login", [("back", here)]),
    }
}

fn way_back(visit: &Visit) -> String {
    let back = visit.pairs.get("back").and_then(link::checked);
    back.unwrap_or_else(|| link::page(""))
}

fn asset(parts: &Parts) -> Response<Body> {
    let mut path = parts.uri.path().rsplit('/');
    let (name, hash) = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
    match assets::find(hash, name) {
        Some((file, current)) => answer::asset(&parts.headers, file, current),
        None => answer::plain(StatusCode::NOT_FOUND, "not found\n"),
    }
}

async fn form(parts: &Parts, body: Body) -> Result<Pairs, Trouble> {
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case(FORM) {
        return Err(Trouble::Form("It is not a form."));
    }
    let body = axum::body::to_bytes(body, FORM_BYTES).await;
    let body =
        body.map_err(|_| Trouble::Form("It is larger than 4 MiB, or it did not arrive whole."))?;
    let text = std::str::from_utf8(&body).map_err(|_| Trouble::Form("It is not UTF-8."))?;
    Ok(Pairs::of(text))
}
