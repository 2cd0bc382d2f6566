//! Fingerprints of errors: failures of one kind of task with the same cause have the same one, even if their
//! messages differ in numbers, ids, dates and quoted values.
//!
//! `fold` replaces these parts. A fingerprint is computed when it is needed and never stored, so a later version can
//! fold more.

mod fold;
mod shape;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

pub use fold::{FOLDED_CHARS_MAX, fold_error};

/// What failures with the same cause have in common: a hash of the kind and the folded message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorFingerprint(u64);

impl ErrorFingerprint {
    /// The fingerprint of an error of a task of this kind.
    #[must_use]
    pub fn of(kind: &str, message: &str) -> Self {
        Self::of_folded(kind, &fold_error(message))
    }

    /// The fingerprint of a message that [`fold_error`] has folded.
    #[must_use]
    pub fn of_folded(kind: &str, folded: &str) -> Self {
        // Names have no NUL, so the two cannot be confused.
        Self(hash(kind.bytes().chain([0]).chain(folded.bytes())))
    }
}

/// FNV-1a. It must be the same on every node and in every process, and a client cannot gain from a collision.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

impl fmt::Display for ErrorFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text is not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 16 hexadecimal digits in lower case, as in a list of failures")]
pub struct ParseFingerprintError;

impl FromStr for ErrorFingerprint {
    type Err = ParseFingerprintError;

    fn from_str(text: &str) -> Result<Self, ParseFingerprintError> {
        let is_digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(is_digit) {
            return Err(ParseFingerprintError);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ParseFingerprintError)
    }
}
