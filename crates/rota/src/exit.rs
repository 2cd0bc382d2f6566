//! Exit codes, and errors with hints.

use std::fmt;

use rota_client::{ClientError, ErrorKind, Reason};

/// Exit codes, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Failure = 1,
    Usage = 2,
    NotFound = 3,
    Refused = 4,
    Unavailable = 5,
    TaskFailed = 6,
    Denied = 7,
    Faulty = 8,
    TimedOut = 124,
    Interrupted = 130,
}

/// The codes, as `--help` shows them.
pub(crate) const HELP: &str = "\
Exit codes: 0 success; 1 failure; 2 usage error; 3 not found; 4 refused (conflict, state, limit);
5 server unavailable; 6 the task failed, expired or was cancelled (wait, logs -f);
7 missing or wrong API token; 8 the store has faults (store check); 124 the wait timed out;
130 interrupted (create --file, store).
With -o json, jsonl and yaml, errors are JSON objects on standard error: error, hint, reason, code.";

/// An error that ends the program.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    message: String,
    hint: Option<String>,
    /// Stable reason from the server.
    reason: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, reason: None }
    }

    /// The JSON form: error, hint, stable reason and exit code.
    pub(crate) fn json(&self) -> serde_json::Value {
        let mut json = serde_json::json!({ "error": self.message, "code": self.exit as u8 });
        for (name, text) in [("hint", &self.hint), ("reason", &self.reason)] {
            if let Some(text) = text {
                json[name] = text.as_str().into();
            }
        }
        json
    }

    /// The message and the hint.
    pub(crate) fn parts(&self) -> (&str, Option<&str>) {
        (&self.message, self.hint.as_deref())
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failure, message.to_string())
    }

    /// Adds what the failure interrupted.
    pub(crate) fn after(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Adds a hint to those that the failure has.
    pub(crate) fn and_hint(self, more: &str) -> Self {
        let hint = match &self.hint {
            Some(hint) => format!("{hint}\n  {more}"),
            None => more.to_owned(),
        };
        self.hint(hint)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match error.kind() {
            ErrorKind::InvalidRequest => Exit::Usage,
            ErrorKind::NotFound => Exit::NotFound,
            ErrorKind::AlreadyExists
            | ErrorKind::FailedPrecondition
            | ErrorKind::ResourceExhausted => Exit::Refused,
            ErrorKind::Unavailable | ErrorKind::Timeout => Exit::Unavailable,
            ErrorKind::Unauthenticated => Exit::Denied,
            _ => Exit::Failure,
        };
        let hint = match (&error, error.kind(), error.reason()) {
            (ClientError::Unreachable { .. }, ..) => Some(
                "is a server running? start one with `rota dev`, or set its address with --url or `rota context`",
            ),
            (ClientError::NoTls { reason, .. }, ..) if reason.contains("_file") => Some(
                "these are the flags --ca-file, --cert-file and --key-file, and the variables ROTA_CA_FILE, \
                      ROTA_CERT_FILE and ROTA_KEY_FILE",
            ),
            (ClientError::OutcomeUnknown { .. }, ..) => Some(
                "check the state before you repeat it; with --id or --idempotency-key, creating is safe to repeat",
            ),
            (_, ErrorKind::Unauthenticated, _) => Some(
                "set ROTA_TOKEN or --token-file to one of the server's api_tokens; `rota doctor` shows what is set",
            ),
            (_, _, Some(Reason::UnknownTask)) => Some("see `rota task list`"),
            (_, _, Some(Reason::UnknownWorker)) => Some("see `rota workers list`"),
            (_, _, Some(Reason::UnknownSchedule)) => Some("see `rota schedule list`"),
            (_, _, Some(Reason::UnknownCalendar)) => Some("see `rota calendar list`"),
            (_, _, Some(Reason::Conflict)) => {
                Some("use another id or idempotency key, or send the same content")
            }
            (_, _, Some(Reason::QueueFull)) => {
                Some("try again later, or raise limits.queue_length")
            }
            _ => None,
        };
        let reason = Some(error.reason_word().to_owned()).filter(|reason| !reason.is_empty());
        Self { exit, message: error.to_string(), hint: hint.map(str::to_owned), reason }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error)
    }
}
