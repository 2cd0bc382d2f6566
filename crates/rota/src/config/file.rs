//! Reads `rota.toml`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{keys::Key, table::keys};
use crate::exit::Failure;

/// The values of a file by key, each with its line.
#[derive(Debug, Default)]
pub(crate) struct ConfigFile {
    values: BTreeMap<String, (String, String)>,
}

impl ConfigFile {
    pub(crate) fn get(&self, key: &str) -> Option<(String, String)> {
        self.values.get(key).cloned()
    }

    /// Parses the text of a file. `shown` is its name in errors.
    pub(crate) fn parse(text: &str, shown: &str) -> Result<Self, Failure> {
        let table: toml::Spanned<BTreeMap<toml::Spanned<String>, toml::Spanned<toml::Value>>> =
            toml::from_str(text).map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
        let mut values = BTreeMap::new();
        for (key, value) in table.into_inner() {
            let line = 1 + text[..key.span().start].matches('\n').count();
            let name = key.into_inner();
            match value.into_inner() {
                toml::Value::Table(inner) => {
                    let place = Place { shown, text, line };
                    insert_table(&mut values, &name, inner, &place)?;
                }
                value => insert(&mut values, name, &value, shown, line)?,
            }
        }
        Ok(Self { values })
    }
}

/// Where a table begins in the text of a file.
struct Place<'a> {
    shown: &'a str,
    text: &'a str,
    line: usize,
}

/// Inserts the keys of a table and of the tables in it.
fn insert_table(
    values: &mut BTreeMap<String, (String, String)>,
    name: &str,
    table: toml::Table,
    place: &Place<'_>,
) -> Result<(), Failure> {
    let Place { shown, text, line } = *place;
    let header = text.lines().position(|line| line.trim().starts_with(&format!("[{name}]")));
    let line = header.map_or(line, |at| at + 1);
    known_table(name, &format!("{shown}:{line}"))?;
    for (field, value) in table {
        let full = format!("{name}.{field}");
        match value {
            toml::Value::Table(inner) => {
                insert_table(values, &full, inner, &Place { shown, text, line })?;
            }
            value => {
                let line = line_of(text, line, &field);
                // A file cannot have both `store = "URL"` and a table of that name.
                let key = if full == "store.url" { "store".to_owned() } else { full };
                insert(values, key, &value, shown, line)?;
            }
        }
    }
    Ok(())
}

/// Checks that a table of that name has keys.
fn known_table(name: &str, place: &str) -> Result<(), Failure> {
    let tables = || keys().filter_map(|key| key.name.rsplit_once('.').map(|(table, _)| table));
    if tables().any(|table| table == name || table.starts_with(&format!("{name}."))) {
        return Ok(());
    }
    let near = tables().find(|table| distance(name, table) <= 3);
    let near = near.map(|near| format!("; did you mean [{near}]?")).unwrap_or_default();
    Err(Failure::usage(format!("{place}: unknown table [{name}]{near}")))
}

/// The line of a field within the table that begins at `from`.
fn line_of(text: &str, from: usize, field: &str) -> usize {
    let lines = text.lines().enumerate().skip(from.saturating_sub(1));
    let assigns = |line: &str| {
        line.trim_start().strip_prefix(field).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    lines.into_iter().find(|(_, line)| assigns(line)).map_or(from, |(at, _)| at + 1)
}

fn insert(
    values: &mut BTreeMap<String, (String, String)>,
    name: String,
    value: &toml::Value,
    shown: &str,
    line: usize,
) -> Result<(), Failure> {
    let place = format!("{shown}:{line}");
    if !keys().any(|key: &Key| key.name == name || key.formerly == Some(&name)) {
        let near = nearest(&name).map(|near| format!("; did you mean {near}?"));
        let near = near.unwrap_or_default();
        return Err(Failure::usage(format!("{place}: unknown key {name}{near}")));
    }
    if let toml::Value::Array(parts) = value
        && let Some(part) = parts.iter().filter_map(toml::Value::as_str).find(|p| p.contains(','))
    {
        // Lists are joined by commas, so it would be read as two values.
        let wrong = format!("{place}: {name}: {part:?} must not contain a comma");
        return Err(Failure::usage(wrong));
    }
    let text = text_of(value).ok_or_else(|| {
        Failure::usage(format!("{place}: {name} must be a string, a number, a boolean or a list"))
    })?;
    values.insert(name, (text, place));
    Ok(())
}

fn text_of(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        toml::Value::Array(parts) => {
            let parts: Option<Vec<String>> = parts.iter().map(text_of).collect();
            Some(parts?.join(","))
        }
        _ => None,
    }
}

/// The key with the most similar name, if any is similar.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let distance = |key: &&str| distance(name, key);
    let near = keys().map(|key| key.name).min_by_key(distance)?;
    (distance(&near) <= 3).then_some(near)
}

/// The Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = before + usize::from(from != *to);
            before = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}

/// Reads the named file, or the first default one that exists.
pub(super) fn find(named: Option<&Path>) -> Result<ConfigFile, Failure> {
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
            .and_then(|text| ConfigFile::parse(&text, &path.display().to_string()))
    };
    if let Some(path) = named {
        return read(path);
    }
    let home = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let places = [
        Some(PathBuf::from("rota.toml")),
        home.map(|home| home.join("rota/rota.toml")),
        Some(PathBuf::from("/etc/rota/rota.toml")),
    ];
    match places.into_iter().flatten().find(|path| path.is_file()) {
        Some(path) => read(&path),
        None => Ok(ConfigFile::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named_with_its_nearest() {
        let error = ConfigFile::parse("\nlisen = \"x\"\n", "rota.toml").expect_err("a typo");
        assert_eq!(error.to_string(), "rota.toml:2: unknown key lisen; did you mean listen?");
        let error = ConfigFile::parse("[limits]\nbacth = 1\n", "f").expect_err("a typo");
        assert_eq!(error.to_string(), "f:2: unknown key limits.bacth; did you mean limits.batch?");
        assert!(ConfigFile::parse("listen = ", "f").is_err());
    }

    #[test]
    fn an_unknown_table_is_named_though_it_is_empty() {
        let error = ConfigFile::parse("\n[limit]\n", "f").expect_err("a typo");
        assert_eq!(error.to_string(), "f:2: unknown table [limit]; did you mean [limits]?");
        let error = ConfigFile::parse("slots = {}\n", "f").expect_err("no table");
        assert_eq!(error.to_string(), "f:1: unknown table [slots]");
        assert!(ConfigFile::parse("[limits]\n", "f").is_ok());
    }

    #[test]
    fn lists_become_texts() {
        let file = ConfigFile::parse("queues = [\"a\", \"b\"]", "f").expect("a list");
        assert_eq!(file.get("queues").map(|(text, _)| text), Some("a,b".to_owned()));
        let error = ConfigFile::parse("allowed_programs = [\"/a,b/c\"]", "f").expect_err("two");
        assert_eq!(error.to_string(), "f:1: allowed_programs: \"/a,b/c\" must not contain a comma");
    }
}
