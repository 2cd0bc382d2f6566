//! The API token of a client: from a variable, the configuration file, or a file of its own.

use std::{
    fs,
    io::{self, Read as _},
    sync::OnceLock,
};

use crate::{
    config::{By, Settings, Source},
    exit::Failure,
    input,
};

/// The token, if one is set. Of the two settings, that with the higher source counts.
///
/// # Errors
/// When both settings have the same source, or the file cannot be read or is empty.
pub(crate) fn of(settings: &Settings) -> Result<Option<String>, Failure> {
    let (token, file) = (settings.text("token"), settings.text("token_file"));
    match (token.is_empty(), file.is_empty()) {
        (true, true) => return Ok(None),
        (false, true) => return Ok(Some(token.to_owned())),
        (true, false) => {}
        (false, false) => match rank(settings, "token").cmp(&rank(settings, "token_file")) {
            std::cmp::Ordering::Greater => return Ok(Some(token.to_owned())),
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => {
                return Err(Failure::usage(format!(
                    "token ({}) and token_file ({}) are both set",
                    settings.source("token"),
                    settings.source("token_file")
                ))
                .hint("remove one of them"));
            }
        },
    }
    let source = settings.source("token_file");
    let wrong = |why: &str| Failure::usage(format!("token_file = {file:?} ({source}): {why}"));
    let text = read(file).map_err(|error| match error {
        Wrong::Taken(failure) => failure,
        Wrong::Unreadable(error) => wrong(&error.to_string()),
    })?;
    let token = text.trim_end_matches(['\r', '\n']);
    if token.is_empty() {
        return Err(wrong("the file is empty"));
    }
    Ok(Some(token.to_owned()))
}

/// Why a file was not read.
enum Wrong {
    Taken(Failure),
    Unreadable(io::Error),
}

fn read(file: &str) -> Result<String, Wrong> {
    if file != "-" {
        return fs::read_to_string(file).map_err(Wrong::Unreadable);
    }
    // A command can make several clients, and standard input has the token once.
    static TYPED: OnceLock<String> = OnceLock::new();
    if let Some(typed) = TYPED.get() {
        return Ok(typed.clone());
    }
    input::claim("--token-file -").map_err(Wrong::Taken)?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(Wrong::Unreadable)?;
    Ok(TYPED.get_or_init(|| text).clone())
}

fn rank(settings: &Settings, key: &str) -> u8 {
    match settings.source(key) {
        Source::Flag(_) | Source::Argument(_) | Source::Context(_, By::Flag) => 3,
        Source::Variable(_) => 2,
        Source::Context(..) => 1,
        Source::File(_) | Source::StoreUrl | Source::Default => 0,
    }
}
