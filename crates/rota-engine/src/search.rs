//! Text to search for in tasks, and which of their records contain it.

use memchr::memmem::Finder;
use rota_core::{ClientKeys, Failure, TaskId, TaskSpec};

/// Bytes of a text that are folded at a time.
const PIECE: usize = 16 << 10;

/// Text to search for, ignoring ASCII case.
#[derive(Debug, Clone)]
pub struct Search {
    text: Box<str>,
    /// Finds the text in lower case.
    finder: Finder<'static>,
}

impl PartialEq for Search {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Search {}

impl Search {
    /// Searches for this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let finder = Finder::new(text.to_ascii_lowercase().as_bytes()).into_owned();
        Self { text: text.into(), finder }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether one of the ids of a task contains the text.
    pub(crate) fn is_in_ids(&self, id: TaskId, client_keys: &ClientKeys) -> bool {
        self.is_in(id.to_string().as_bytes())
            || client_keys.id.as_ref().is_some_and(|id| self.is_in(id.as_bytes()))
    }

    /// Whether an error contains the text.
    pub(crate) fn is_in_failure(&self, failure: Option<&Failure>) -> bool {
        failure.is_some_and(|failure| self.is_in(failure.message.as_bytes()))
    }

    /// Whether the payload, the description or the value of a label contains the text.
    pub(crate) fn is_in_spec(&self, spec: &TaskSpec) -> bool {
        let definition = &spec.definition;
        definition.description.as_deref().is_some_and(|text| self.is_in(text.as_bytes()))
            || definition.labels.iter().any(|(_, value)| self.is_in(value.as_bytes()))
            || self.is_in(&definition.payload)
    }

    /// Takes time in proportion to the length, whatever the text is, and little memory.
    fn is_in(&self, text: &[u8]) -> bool {
        let wanted = self.finder.needle().len();
        let piece = PIECE + wanted;
        let mut folded = Vec::with_capacity(piece.min(text.len()));
        let mut start = 0;
        loop {
            let end = text.len().min(start + piece);
            folded.clear();
            folded.extend_from_slice(&text[start..end]);
            folded.make_ascii_lowercase();
            if self.finder.find(&folded).is_some() {
                return true;
            }
            if end == text.len() {
                return false;
            }
            // What begins in the last bytes of a piece ends in the next one.
            start = end - wanted.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rota_core::{Definition, FailureReason, Name};

    use super::*;

    #[test]
    fn searches_for_the_same_text_are_equal() {
        assert_eq!(Search::new("a"), Search::new("a"));
        assert_ne!(Search::new("a"), Search::new("b"));
    }

    #[test]
    fn the_case_of_ascii_letters_does_not_matter() {
        for (wanted, text, is_found) in [
            ("time", "Connection TIMED out", true),
            ("TIMED OUT", "connection timed out", true),
            ("timed  out", "connection timed out", false),
            ("x", "", false),
            ("é", "café", true),
            ("É", "café", false),
            ("connection timed out", "connection timed ou", false),
        ] {
            assert_eq!(Search::new(wanted).is_in(text.as_bytes()), is_found, "{wanted} in {text}");
        }
    }

    #[test]
    fn text_is_found_wherever_pieces_meet() {
        let wanted = "abcdefgh";
        for start in (PIECE - 20)..(PIECE + 20) {
            let mut text = vec![b'.'; 3 * PIECE];
            text[start..start + wanted.len()].copy_from_slice(b"ABCDefgh");
            assert!(Search::new(wanted).is_in(&text), "{start}");
            text[start] = b'-';
            assert!(!Search::new(wanted).is_in(&text), "{start}");
        }
        let mut end = vec![b'.'; 2 * PIECE];
        end.extend_from_slice(wanted.as_bytes());
        assert!(Search::new(wanted).is_in(&end));
    }

    #[test]
    fn ids_errors_and_definitions_are_searched() {
        let name = |text| Name::new(text).unwrap();
        let id = TaskId::from_u64(7).unwrap();
        let keys = ClientKeys { id: Some(name("Order-7")), key: Some("secret".into()) };
        assert!(Search::new("order-7").is_in_ids(id, &keys));
        assert!(Search::new("t_000").is_in_ids(id, &keys));
        assert!(!Search::new("secret").is_in_ids(id, &keys));
        let failure = Failure::new(FailureReason::Error, "No route to host");
        assert!(Search::new("no route").is_in_failure(Some(&failure)));
        assert!(!Search::new("no route").is_in_failure(None));
        let definition = Definition {
            payload: Bytes::from_static(br#"{"to":"Ada@example.org"}"#),
            description: Some("Monthly invoice".into()),
            labels: vec![(name("team"), "Billing".into())],
            ..Definition::new(name("q"), name("k"))
        };
        let spec = TaskSpec::new(id, definition, id.created_at());
        for wanted in ["ada@EXAMPLE", "invoice", "billing"] {
            assert!(Search::new(wanted).is_in_spec(&spec), "{wanted}");
        }
        assert!(!Search::new("team").is_in_spec(&spec));
    }
}
