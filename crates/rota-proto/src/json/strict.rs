//! Reads JSON objects strictly. By default, serde accepts a list in place of an object, and the last of
//! several members with the same name.
//!
//! A field that the derived code knows by the names `x` and `x_base64` holds content of users: `x` as JSON or
//! `x_base64` as bytes in base64, but not both.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error as _, IntoDeserializer, MapAccess, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

use super::content;

/// A `T` that must be a JSON object.
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
        T::deserialize(Members { map, content: None, given: None, read: None })
    }
}

/// The two member names of a field for content.
#[derive(Debug, Clone, Copy)]
struct Names {
    json: &'static str,
    base64: &'static str,
}

/// The members of an object.
struct Members<A> {
    map: A,
    content: Option<Names>,
    /// The content member that was already read.
    given: Option<&'static str>,
    /// The content to pass on next.
    read: Option<Vec<u8>>,
}

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Members<A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_map(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.content = fields.iter().find_map(|base64| {
            let json = base64.strip_suffix("_base64").filter(|json| fields.contains(json))?;
            Some(Names { json, base64 })
        });
        visitor.visit_map(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Members<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(names) = self.content else { return self.map.next_key_seed(seed) };
        let mut seed = Some(seed);
        loop {
            let member = match self.map.next_key_seed(KeySeed { seed: &mut seed, names })? {
                None => return Ok(None),
                Some(Key::Other(key)) => return Ok(Some(key)),
                Some(Key::Content(member)) => member,
            };
            if self.given == Some(member) {
                return Err(A::Error::duplicate_field(member));
            }
            let is_base64 = member == names.base64;
            let read = self.map.next_value_seed(ContentSeed { is_base64, other: self.given })?;
            // `null` counts as absent.
            if let Some(read) = read
                && let Some(seed) = seed.take()
            {
                (self.given, self.read) = (Some(member), Some(read));
                let key: StrDeserializer<'_, A::Error> = names.json.into_deserializer();
                return seed.deserialize(key).map(Some);
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.read.take() {
            Some(bytes) => seed.deserialize(ByteBuf(bytes, PhantomData)),
            None => self.map.next_value_seed(seed),
        }
    }
}

/// Passes a key on, unless it is a content member. It does so while the key is read, so that the path of an
/// error includes the key.
struct KeySeed<'a, K> {
    seed: &'a mut Option<K>,
    names: Names,
}

enum Key<T> {
    Other(T),
    Content(&'static str),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeySeed<'_, K> {
    type Value = Key<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Self::Value, D::Error> {
        de.deserialize_str(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for KeySeed<'_, K> {
    type Value = Key<K::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Self::Value, E> {
        for member in [self.names.json, self.names.base64] {
            if key == member {
                return Ok(Key::Content(member));
            }
        }
        let seed = self.seed.take().ok_or_else(|| E::custom("a key is read once"))?;
        let key: StrDeserializer<'_, E> = key.into_deserializer();
        seed.deserialize(key).map(Key::Other)
    }
}

/// Reads content while the value is read, so that the path of an error includes its member.
struct ContentSeed {
    is_base64: bool,
    other: Option<&'static str>,
}

impl<'de> DeserializeSeed<'de> for ContentSeed {
    type Value = Option<Vec<u8>>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Self::Value, D::Error> {
        let read = if self.is_base64 { content::base64(de)? } else { content::json(de)? };
        match self.other.filter(|_| read.is_some()) {
            Some(other) => {
                Err(D::Error::custom(format_args!("cannot be given together with {other}")))
            }
            None => Ok(read),
        }
    }
}

/// Passes bytes on.
struct ByteBuf<E>(Vec<u8>, PhantomData<E>);

impl<'de, E: serde::de::Error> Deserializer<'de> for ByteBuf<E> {
    type Error = E;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, E> {
        visitor.visit_byte_buf(self.0)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

pub(crate) fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(de: D) -> Result<T, D::Error> {
    Object::deserialize(de).map(|Object(made)| made)
}

pub(crate) fn optional_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    de: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(de)?.map(|Object(made)| made))
}

pub(crate) fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
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

/// A list that must not be empty if it is present. An empty filter would select everything.
pub(crate) fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    de: D,
) -> Result<Vec<T>, D::Error> {
    let items = Vec::deserialize(de)?;
    if items.is_empty() {
        return Err(D::Error::custom("must not be an empty list; omit it, or list at least one"));
    }
    Ok(items)
}

/// Strings by name. Each name can occur once.
pub(crate) fn labels<'de, D: Deserializer<'de>>(
    de: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    struct Labels;

    impl<'de> Visitor<'de> for Labels {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
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

    /// A string, unless its name occurred before. The error is raised while the value is read, so that its
    /// path includes the name.
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
            (r#"{"a":1,"c":[]}"#, "expected an object of strings"),
            (r#"{"a":1,"e":2}"#, "unknown field `e`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn content_is_json_or_base64_and_not_both() {
        let read = |text: &str| {
            let read: Result<Object<crate::v1::NewTask>, _> = serde_json::from_str(text);
            read.map(|Object(task)| task.payload).map_err(|error| error.to_string())
        };
        for (text, payload) in [
            (r#"{"kind":"k"}"#, &b""[..]),
            (r#"{"payload":null,"kind":"k"}"#, b""),
            (r#"{"payload":null,"payload_base64":null,"kind":"k"}"#, b""),
            (r#"{"payload": { "a":  1.50 },"kind":"k"}"#, b"{ \"a\":  1.50 }"),
            (r#"{"kind":"k","payload_base64":"/wAB"}"#, b"\xff\x00\x01"),
            (r#"{"payload":null,"payload_base64":"/wAB","kind":"k"}"#, b"\xff\x00\x01"),
            (r#"{"payload":"\u0041","payload_base64":null,"kind":"k"}"#, b"\"\\u0041\""),
        ] {
            assert_eq!(read(text).expect(text), payload, "{text}");
        }
        for (text, words) in [
            (r#"{"payload":1,"payload_base64":"AA=="}"#, "cannot be given together with payload"),
            (r#"{"payload_base64":"AA==","payload":1}"#, "given together with payload_base64"),
            (r#"{"payload":1,"payload":2}"#, "duplicate field `payload`"),
            (r#"{"payload_base64":"?"}"#, "is not base64: Invalid symbol"),
            (r#"{"payload_base64":1}"#, "expected a string"),
            (r#"{"payload":}"#, "expected value"),
            (r#"{"pay":1}"#, "`payload`, `payload_base64`, `labels`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
