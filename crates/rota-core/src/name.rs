//! Names of queues, kinds, labels, workers and tasks.

use std::{fmt, ops::Deref, sync::Arc};

/// A name of 1 to 128 characters of `A-Z a-z 0-9 . _ : / -`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It is longer than [`Name::LEN_MAX`].
    #[error("has {len} characters; the limit is {}", Name::LEN_MAX)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It has a character outside the alphabet.
    #[error("has the character {found:?}; allowed are A-Z a-z 0-9 . _ : / -")]
    Character {
        /// The first invalid character.
        found: char,
    },
}

impl Name {
    /// Maximum length of a name in characters.
    pub const LEN_MAX: usize = 128;

    /// Checks a text, and makes a name of it.
    ///
    /// # Errors
    /// When it is empty, too long, or has a character outside the alphabet.
    pub fn new(text: &str) -> Result<Self, NameError> {
        Self::check(text)?;
        Ok(Self(text.into()))
    }

    /// Checks a text without making it a name.
    ///
    /// # Errors
    /// As [`Name::new`].
    pub fn check(text: &str) -> Result<(), NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > Self::LEN_MAX {
            return Err(NameError::TooLong { len: text.len() });
        }
        let allowed =
            |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '/' | '-');
        match text.chars().find(|c| !allowed(c)) {
            Some(found) => Err(NameError::Character { found }),
            None => Ok(()),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabet_and_length() {
        assert!(Name::new("images/resize:v2.1_a-B").is_ok());
        assert!(Name::new(&"a".repeat(128)).is_ok());
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new(&"a".repeat(129)), Err(NameError::TooLong { len: 129 }));
        for (text, found) in [("a b", ' '), ("a\0", '\0'), ("ü", 'ü'), ("a\n", '\n'), ("*", '*')]
        {
            assert_eq!(Name::new(text), Err(NameError::Character { found }));
        }
    }

    #[test]
    fn a_name_reads_as_the_text_that_was_given() {
        let name = Name::new("mail/v2").unwrap();
        assert_eq!((name.as_str(), &*name), ("mail/v2", "mail/v2"));
        assert_eq!(
            (name.to_string(), format!("{name:?}")),
            ("mail/v2".into(), "\"mail/v2\"".into())
        );
    }
}
