//! Objects in payloads that map names to texts.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{Error, MapAccess, Visitor},
};

/// Reads an object of texts, and refuses a name that is given twice. Which of the two was meant, nobody could tell.
pub(super) fn distinct<'de, D: Deserializer<'de>>(
    de: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    de.deserialize_map(Texts)
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some((name, text)) = map.next_entry::<String, String>()? {
            if texts.contains_key(&name) {
                return Err(A::Error::custom(format!("the name {name:?} is given twice")));
            }
            texts.insert(name, text);
        }
        Ok(texts)
    }
}
