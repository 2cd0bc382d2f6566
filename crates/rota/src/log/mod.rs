//! The log of the process, and its filter, which can change while it runs.
//!
//! One line an event, on standard error: text for people on a terminal, JSON for programs. How a
//! line looks is in `formatter`.

mod formatter;

use std::{
    fmt,
    io::IsTerminal,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rota_server::{LogControl, WrongFilter};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::{config::Settings, exit::Failure};
use formatter::{LogFormatter, Shape};

/// The node or worker that writes the log. Each line has it, as soon as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Writer {
    /// `node` or `worker`.
    pub(crate) role: &'static str,
    pub(crate) name: String,
}

/// The log of this process. Clones are the same log.
#[derive(Clone)]
pub(crate) struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    filter: reload::Handle<EnvFilter, Registry>,
    /// The filter in force, as it was given.
    text: Mutex<String>,
    writer: Arc<OnceLock<Writer>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("filter", &self.filter()).finish()
    }
}

/// Starts logging, once in a process and within a tokio runtime. On SIGHUP, reads the filter again with
/// `read`.
///
/// # Errors
/// When the filter or format is invalid, or the signal handler cannot be installed.
pub(crate) fn start(
    settings: &Settings,
    read: impl Fn() -> Result<Settings, Failure> + Send + 'static,
) -> Result<Log, Failure> {
    let text = settings.text("log").to_owned();
    let filter = parse(&text).map_err(|error| Failure::usage(format!("log: {error}")))?;
    let terminal = std::io::stderr().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let shape = match settings.text("log_format") {
        "auto" if !terminal => Shape::Json,
        "auto" | "text" => Shape::Text { colours },
        "json" => Shape::Json,
        other => {
            return Err(Failure::usage(format!(
                "log_format = {other:?}: must be auto, text or json"
            )));
        }
    };
    let writer = Arc::new(OnceLock::new());
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .event_format(LogFormatter::new(shape, writer.clone()))
        .with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
    let log = Log { inner: Arc::new(Inner { filter: handle, text: Mutex::new(text), writer }) };
    log.follow(read)?;
    Ok(log)
}

fn parse(text: &str) -> Result<EnvFilter, WrongFilter> {
    EnvFilter::try_new(text).map_err(|error| WrongFilter(error.to_string()))
}

impl Log {
    /// On each SIGHUP, applies the filter that `read` returns.
    fn follow(
        &self,
        read: impl Fn() -> Result<Settings, Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let mut hangup = signal(SignalKind::hangup())?;
        let log = self.clone();
        // Ends with the process.
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let put = |settings: Settings| {
                    log.set_filter(settings.text("log")).map_err(|error| Failure::usage(error.0))
                };
                match read().and_then(put) {
                    Ok(()) => info!(filter = log.filter(), "log filter reloaded"),
                    Err(error) => {
                        warn!(%error, "reloading the log filter failed; the filter is unchanged");
                    }
                }
            }
        });
        Ok(())
    }

    /// Sets the writer of the following lines. Only the first call has an effect.
    pub(crate) fn write_as(&self, role: &'static str, name: &str) {
        let _ = self.inner.writer.set(Writer { role, name: name.to_owned() });
    }
}

impl LogControl for Log {
    fn filter(&self) -> String {
        self.inner.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_filter(&self, filter: &str) -> Result<(), WrongFilter> {
        let parsed = parse(filter)?;
        // Held during the change, so that the text always matches the filter in force.
        let mut text = self.inner.text.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.filter.reload(parsed).map_err(|error| WrongFilter(error.to_string()))?;
        filter.clone_into(&mut text);
        Ok(())
    }
}
