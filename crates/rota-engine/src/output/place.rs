//! Places in the output of a task.

use std::{fmt, str::FromStr};

/// A place in the output of a task: a lease, and a number of bytes of its output. Places grow. An attempt that is
/// given back has the same number as the next one, so the token of the lease stands for the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OutputPlace {
    /// Token of the lease. 0 is before the first.
    pub lease: u64,
    /// Bytes of output before the place.
    pub offset: u64,
}

impl OutputPlace {
    /// The offset that stands for the end of an output.
    const END: u64 = u64::MAX;

    /// After all output of the attempt with this lease.
    #[must_use]
    pub fn after(lease: u64) -> Self {
        Self { lease, offset: Self::END }
    }

    /// Whether it is after all output of its attempt.
    #[must_use]
    pub fn is_end(self) -> bool {
        self.offset == Self::END
    }
}

impl fmt::Display for OutputPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_end() {
            write!(f, "{}-end", self.lease)
        } else {
            write!(f, "{}-{}", self.lease, self.offset)
        }
    }
}

/// A text is not a place in an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the id of a message of this stream, such as 7-4096")]
pub struct OutputPlaceError;

impl FromStr for OutputPlace {
    type Err = OutputPlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (lease, offset) = text.split_once('-').ok_or(OutputPlaceError)?;
        let lease = number(lease)?;
        if offset == "end" {
            return Ok(Self::after(lease));
        }
        match number(offset)? {
            Self::END => Err(OutputPlaceError),
            offset => Ok(Self { lease, offset }),
        }
    }
}

fn number(digits: &str) -> Result<u64, OutputPlaceError> {
    // The parser of numbers takes a sign as well.
    let are_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if are_digits { digits.parse().map_err(|_| OutputPlaceError) } else { Err(OutputPlaceError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for place in [
            OutputPlace::default(),
            OutputPlace { lease: 2, offset: 4096 },
            OutputPlace::after(u64::MAX),
        ] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert!(OutputPlace { lease: 1, offset: 9 } < OutputPlace::after(1));
        assert!(OutputPlace::after(1) < OutputPlace { lease: 2, offset: 0 });
    }

    #[test]
    fn other_texts_are_no_places() {
        for text in [
            "",
            "1",
            "1-",
            "-1",
            "1--1",
            "1-+1",
            "18446744073709551616-1",
            "1-18446744073709551615",
        ] {
            assert_eq!(text.parse::<OutputPlace>(), Err(OutputPlaceError), "{text}");
        }
    }
}
