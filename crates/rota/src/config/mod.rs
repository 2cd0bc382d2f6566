//! Settings: the table of keys, and the value and source of each.
//!
//! A flag overrides a `ROTA_*` variable, which overrides `rota.toml`, which overrides the default. A key has
//! the same name in all of them: `--limits-batch`, `ROTA_LIMITS_BATCH`, and `batch` under `[limits]`.

mod check;
mod context;
mod file;
mod keys;
mod limit_keys;
mod store_keys;
mod store_url;
mod table;

use std::{collections::BTreeMap, fmt, path::Path, str::FromStr};

use clap::{Arg, ArgAction, ArgMatches, parser::ValueSource};

pub(crate) use check::{check, check_variables, origin, unknown_variables};
pub(crate) use context::{By, Context};
pub(crate) use file::ConfigFile;
pub(crate) use keys::{Key, Scope, variable_of};
use keys::{Takes, flag_of};
use store_url::Query;
pub(crate) use store_url::table_of;
pub(crate) use table::keys;

use crate::exit::Failure;

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    File(String),
    Variable(String),
    Flag(String),
    /// A positional argument, by its name.
    Argument(&'static str),
    /// The query of the store's URL.
    StoreUrl,
    /// A context, by its name, and whether a flag names it.
    Context(String, By),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => f.write_str(place),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Argument(name) => write!(f, "argument {name}"),
            Self::StoreUrl => f.write_str("URL in store"),
            Self::Context(name, _) => write!(f, "context {name}"),
        }
    }
}

/// The effective values.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, (String, Source)>,
    notes: Vec<String>,
}

/// The settings of clients.
pub(crate) const CLIENT: [Scope; 2] = [Scope::Client, Scope::Trust];

/// The flags for the keys of these scopes.
pub(crate) fn flags(scopes: &[Scope]) -> Vec<Arg> {
    // A secret on the command line would be visible in the list of processes.
    let keys = keys().filter(|key| scopes.contains(&key.scope) && !key.secret);
    let with_former = |key: &'static Key| {
        let former = key.formerly.map(|name| flag(key).id(name).long(flag_of(name)).hide(true));
        std::iter::once(flag(key)).chain(former)
    };
    keys.flat_map(with_former).collect()
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
    /// Resolves every key from flags, variables, the context, the file and the defaults, in that order. A context that a
    /// flag names goes over variables.
    ///
    /// # Errors
    /// When two names of one key, or the key and the URL of the store, have different values.
    pub(crate) fn resolve(
        matches: &ArgMatches,
        variable: impl Fn(&str) -> Option<String>,
        context: Option<&Context>,
        file: &ConfigFile,
    ) -> Result<Self, Failure> {
        let context = in_force(matches, &variable, context)?;
        let of_context = |name: &str| {
            let context = context.filter(|context| context.settings.contains_key(name))?;
            let source = Source::Context(context.name.clone(), context.by);
            Some((context.settings[name].clone(), source))
        };
        // A token or a certificate of the file is for the server of the file, and must not reach another one.
        let is_replaced = |name: &str| {
            let is_of_client = |key: &Key| CLIENT.contains(&key.scope) && key.name == name;
            context.is_some() && keys().any(is_of_client)
        };
        let given = |name: &'static str| {
            let is_flag = matches!(
                matches.try_contains_id(name),
                Ok(true) if matches.value_source(name) == Some(ValueSource::CommandLine)
            );
            let flag = matches.try_get_one::<String>(name).ok().flatten().filter(|_| is_flag);
            let flag =
                flag.map(|text| (text.clone(), Source::Flag(format!("--{}", flag_of(name)))));
            let named = variable_of(name);
            let by_flag = context.is_some_and(|context| context.by == By::Flag);
            flag.or_else(|| of_context(name).filter(|_| by_flag))
                .or_else(|| variable(&named).map(|text| (text, Source::Variable(named))))
                .or_else(|| of_context(name))
                .or_else(|| {
                    let found = file.get(name).filter(|_| !is_replaced(name));
                    found.map(|(text, place)| (text, Source::File(place)))
                })
        };
        let (mut values, mut notes) = (BTreeMap::new(), Vec::new());
        for key in keys() {
            let former = key.formerly.and_then(|name| given(name).map(|value| (name, value)));
            let value = match (given(key.name), former) {
                (None, None) => (key.default().into_owned(), Source::Default),
                (Some(value), None) => value,
                (Some((text, place)), Some((name, (other, at)))) if text != other => {
                    return Err(Failure::usage(format!(
                        "{} ({place}) and {name} ({at}) have different values, but {name} is only the former name",
                        key.name
                    ))
                    .hint(format!("remove {name}")));
                }
                (_, Some((name, value))) => {
                    notes.push(format!("{name} ({}) is now called {}", value.1, key.name));
                    value
                }
            };
            values.insert(key.name, value);
        }
        store_url::take_query(&mut values, Query::Contradicts)?;
        Ok(Self { values, notes })
    }

    /// What an operator should change, one sentence each.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
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

    /// The same settings for the store at this URL, which is the argument `name` of the command. A setting in its query
    /// goes over every other source.
    ///
    /// # Errors
    /// When the query has a setting that the store does not have, or a secret.
    pub(crate) fn for_store(&self, url: &str, name: &'static str) -> Result<Self, Failure> {
        let mut settings = self.clone();
        settings.values.insert("store", (url.to_owned(), Source::Argument(name)));
        store_url::take_query(&mut settings.values, Query::Overrides)?;
        Ok(settings)
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

/// The context, unless a URL is given beside it: what belongs to one server must not reach another one.
///
/// # Errors
/// When a flag or a variable names both.
fn in_force<'a>(
    matches: &ArgMatches,
    variable: impl Fn(&str) -> Option<String>,
    context: Option<&'a Context>,
) -> Result<Option<&'a Context>, Failure> {
    let Some(context) = context else { return Ok(None) };
    let by_flag = matches!(matches.try_contains_id("url"), Ok(true))
        && matches.value_source("url") == Some(ValueSource::CommandLine);
    let by_variable = variable(&variable_of("url")).is_some();
    let both = |url: &str, name: &str| {
        Err(Failure::usage(format!("{url} and {name} name two servers"))
            .hint(format!("use {url} or {name}")))
    };
    match context.by {
        By::Flag if by_flag => both("--url", "--context"),
        By::Variable if by_variable && !by_flag => both("ROTA_URL", "ROTA_CONTEXT"),
        By::Flag => Ok(Some(context)),
        By::Variable | By::File => Ok(Some(context).filter(|_| !by_flag && !by_variable)),
    }
}

