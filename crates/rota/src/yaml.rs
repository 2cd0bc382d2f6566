//! YAML as the other form of JSON: reads documents as JSON text, and writes JSON as YAML. Both keep the order of members.

use std::fmt;

use saphyr::{Mapping, MarkedYaml, Scalar, Yaml, YamlData, YamlEmitter, YamlLoader};
use saphyr_parser::{Parser, ScalarStyle};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

/// A part of a YAML file.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a>(MarkedYaml<'a>);

/// A fault in a YAML file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

/// Reads the documents of a file. Empty documents are left out.
pub(crate) fn documents(text: &str) -> Result<Vec<Node<'_>>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut loader = YamlLoader::<MarkedYaml<'_>>::default();
    // Scalars stay as they were written, because the loader would round large numbers.
    loader.early_parse(false);
    let fault = |error: &saphyr::ScanError| Fault {
        line: error.marker().line(),
        reason: format!("not YAML: {}", error.info()),
    };
    let parsed = Parser::new_from_str(text).load(&mut loader, true);
    if let Some(error) = parsed.as_ref().err().or(loader.error()) {
        return Err(fault(error));
    }
    let is_empty = |node: &MarkedYaml<'_>| match &node.data {
        YamlData::BadValue => true,
        YamlData::Representation(text, ScalarStyle::Plain, _) => {
            matches!(&**text, "" | "~" | "null")
        }
        _ => false,
    };
    Ok(loader.into_documents().into_iter().filter(|node| !is_empty(node)).map(Node).collect())
}

impl<'a> Node<'a> {
    /// The line of the file, from 1.
    pub(crate) fn line(&self) -> usize {
        self.0.span.start.line()
    }

    /// The items, if this is a list.
    pub(crate) fn items(&self) -> Option<Vec<Self>> {
        match &self.0.data {
            YamlData::Sequence(items) => Some(items.iter().cloned().map(Node).collect()),
            _ => None,
        }
    }

