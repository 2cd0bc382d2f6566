//! A small HTTP server, for tasks of kind `http` to reach: it answers, and remembers what it was
//! asked.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::net::TcpListener;

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    pub(crate) lease_token: u64,
    pub(crate) body: String,
}

/// What was asked, by task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visits(Arc<Mutex<BTreeMap<String, Vec<Visit>>>>);

impl Visits {
    /// The requests of a task, in their order.
    pub(crate) fn of(&self, task: &str) -> Vec<Visit> {
        let visits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        visits.get(task).cloned().unwrap_or_default()
    }

    /// Notes a request; says how many the task has made.
    fn note(&self, headers: &HeaderMap, body: &Bytes) -> usize {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let task = text("rota-task-id").unwrap_or_default().to_owned();
        let lease_token = text("rota-lease-token").and_then(|token| token.parse().ok());
        let body = String::from_utf8_lossy(body).into_owned();
        let visit = Visit { lease_token: lease_token.unwrap_or_default(), body };
        let mut visits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let visits = visits.entry(task).or_default();
        visits.push(visit);
        visits.len()
    }
}

/// Starts the server; it ends with this program.
pub(crate) async fn start() -> io::Result<(SocketAddr, Visits)> {
    let visits = Visits::default();
    let routes = Router::new()
        .route("/hook", post(hook))
        .route("/unsteady", get(unsteady))
        .with_state(visits.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok((address, visits))
}

/// Takes what it is sent.
async fn hook(State(visits): State<Visits>, headers: HeaderMap, body: Bytes) -> Response {
    visits.note(&headers, &body);
    (StatusCode::CREATED, format!("{} bytes taken\n", body.len())).into_response()
}

/// Is not available for a task's first two requests.
async fn unsteady(State(visits): State<Visits>, headers: HeaderMap, body: Bytes) -> Response {
    if visits.note(&headers, &body) <= 2 {
        (StatusCode::SERVICE_UNAVAILABLE, "not now\n").into_response()
    } else {
        "now\n".into_response()
    }
}
