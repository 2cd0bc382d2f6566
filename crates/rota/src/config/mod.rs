//! Settings: the table of keys, and the value and source of each.
//!
//! A flag overrides a `ROTA_*` variable, which overrides `rota.toml`, which overrides the default. A key has
//! the same name in all of them: `--limits-batch`, `ROTA_LIMITS_BATCH`, and `batch` under `[limits]`.

mod check;
mod file;
mod keys;

use std::{collections::BTreeMap, fmt, path::Path, str::FromStr};

use clap::{Arg, ArgAction, ArgMatches, parser::ValueSource};

pub(crate) use check::{check, check_variables, unknown_variables};
pub(crate) use file::ConfigFile;
use keys::Takes;
pub(crate) use keys::{KEYS, Key, Scope};

use crate::exit::Failure;

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    File(String),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => f.write_str(place),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// The effective values.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, (String, Source)>,
}

/// The flags for the keys of these scopes.
pub(crate) fn flags(scopes: &[Scope]) -> Vec<Arg> {
    // A secret on the command line would be visible in the list of processes.
    let keys = KEYS.iter().filter(|key| scopes.contains(&key.scope) && !key.secret);
    keys.map(flag).collect()
}

fn flag(key: &'static Key) -> Arg {
    let default = key.default();
    let help = if default.is_empty() || key.is_switch() {
        format!("{} [env: {}]", key.help, key.variable())
    } else {
        format!("{} [default: {default}] [env: {}]", key.help, key.variable())
    };
    let arg = Arg::new(key.name).long(key.flag()).help(help);
    if key.is_switch() {
        arg.action(ArgAction::Set)
            .num_args(0..=1)
            .value_name("BOOL")
            .require_equals(true)
            .default_missing_value("true")
    } else {
        // A negative number must be refused with the range, not parsed as another flag.
        let below = matches!(key.takes, Takes::Number(..) | Takes::Time(..));
        arg.value_name(key.value_name).allow_hyphen_values(below)
    }
}

impl Settings {
    /// Resolves every key from flags, variables, the file and the defaults, in that order.
    pub(crate) fn resolve(
        matches: &ArgMatches,
        variable: impl Fn(&str) -> Option<String>,
        file: &ConfigFile,
    ) -> Self {
        let value = |key: &'static Key| {
            let flag = matches.try_get_one::<String>(key.name).ok().flatten();
            let given = matches!(
                matches.try_contains_id(key.name),
                Ok(true) if matches.value_source(key.name) == Some(ValueSource::CommandLine)
            );
            if let Some(text) = flag.filter(|_| given) {
                return (text.clone(), Source::Flag(format!("--{}", key.flag())));
            }
            if let Some(text) = variable(&key.variable()) {
                return (text, Source::Variable(key.variable()));
            }
            if let Some((text, place)) = file.get(key.name) {
                return (text, Source::File(place));
            }
            (key.default().into_owned(), Source::Default)
        };
        Self { values: KEYS.iter().map(|key| (key.name, value(key))).collect() }
    }

    /// A value as text. Empty if it is not set.
    ///
    /// # Panics
    /// When there is no such key, which is a bug.
    pub(crate) fn text(&self, key: &str) -> &str {
        &self.values.get(key).expect("a key of the table").0
    }

    pub(crate) fn source(&self, key: &str) -> &Source {
        &self.values.get(key).expect("a key of the table").1
    }

    /// A parsed value.
    ///
    /// # Errors
    /// When the text cannot be parsed. The message names the key and the source of the text.
    pub(crate) fn get<T: FromStr>(&self, key: &str) -> Result<T, Failure>
    where
        T::Err: fmt::Display,
    {
        let text = self.text(key);
        text.parse().map_err(|error: T::Err| {
            let source = self.source(key);
            Failure::usage(format!("{key} = {text:?} ({source}): {error}"))
        })
    }

    /// A duration.
    ///
    /// # Errors
    /// As [`Settings::get`].
    pub(crate) fn span(&self, key: &str) -> Result<std::time::Duration, Failure> {
        self.get::<rota_proto::TimeSpan>(key).map(rota_proto::TimeSpan::duration)
    }

    /// Values separated by commas, or `None` if the key is not set. An empty list that was set is `Some`.
    pub(crate) fn list_if_set(&self, key: &str) -> Option<Vec<String>> {
        (*self.source(key) != Source::Default).then(|| self.list(key))
    }

    /// Values separated by commas. Empty for an empty text.
    pub(crate) fn list(&self, key: &str) -> Vec<String> {
        let parts = self.text(key).split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    }
}

/// Reads the named file, or the first default one that exists.
///
/// # Errors
/// When the named file cannot be read, or a file has an unknown key.
pub(crate) fn find_file(named: Option<&Path>) -> Result<ConfigFile, Failure> {
    file::find(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: &[&str], variables: &[(&str, &str)], file: &str) -> Settings {
        let command = clap::Command::new("rota").args(flags(&[Scope::Server, Scope::Limits]));
        let matches = command.get_matches_from(args);
        let file = ConfigFile::parse(file, "rota.toml").expect("a file");
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::resolve(&matches, variable, &file)
    }

    #[test]
    fn flags_go_over_variables_over_the_file_over_defaults() {
        let file = "listen = \"127.0.0.1:3\"\nnode = \"from-file\"\n[limits]\nbatch = 7\n";
        let variables = [("ROTA_LISTEN", "127.0.0.1:2"), ("ROTA_LIMITS_LABELS", "9")];
        let settings = resolve(&["rota", "--listen", "127.0.0.1:1"], &variables, file);
        assert_eq!(settings.text("listen"), "127.0.0.1:1");
        assert_eq!(settings.source("listen"), &Source::Flag("--listen".to_owned()));
        assert_eq!(settings.text("node"), "from-file");
        assert_eq!(settings.source("node").to_string(), "rota.toml:2");
        assert_eq!(settings.get::<u32>("limits.batch").expect("a number"), 7);
        assert_eq!(settings.source("limits.batch").to_string(), "rota.toml:4");
        assert_eq!(settings.get::<u32>("limits.labels").expect("a number"), 9);
        assert_eq!(settings.text("store"), "file:./rota-data");
        assert_eq!(settings.source("store"), &Source::Default);
        let settings = resolve(&["rota"], &variables, file);
        assert_eq!(settings.text("listen"), "127.0.0.1:2");
    }

    #[test]
    fn a_wrong_value_names_its_key_and_source() {
        let settings = resolve(&["rota"], &[("ROTA_LIMITS_BATCH", "many")], "");
        let error = settings.get::<u32>("limits.batch").expect_err("not a number");
        let message = error.to_string();
        assert!(message.contains("limits.batch"), "{message}");
        assert!(message.contains("ROTA_LIMITS_BATCH"), "{message}");
    }
}
