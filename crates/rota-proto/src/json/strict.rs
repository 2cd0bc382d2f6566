//! Reading objects as objects: serde would also take a list for a structure, by position, and the
//! last of several members with the same name. Neither is what a client means.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A `T` that is written as an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        de.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

pub(super) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(de: D) -> Result<T, D::Error> {
    Object::deserialize(de).map(|Object(made)| made)
}

pub(super) fn optional_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    de: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(de)?.map(|Object(made)| made))
}

pub(super) fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    de: D,
) -> Result<Vec<T>, D::Error> {
    struct Items<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of objects")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(Object(item)) = seq.next_element()? {
                items.push(item);
            }
            Ok(items)
        }
    }

    de.deserialize_seq(Items(PhantomData))
}

/// A list that, where it is given, has at least one item: what selects by it would else select
/// everything.
pub(super) fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    de: D,
) -> Result<Vec<T>, D::Error> {
    let items = Vec::deserialize(de)?;
    if items.is_empty() {
        return Err(D::Error::custom(
            "must not be an empty list: leave it out, or name at least one",
        ));
    }
    Ok(items)
}

/// Texts by name, each name once.
pub(super) fn labels<'de, D: Deserializer<'de>>(
    de: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Labels;

    impl<'de> Visitor<'de> for Labels {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of texts")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut labels = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                let value = map.next_value_seed(Once { again: labels.contains_key(&name) })?;
                labels.insert(name, value);
            }
            Ok(labels)
        }
    }

    /// A text, unless there was one of that name. It complains while it reads the value, so that
    /// the error's path names it.
    struct Once {
        again: bool,
    }

    impl<'de> DeserializeSeed<'de> for Once {
        type Value = String;

        fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<String, D::Error> {
            if self.again {
                return Err(D::Error::custom("is given more than once"));
            }
            String::deserialize(de)
        }
    }

    de.deserialize_map(Labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        a: u8,
        #[serde(default, deserialize_with = "optional_object")]
        b: Option<Box<Pair>>,
        #[serde(default, deserialize_with = "labels")]
        c: BTreeMap<String, String>,
        #[serde(default, deserialize_with = "objects")]
        d: Vec<Pair>,
    }

    fn read(text: &str) -> Result<Pair, String> {
        let read: Result<Object<Pair>, _> = serde_json::from_str(text);
        read.map(|Object(pair)| pair).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_are_read() {
        let pair = read(r#"{"a":1,"b":{"a":2},"c":{"x":"y"},"d":[{"a":3}]}"#).unwrap();
        assert_eq!(pair.b.unwrap().a, 2);
        assert_eq!(pair.c["x"], "y");
        assert_eq!(pair.d[0].a, 3);
        assert_eq!(read(r#"{"a":1,"b":null}"#).unwrap().b, None);
    }

    #[test]
    fn lists_and_repeated_names_are_not() {
        for (text, words) in [
            ("[1]", "expected an object"),
            (r#"{"a":1,"b":[2]}"#, "expected an object"),
            (r#"{"a":1,"d":[[3]]}"#, "expected an object"),
            (r#"{"a":1,"d":{}}"#, "expected a list of objects"),
            (r#"{"a":1,"a":2}"#, "duplicate field `a`"),
            (r#"{"a":1,"c":{"x":"1","x":"2"}}"#, "given more than once"),
            (r#"{"a":1,"c":[]}"#, "expected an object of texts"),
            (r#"{"a":1,"e":2}"#, "unknown field `e`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