    /// The members, if this is an object.
    pub(crate) fn members(&self) -> Option<Vec<(String, Self)>> {
        match &self.0.data {
            YamlData::Mapping(members) => {
                let member = |(key, value): (&MarkedYaml<'a>, &MarkedYaml<'a>)| match &key.data {
                    YamlData::Representation(key, ..) => {
                        Some((key.to_string(), Node(value.clone())))
                    }
                    _ => None,
                };
                members.iter().map(member).collect()
            }
            _ => None,
        }
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> Result<String, Fault> {
        let mut json = String::new();
        self.write(&mut json)?;
        Ok(json)
    }

    fn fault(&self, reason: impl Into<String>) -> Fault {
        Fault { line: self.line(), reason: reason.into() }
    }

    fn write(&self, json: &mut String) -> Result<(), Fault> {
        if let Some(items) = self.items() {
            for (at, item) in items.iter().enumerate() {
                json.push(if at == 0 { '[' } else { ',' });
                item.write(json)?;
            }
            json.push_str(if items.is_empty() { "[]" } else { "]" });
            return Ok(());
        }
        if let YamlData::Mapping(_) = self.0.data {
            let Some(members) = self.members() else {
                return Err(self.fault("the name of a member must be a text"));
            };
            for (at, (name, value)) in members.iter().enumerate() {
                // The loader tells apart 'a' and "a".
                if members[..at].iter().any(|(earlier, _)| earlier == name) {
                    return Err(value.fault(format!("the member {name} is given twice")));
                }
                json.push(if at == 0 { '{' } else { ',' });
                json.push_str(&quoted(name));
                json.push(':');
                value.write(json)?;
            }
            json.push_str(if members.is_empty() { "{}" } else { "}" });
            return Ok(());
        }
        let YamlData::Representation(text, style, tag) = &self.0.data else {
            return Err(self.fault("tags and this kind of value have no counterpart in JSON"));
        };
        if let Some(tag) = tag.as_ref().filter(|tag| !tag.is_yaml_core_schema()) {
            return Err(self.fault(format!("the tag {tag} has no counterpart in JSON")));
        }
        let scalar = Scalar::parse_from_cow_and_metadata(text.clone(), *style, tag.as_ref());
        let written = match scalar {
            Some(Scalar::Null) => "null".to_owned(),
            Some(Scalar::Boolean(value)) => value.to_string(),
            Some(Scalar::Integer(number)) => number.to_string(),
            Some(Scalar::String(text)) => quoted(&text),
            Some(Scalar::FloatingPoint(number)) => match text.parse::<u64>() {
                Ok(large) => large.to_string(),
                Err(_) if number.is_finite() => serde_json::Value::from(number.0).to_string(),
                Err(_) => return Err(self.fault(format!("{text} has no counterpart in JSON"))),
            },
            None => return Err(self.fault(format!("{text:?} does not fit its tag"))),
        };
        json.push_str(&written);
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes JSON as a YAML document, without the line `---`.
pub(crate) fn of_json(json: &str) -> Result<String, serde_json::Error> {
    let Ordered(yaml) = serde_json::from_str(json)?;
    let mut text = String::new();
    let mut emitter = YamlEmitter::new(&mut text);
    emitter.multiline(true);
    // Writing to a text does not fail.
    emitter.dump(&yaml).map_err(serde::ser::Error::custom)?;
    let text = text.strip_prefix("---\n").unwrap_or(&text);
    Ok(if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") })
}

/// A JSON value that keeps the order of its members.
struct Ordered(Yaml<'static>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        de.deserialize_any(OrderedVisitor).map(Self)
    }
}

struct OrderedVisitor;

impl<'de> Visitor<'de> for OrderedVisitor {
    type Value = Yaml<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Yaml::Value(Scalar::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Yaml::Value(Scalar::Boolean(value)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Yaml::Value(Scalar::Integer(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(plain(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(plain(serde_json::Value::from(number).to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Yaml::Value(Scalar::String(text.to_owned().into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Ordered(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Yaml::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Mapping::new();
        while let Some((name, Ordered(value))) = map.next_entry::<String, Ordered>()? {
            members.insert(Yaml::Value(Scalar::String(name.into())), value);
        }
        Ok(Yaml::Mapping(members))
    }
}

fn plain(number: String) -> Yaml<'static> {
    Yaml::Representation(number.into(), ScalarStyle::Plain, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<String> {
        let documents = documents(text).expect("YAML");
        documents.iter().map(|node| node.json().expect("JSON")).collect()
    }

    #[test]
    fn documents_become_json_in_their_order() {
        let text = "---\nb: 1\na: [x, 'y: z', true, ~, 1.5]\n---\n# nothing\n---\n- on: 2026-12-25\n  off: no\n";
        assert_eq!(
            read(text),
            [r#"{"b":1,"a":["x","y: z",true,null,1.5]}"#, r#"[{"on":"2026-12-25","off":"no"}]"#]
        );
        assert_eq!(
            read("a: 18446744073709551615\nb: {}\nc: []\n1: 0x10"),
            [r#"{"a":18446744073709551615,"b":{},"c":[],"1":16}"#]
        );
        assert_eq!(read("a: &x {b: 1}\nc: *x"), [r#"{"a":{"b":1},"c":{"b":1}}"#]);
        assert_eq!(read(""), [""; 0]);
    }

    #[test]
    fn faults_name_their_line() {
        let fault = |text: &str| {
            let read = documents(text).and_then(|nodes| nodes.iter().map(Node::json).collect());
            let read: Result<Vec<String>, Fault> = read;
            let fault = read.expect_err(text);
            format!("{}: {}", fault.line, fault.reason)
        };
        assert!(
            fault("a: 1\nb: [").starts_with("2: not YAML")
                || fault("a: 1\nb: [").contains("not YAML")
        );
        assert_eq!(fault("a: 1\nb:\n  'c': 1\n  \"c\": 2"), "4: the member c is given twice");
        assert_eq!(fault("a: .inf"), "1: .inf has no counterpart in JSON");
        assert!(fault("a: !x 1").starts_with("1: "));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let json = r#"{"name":"a: b","z":[{"k":"* * * * *","n":-1},[],{}],"a":null,"t":"yes\nno\n","n":"12","f":1e300,"u":18446744073709551615,"d":"2026-12-25","e":"","tab":"\t","ü":"ü"}"#;
        let yaml = of_json(json).expect("JSON");
        let again = &read(&yaml)[0];
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(again), value(json), "{yaml}");
        assert!(yaml.starts_with("name: \"a: b\"\nz:\n"), "{yaml}");
    }
}
