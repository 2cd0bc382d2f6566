//! The verbs of `rota context`.

use std::{collections::BTreeMap, path::Path};

use clap::{
    ArgMatches, Subcommand, builder::NonEmptyStringValueParser as Text, parser::ValueSource,
};
use rota_core::Name;
use serde_json::json;

use super::file::{self, Contexts, VARIABLE, choose, unknown};
use crate::{
    exit::Failure,
    output::{self, Column, Format, Table},
};

/// Commands for contexts.
#[derive(Debug, Subcommand)]
pub(crate) enum ContextVerb {
    /// List the contexts.
    #[command(visible_alias = "ls")]
    List,
    /// Use a context for all commands that do not name another.
    Use {
        /// Name of the context.
        #[arg(value_parser = Text::new(), add = crate::complete::contexts())]
        name: String,
    },
    /// Add a context with the client's settings among the global options, or replace it.
    #[command(after_help = "Examples:\n  \
        rota context add prod --url https://rota.example.org --token-file ~/.config/rota/prod.token\n  \
        rota context use prod\n  \
        rota --context prod task list")]
    Add {
        /// Name of the context.
        #[arg(value_parser = Text::new())]
        name: String,
        /// Use it for all commands that do not name another.
        #[arg(long = "use")]
        use_it: bool,
    },
    /// Remove a context.
    Remove {
        /// Name of the context.
        #[arg(value_parser = Text::new(), add = crate::complete::contexts())]
        name: String,
    },
    /// Show a context [default: the one in force].
    Show {
        /// Name of the context.
        #[arg(value_parser = Text::new(), add = crate::complete::contexts())]
        name: Option<String>,
    },
}

/// Runs the command.
pub(crate) fn run(
    verb: ContextVerb,
    leaf: &ArgMatches,
    flag: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    let path = file::path().ok_or_else(|| {
        Failure::usage("there is no place for contexts: neither XDG_CONFIG_HOME nor HOME is set")
    })?;
    let mut known = file::read(&path)?;
    match verb {
        ContextVerb::List => list(&known, flag, format),
        ContextVerb::Show { name } => show(&known, name, flag, format),
        ContextVerb::Use { name } => {
            if !known.contexts.contains_key(&name) {
                return Err(unknown(&name, known.contexts.keys()));
            }
            known.current = Some(name.clone());
            file::write(&path, &known)?;
            if std::env::var_os(VARIABLE).is_some() {
                output::note(&format!("note: the variable {VARIABLE} goes over this choice"));
            }
            done(&name, "is in use", format)
        }
        ContextVerb::Add { name, use_it } => {
            Name::check(&name).map_err(|error| Failure::usage(format!("NAME: {error}")))?;
            let settings = given(leaf)?;
            if !settings.contains_key("url") {
                return Err(Failure::usage("--url is missing").hint(format!(
                    "name the server: rota context add {name} --url http://HOST:7420"
                )));
            }
            rota_client::Client::connect(settings["url"].split(',').map(str::trim))?;
            let is_first = known.contexts.is_empty();
            let old = known.contexts.insert(name.clone(), settings);
            if use_it || is_first {
                known.current = Some(name.clone());
            }
            file::write(&path, &known)?;
            let what = match (old, use_it || is_first) {
                (None, false) => "added",
                (None, true) => "added, and in use",
                (Some(_), false) => "replaced",
                (Some(_), true) => "replaced, and in use",
            };
            done(&name, what, format)
        }
        ContextVerb::Remove { name } => {
            if known.contexts.remove(&name).is_none() {
                return Err(unknown(&name, known.contexts.keys()));
            }
            let was_current = known.current.as_ref() == Some(&name);
            known.current = known.current.filter(|current| *current != name);
            file::write(&path, &known)?;
            let what = if was_current { "removed; no context is in use now" } else { "removed" };
            done(&name, what, format)
        }
    }
}

fn done(name: &str, what: &str, format: Format) -> Result<(), Failure> {
    if format.is_data() {
        return output::data(&json!({ "name": name, "done": what }), format);
    }
    output::line(&format!("{name} {what}"))
}

/// The client's settings that are given as flags. Paths become absolute, because later commands run elsewhere.
fn given(leaf: &ArgMatches) -> Result<BTreeMap<String, String>, Failure> {
    let mut settings = BTreeMap::new();
    for key in file::keys() {
        let is_flag = matches!(leaf.try_contains_id(key.name), Ok(true))
            && leaf.value_source(key.name) == Some(ValueSource::CommandLine);
        let value = leaf.try_get_one::<String>(key.name).ok().flatten().filter(|_| is_flag);
        let Some(value) = value else { continue };
        let value = if key.name.ends_with("_file") {
            if value == "-" {
                return Err(Failure::usage(format!(
                    "--{} -: a context cannot keep standard input; name a file",
                    key.flag()
                )));
            }
            let path = std::path::absolute(Path::new(value))?;
            path.to_string_lossy().into_owned()
        } else {
            value.clone()
        };
        settings.insert(key.name.to_owned(), value);
    }
    Ok(settings)
}

fn list(known: &Contexts, flag: Option<&str>, format: Format) -> Result<(), Failure> {
    // A wrong name does not keep the list from being shown.
    let used = choose(flag).ok().flatten().map(|chosen| chosen.name);
    if format.is_data() {
        let contexts: Vec<_> = known
            .contexts
            .iter()
            .map(|(name, settings)| {
                json!({ "name": name, "in_use": used.as_ref() == Some(name), "settings": settings })
            })
            .collect();
        return output::list(&json!({ "contexts": contexts }), "contexts", format);
    }
    let mut table = Table::new([
        Column::new("NAME").keep(),
        Column::new("IN USE"),
        Column::new("URL").middle(),
        Column::new("TOKEN FILE").rank(2).middle(),
    ]);
    for (name, settings) in &known.contexts {
        let value = |key: &str| settings.get(key).cloned().unwrap_or_else(|| "-".to_owned());
        let is_used = used.as_ref() == Some(name);
        let is_used = if is_used { "yes" } else { "-" }.to_owned();
        table.row([name.clone(), is_used, value("url"), value("token_file")]);
    }
    table.print()?;
    if known.contexts.is_empty() {
        output::note("no contexts; add one with `rota context add NAME --url URL`");
    }
    Ok(())
}

fn show(
    known: &Contexts,
    name: Option<String>,
    flag: Option<&str>,
    format: Format,
) -> Result<(), Failure> {
    let name = match name {
        Some(name) => name,
        None => {
            choose(flag)?
                .ok_or_else(|| {
                    Failure::new(crate::exit::Exit::NotFound, "no context is in use")
                        .hint("choose one with `rota context use NAME`")
                })?
                .name
        }
    };
    let settings =
        known.contexts.get(&name).ok_or_else(|| unknown(&name, known.contexts.keys()))?;
    if format.is_data() {
        return output::data(&json!({ "name": name, "settings": settings }), format);
    }
    let mut table = Table::pairs("Context", &name);
    for (key, value) in settings {
        table.row([key.clone(), value.clone()]);
    }
    table.print()
}
