//! Templates of `-o template=TEXT`.

use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior};
use serde::Serialize;

use crate::exit::Failure;

/// Fills a template with the fields of a value.
pub(super) fn render<T: Serialize + ?Sized>(text: &str, value: &T) -> Result<String, Failure> {
    environment().render_str(text, value).map_err(|error| wrong(&error))
}

/// Checks that a template can be read.
pub(super) fn check(text: &str) -> Result<(), Failure> {
    environment().template_from_str(text).map(drop).map_err(|error| wrong(&error))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // The JSON leaves out fields without a value, so a field that is not there is empty.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment
}

fn wrong(error: &Error) -> Failure {
    Failure::usage(format!("--output template: {error}"))
        .hint("fields stand in double braces, as in {{ id }} or {{ labels.team }}")
}
