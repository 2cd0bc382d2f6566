//! YAML as the other form of JSON: reads documents as JSON text, and writes JSON as YAML. Both keep the order of members.

use std::fmt;

use saphyr::{Mapping, MarkedYaml, Scalar, Yaml, YamlData, YamlEmitter, YamlLoader};
use saphyr_parser::{Parser, ScalarStyle};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

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
            Some(Scalar::String(text)) => quoted(&text),
            // As written, because a number of JSON can have more digits than any type here.
            Some(Scalar::Integer(_) | Scalar::FloatingPoint(_)) if is_json(text) => {
                text.to_string()
            }
            Some(Scalar::Integer(number)) => number.to_string(),
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

fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Maximum depth of lists and objects, about that of the other readers of JSON here.
const DEPTH_MAX: usize = 127;

/// Writes JSON as a YAML document, without the line `---`. Objects keep the order of their members, and numbers their
/// digits.
pub(crate) fn of_json(json: &str) -> Result<String, serde_json::Error> {
    let yaml = yaml_of(serde_json::from_str(json)?, 0)?;
    let mut text = String::new();
    let mut emitter = YamlEmitter::new(&mut text);
    emitter.multiline(true);
    // Writing to a text does not fail.
    emitter.dump(&yaml).map_err(serde::ser::Error::custom)?;
    let text = text.strip_prefix("---\n").unwrap_or(&text);
    Ok(if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") })
}

fn yaml_of(value: &RawValue, depth: usize) -> Result<Yaml<'static>, serde_json::Error> {
    let json = value.get();
    if depth > DEPTH_MAX {
        return Err(serde::de::Error::custom("recursion limit exceeded"));
    }
    Ok(match json.as_bytes().first() {
        Some(b'{') => {
            let Members(members) = serde_json::from_str(json)?;
            let mut mapping = Mapping::new();
            for (name, value) in members {
                let name = Yaml::Value(Scalar::String(name.into()));
                mapping.insert(name, yaml_of(value, depth + 1)?);
            }
            Yaml::Mapping(mapping)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json)?;
            let items = items.into_iter().map(|item| yaml_of(item, depth + 1));
            Yaml::Sequence(items.collect::<Result<_, _>>()?)
        }
        Some(b'"') => Yaml::Value(Scalar::String(serde_json::from_str::<String>(json)?.into())),
        Some(b't' | b'f') => Yaml::Value(Scalar::Boolean(serde_json::from_str(json)?)),
        Some(b'n') => Yaml::Value(Scalar::Null),
        _ => Yaml::Representation(json.to_owned().into(), ScalarStyle::Plain, None),
    })
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        de.deserialize_map(Reader).map(Members)
    }
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
        // Numbers keep their digits.
        assert_eq!(
            read("[100000000000000000001, 1.10, -1e400, 0.1234567890123456789]"),
            ["[100000000000000000001,1.10,-1e400,0.1234567890123456789]"]
        );
        assert_eq!(read("[+1.5, .5, 007, +1]"), ["[1.5,0.5,7,1]"], "JSON has no such forms");
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
        let numbers = r#"{"wei":100000000000000000001,"b":[1.10,-1e400,-0],"a":12}"#;
        assert_eq!(read(&of_json(numbers).expect("JSON")), [numbers]);
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_refused() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(of_json(&nested(100)).is_ok());
        assert!(of_json(&nested(100_000)).is_err());
    }
}
