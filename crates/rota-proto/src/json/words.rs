//! The words of enumerations in JSON: the end of the value's name in protobuf, in lower case. A value that
//! this version does not know is shown as `unknown`. Requests cannot use that word.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserializer, Serializer,
    de::{Deserialize, Error, Visitor},
};
#[cfg(feature = "server")]
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ObjectBuilder, RefOr,
        schema::{Schema, SchemaType, Type},
    },
};

/// An enumeration with words.
pub trait Words: Copy + Into<i32> + TryFrom<i32> + 'static {
    /// All values with their words.
    const VALUES: &'static [(i32, &'static str)];
    /// All words.
    const WORDS: &'static [&'static str];

    /// The word of this value.
    fn word(self) -> &'static str {
        word_of::<Self>(self.into())
    }

    /// The value of this word.
    ///
    /// # Errors
    /// When there is no such word.
    fn of_word<E: Error>(word: &str) -> Result<Self, E> {
        let found = Self::VALUES.iter().find(|(_, known)| *known == word);
        let value = found.and_then(|(number, _)| Self::try_from(*number).ok());
        value.ok_or_else(|| E::unknown_variant(word, Self::WORDS))
    }
}

fn word_of<T: Words>(number: i32) -> &'static str {
    let found = T::VALUES.iter().find(|(known, _)| *known == number);
    found.map_or("unknown", |(_, word)| word)
}

/// Implements the words and the JSON form of an enumeration.
macro_rules! words {
    ($rust:ty, $name:literal, $about:literal, [$(($number:literal, $word:literal), )*]) => {
        impl Words for $rust {
            const VALUES: &'static [(i32, &'static str)] = &[$(($number, $word)),*];
            const WORDS: &'static [&'static str] = &[$($word),*];
        }

        /// The word, as in JSON.
        impl fmt::Display for $rust {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }

        impl<'de> Deserialize<'de> for $rust {
            fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
                de.deserialize_str(Word(PhantomData))
            }
        }

        #[cfg(feature = "server")]
        impl PartialSchema for $rust {
            fn schema() -> RefOr<Schema> {
                let kind = SchemaType::new(Type::String);
                let words = ObjectBuilder::new().schema_type(kind);
                let words = words.enum_values(Some(Self::WORDS.iter().copied()));
                words.description(Some($about)).into()
            }
        }

        #[cfg(feature = "server")]
        impl ToSchema for $rust {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }
        }
    };
}

include!("../../generated/words.rs");

/// Reads a word.
struct Word<T>(PhantomData<T>);

impl<T: Words> Visitor<'_> for Word<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {}", T::WORDS.join(", "))
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<T, E> {
        T::of_word(word)
    }
}

// Fields of messages hold numbers. These functions show and read them. Serde passes references.

pub(crate) fn show_plain<T: Words, S: Serializer>(number: &i32, ser: S) -> Result<S::Ok, S::Error> {
    ser.serialize_str(word_of::<T>(*number))
}

pub(crate) fn show_optional<T: Words, S: Serializer>(
    number: &Option<i32>,
    ser: S,
) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => show_plain::<T, S>(number, ser),
        None => ser.serialize_none(),
    }
}

pub(crate) fn read_plain<'de, T: Words + Deserialize<'de>, D: Deserializer<'de>>(
    de: D,
) -> Result<i32, D::Error> {
    T::deserialize(de).map(Into::into)
}

pub(crate) fn read_optional<'de, T: Words + Deserialize<'de>, D: Deserializer<'de>>(
    de: D,
) -> Result<Option<i32>, D::Error> {
    Ok(Option::<T>::deserialize(de)?.map(Into::into))
}

/// Reads an answer of another version: an unknown word becomes the unspecified value.
pub(crate) fn read_back_plain<'de, T: Words, D: Deserializer<'de>>(de: D) -> Result<i32, D::Error> {
    let word = Cow::<str>::deserialize(de)?;
    Ok(T::of_word::<D::Error>(&word).map_or(0, Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{self, TaskStatus};

    #[test]
    fn words_follow_from_the_names_of_values() {
        assert_eq!(TaskStatus::Pending.word(), "pending");
        assert_eq!(v1::waiting::Reason::BackingOff.word(), "backing_off");
        assert_eq!(v1::stop::Reason::LeaseLost.word(), "lease_lost");
        assert_eq!(v1::NodeRole::Unspecified.word(), "unknown");
        for word in TaskStatus::WORDS {
            let read: TaskStatus = serde_json::from_value((*word).into()).expect(word);
            assert_eq!(read.word(), *word);
        }
    }

    #[test]
    fn values_of_a_newer_server_are_shown_as_unknown_and_cannot_be_asked_for() {
        let newer = v1::Task {
            status: 99,
            error: Some(v1::TaskError { reason: 99, message: "m".to_owned() }),
            waiting: Some(v1::Waiting { reason: 99, ..v1::Waiting::default() }),
            ..v1::Task::default()
        };
        let shown = serde_json::to_value(newer).expect("JSON");
        assert_eq!(
            (&shown["status"], &shown["error"]["reason"], &shown["waiting"]["reason"]),
            (&"unknown".into(), &"unknown".into(), &"unknown".into())
        );
        for word in ["unknown", "unspecified", "PENDING", ""] {
            let asked = serde_json::from_value::<TaskStatus>(word.into());
            let refused = asked.expect_err("nobody can ask for it").to_string();
            assert!(refused.contains("`expired`"), "{refused}");
        }
        let node: v1::Node = serde_json::from_str(r#"{"name":"n","role":"sleeping","new":1}"#)
            .expect("a node of a newer version");
        assert_eq!((node.role, node.name.as_str()), (0, "n"));
    }
}
