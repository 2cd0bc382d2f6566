//! Why a page cannot be shown or a change cannot be made, in words: what failed, why, and what to do.

use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Why a request has no page.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The API refused a call, or could not answer it.
    Api(Box<Status>),
    /// A parameter of the page is wrong.
    Parameter { name: String, message: String },
    /// A field of a form is wrong.
    Field { name: &'static str, message: String },
    /// There is no such page.
    NoPage,
    /// Nobody is signed in.
    SignIn,
    /// Another site asked for a change.
    Foreign,
    /// The form cannot be read.
    Form(&'static str),
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::SignIn,
            _ => Self::Api(Box::new(status)),
        }
    }
}

impl From<rota_proto::query::QueryError> for Trouble {
    fn from(error: rota_proto::query::QueryError) -> Self {
        Self::Parameter { name: error.parameter, message: error.message }
    }
}

/// A trouble in the words of an error panel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) what: &'static str,
    pub(crate) why: String,
    pub(crate) todo: &'static str,
    /// Fields at fault with their messages.
    pub(crate) fields: Vec<(String, String)>,
    /// Stable reason of the API.
    pub(crate) reason: Option<String>,
}

impl Trouble {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Api(status) => match status.code() {
                Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
                Code::NotFound => StatusCode::NOT_FOUND,
                Code::PermissionDenied => StatusCode::FORBIDDEN,
                Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => {
                    StatusCode::CONFLICT
                }
                Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
                Code::Unavailable | Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
                Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Parameter { .. } | Self::Field { .. } | Self::Form(_) => StatusCode::BAD_REQUEST,
            Self::NoPage => StatusCode::NOT_FOUND,
            Self::SignIn => StatusCode::UNAUTHORIZED,
            Self::Foreign => StatusCode::FORBIDDEN,
        }
    }

    /// Whether the same request can succeed later, without a change of it.
    pub(crate) fn passes(&self) -> bool {
        let status = self.status();
        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
    }

    pub(crate) fn words(&self) -> Words {
        let plain = |what, why: &str, todo| Words {
            what,
            why: why.to_owned(),
            todo,
            fields: Vec::new(),
            reason: None,
        };
        match self {
            Self::Api(status) => of_status(status),
            Self::Parameter { name, message } => Words {
                fields: vec![(name.clone(), message.clone())],
                ..plain(
                    "This address cannot be read",
                    "One of its parameters is not valid.",
                    "Correct the filter, or remove the parameter from the address.",
                )
            },
            Self::Field { name, message } => Words {
                fields: vec![((*name).to_owned(), message.clone())],
                ..plain(
                    "The request is not valid",
                    "Nothing was changed.",
                    "Correct the fields below and try again.",
                )
            },
            Self::NoPage => plain(
                "There is no such page",
                "The address names no page of this version.",
                "Use the navigation to go on.",
            ),
            Self::SignIn => {
                plain("You are not signed in", "Your session has ended.", "Sign in again.")
            }
            Self::Foreign => plain(
                "The change was refused",
                "The request did not come from a page of this dashboard.",
                "Open the dashboard and try again. Behind a proxy, set public_url of the server to the address in \
                 your browser.",
            ),
            Self::Form(why) => plain(
                "The form cannot be read",
                why,
                "Go back, reload the page, and send the form again.",
            ),
        }
    }
}

fn of_status(status: &Status) -> Words {
    let details = status.get_error_details();
    let fields = details.bad_request().map(|bad| {
        let fields = bad.field_violations.iter();
        fields.map(|wrong| (wrong.field.clone(), wrong.description.clone())).collect()
    });
    let (what, todo) = match status.code() {
        Code::NotFound => {
            ("There is no such thing", "It may have been deleted. Go back to the list.")
        }
        Code::InvalidArgument | Code::OutOfRange => {
            ("The request is not valid", "Correct the fields below and try again.")
        }
        Code::PermissionDenied => ("You are not allowed to do this", "Sign in with another token."),
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => {
            ("The state does not allow this", "Reload the page to see the current state.")
        }
        Code::ResourceExhausted => ("The server is at a limit", "Try again in a moment."),
        Code::Unavailable | Code::DeadlineExceeded => (
            "The cluster cannot answer now",
            "The page Cluster shows the nodes and the store. Reload when there is a leader.",
        ),
        _ => ("The server failed", "The log of the node has the details."),
    };
    Words {
        what,
        why: status.message().to_owned(),
        todo,
        fields: fields.unwrap_or_default(),
        reason: details.error_info().map(|info| info.reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn an_error_of_the_api_keeps_its_fields_and_its_reason() {
        let mut details = ErrorDetails::new();
        details.set_error_info("invalid", "rota", std::collections::HashMap::new());
        details.add_bad_request_violation("kind", "is empty");
        let status = Status::with_error_details(Code::InvalidArgument, "kind is empty", details);
        let trouble = Trouble::from(status);
        assert_eq!(trouble.status(), 400);
        let words = trouble.words();
        assert_eq!(words.why, "kind is empty");
        assert_eq!(words.fields, [("kind".to_owned(), "is empty".to_owned())]);
        assert_eq!(words.reason.as_deref(), Some("invalid"));
    }

    #[test]
    fn a_lost_token_leads_to_the_sign_in() {
        assert!(matches!(Trouble::from(Status::unauthenticated("no")), Trouble::SignIn));
        assert_eq!(Trouble::from(Status::unavailable("no leader")).status(), 503);
    }
}
