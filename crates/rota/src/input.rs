//! Standard input, which one option can read.

use std::sync::Mutex;

use crate::exit::Failure;

static READER: Mutex<Option<String>> = Mutex::new(None);

/// Takes standard input for an option such as `--payload -`.
///
/// # Errors
/// When another option has taken it: the second would find it empty.
pub(crate) fn claim(option: &str) -> Result<(), Failure> {
    let mut reader = READER.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match &*reader {
        Some(other) if other != option => Err(Failure::usage(format!(
            "standard input cannot be read for both {other} and {option}"
        ))
        .hint("put one of them into a file")),
        _ => {
            *reader = Some(option.to_owned());
            Ok(())
        }
    }
}