/// The variables of all secrets, under former names too.
pub(crate) fn secret_variables() -> impl Iterator<Item = String> {
    let secrets = keys().filter(|key| key.secret);
    secrets.flat_map(|key| std::iter::once(key.name).chain(key.formerly)).map(variable_of)
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
        let command =
            clap::Command::new("rota").args(flags(&[Scope::Server, Scope::Store, Scope::Limits]));
        let matches = command.get_matches_from(args);
        let file = ConfigFile::parse(file, "rota.toml").expect("a file");
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::resolve(&matches, variable, None, &file).expect("no contradiction")
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

    fn told(args: &[&str], variables: &[(&str, &str)], file: &str) -> String {
        let command = clap::Command::new("rota").args(flags(&[Scope::Server, Scope::Store]));
        let matches = command.get_matches_from(args);
        let file = ConfigFile::parse(file, "rota.toml").expect("a file");
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let refused = Settings::resolve(&matches, variable, None, &file);
        refused.expect_err("a contradiction").to_string()
    }

    #[test]
    fn a_store_has_a_table_of_its_own() {
        let file = "[store]\nurl = \"etcd://a:1/x\"\n\n[store.redis]\nreplicas = 2\n\n[store.etcd]\ntls = true\n";
        let settings = resolve(&["rota"], &[("ROTA_STORE_ETCD_USER", "u")], file);
        assert_eq!(settings.text("store"), "etcd://a:1/x");
        assert_eq!(settings.source("store").to_string(), "rota.toml:2");
        assert_eq!(settings.text("store.etcd.tls"), "true");
        assert_eq!(settings.source("store.etcd.tls").to_string(), "rota.toml:8");
        assert_eq!(settings.text("store.redis.replicas"), "2");
        assert_eq!(settings.text("store.etcd.user"), "u");
        assert!(settings.notes().is_empty());
    }

    #[test]
    fn former_names_work_and_are_told() {
        let variables = [("ROTA_STORE_PASSWORD", "secret"), ("ROTA_STORE_ETCD_USER", "u")];
        let file = "store_quota_bytes = 99999999\nstore_user = \"u\"\n";
        let settings = resolve(&["rota", "--store-history", "3m"], &variables, file);
        assert_eq!(settings.text("store.etcd.quota_bytes"), "99999999");
        assert_eq!(settings.text("store.etcd.history"), "3m");
        assert_eq!(settings.text("store.etcd.password"), "secret");
        assert_eq!(
            settings.notes(),
            [
                "store_user (rota.toml:2) is now called store.etcd.user",
                "store_password (variable ROTA_STORE_PASSWORD) is now called store.etcd.password",
                "store_quota_bytes (rota.toml:1) is now called store.etcd.quota_bytes",
                "store_history (flag --store-history) is now called store.etcd.history",
            ]
        );
        let told = told(&["rota"], &[("ROTA_STORE_ETCD_USER", "v")], file);
        assert!(told.contains("store.etcd.user") && told.contains("rota.toml:2"), "{told}");
    }

    #[test]
    fn the_url_of_the_store_may_hold_its_settings() {
        let url = "store = \"etcd://a:1/x?quota_bytes=77777777&ca_file=%2Fa%20b.pem\"\n";
        let settings = resolve(&["rota", "--store-etcd-quota-bytes", "77777777"], &[], url);
        assert_eq!(settings.text("store"), "etcd://a:1/x");
        assert_eq!(settings.text("store.etcd.quota_bytes"), "77777777");
        assert_eq!(settings.text("store.etcd.ca_file"), "/a b.pem");
        assert_eq!(settings.source("store.etcd.ca_file"), &Source::StoreUrl);
        let contradiction = told(&["rota", "--store-etcd-quota-bytes", "88888888"], &[], url);
        assert!(contradiction.contains("quota_bytes=77777777"), "{contradiction}");
        let secret = told(&["rota"], &[("ROTA_STORE", "redis://a?password=hunter2")], "");
        assert!(
            secret.contains("ROTA_STORE_REDIS_PASSWORD") && !secret.contains("hunter2"),
            "{secret}"
        );
        let unknown = told(&["rota"], &[("ROTA_STORE", "redis://a?quota_bytes=1")], "");
        assert!(unknown.contains("quota_bytes") && unknown.contains("replicas"), "{unknown}");
    }

    fn with_context(
        by: By,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Settings, Failure> {
        let command = clap::Command::new("rota").args(flags(&[Scope::Client]));
        let matches = command.get_matches_from(args);
        let file = ConfigFile::parse("url = \"http://file:1\"\ntoken = \"of-file\"\n", "rota.toml");
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let pairs = [("url", "http://prod:1"), ("token_file", "/prod")];
        let settings = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let context = Context { name: "prod".to_owned(), by, settings };
        Settings::resolve(&matches, variable, Some(&context), &file.expect("a file"))
    }

    #[test]
    fn a_context_is_used_whole_or_not_at_all() {
        let urls = |by, args: &[&str], variables: &[(&str, &str)]| {
            let settings = with_context(by, args, variables).expect("no contradiction");
            let text = |key| settings.text(key).to_owned();
            [text("url"), text("token_file"), text("token")]
        };
        let prod = ["http://prod:1", "/prod", ""];
        assert_eq!(urls(By::File, &["rota"], &[]), prod);
        assert_eq!(urls(By::Flag, &["rota"], &[("ROTA_URL", "http://x:1")]), prod);
        // The token of one server never goes to another.
        let other = urls(By::File, &["rota", "--url", "http://x:1"], &[]);
        assert_eq!(other, ["http://x:1", "", "of-file"]);
        let other = urls(By::File, &["rota"], &[("ROTA_URL", "http://x:1")]);
        assert_eq!(other, ["http://x:1", "", "of-file"]);
        for (by, args, variables) in [
            (By::Flag, &["rota", "--url", "http://x:1"][..], &[][..]),
            (By::Variable, &["rota"], &[("ROTA_URL", "http://x:1")]),
        ] {
            let told = with_context(by, args, variables).expect_err("two servers").to_string();
            assert!(told.contains("name two servers"), "{told}");
        }
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
