//! The options that every command takes, before or after its name: the client's settings, the context and the output.
//!
//! A command that has no use for the client's settings refuses them, because a flag without effect is a mistake.

use std::path::PathBuf;

use clap::{Arg, Args, Command, parser::ValueSource};

use crate::{
    config::{self, Scope},
    exit::Failure,
    output::{Asked, Colour, Times},
};

/// Heading of these options in the help of a command.
const HEADING: &str = "Global options";
/// Commands that connect to no server, so the client's settings have no effect on them.
const LOCAL: [&str; 5] = ["dev", "server", "store", "completions", "man"];

/// The options that are not settings.
#[derive(Debug, Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct Global {
    /// Configuration file [default: the first of ./rota.toml, ~/.config/rota/rota.toml and
    /// /etc/rota/rota.toml].
    #[arg(long, global = true, env = "ROTA_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Cluster, by its name in `rota context list` [default: that of `rota context use`] [env: ROTA_CONTEXT].
    #[arg(long, global = true, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new(), add = crate::complete::contexts())]
    pub(crate) context: Option<String>,
    /// Output format: table, wide (all columns), json, jsonl (one object on each line), yaml, or template=TEXT, such as
    /// template='{{ id }}', or template=@FILE.
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table", add = crate::complete::formats())]
    pub(crate) output: Asked,
    /// Colour the output: always, never, or auto (on a terminal, unless NO_COLOR is set).
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    pub(crate) color: Colour,
    /// Times in tables: relative to now, as UTC, or in the local time zone.
    #[arg(long = "time", global = true, value_enum, value_name = "STYLE", default_value_t)]
    pub(crate) times: Times,
}

/// Adds the client's settings to the command line as global options.
pub(crate) fn with_client_settings(command: Command) -> Command {
    let settings = |scopes: &[Scope]| {
        let flags = config::flags(scopes);
        flags.into_iter().map(|flag| flag.global(true).help_heading(HEADING))
    };
    let mut command = command.args(settings(&config::CLIENT));
    for local in LOCAL {
        // They are known there too, to be refused with a reason, but the help does not list them.
        let unused = settings(unused(local));
        command = command.mut_subcommand(local, |local| hide(local, unused));
    }
    command
}

/// The client's settings that have no effect on a command. Nodes connect to each other, so they need whom to trust.
fn unused(verb: &str) -> &'static [Scope] {
    match verb {
        "dev" | "server" | "bench" => &[Scope::Client],
        _ => &config::CLIENT,
    }
}

fn hide(command: Command, settings: impl Iterator<Item = Arg>) -> Command {
    command.args(settings.map(|flag| flag.hide(true)))
}

/// Refuses options that have no effect on this command.
///
/// # Errors
/// When one is given.
pub(crate) fn refuse_unused(
    global: &Global,
    verb: &str,
    leaf: &clap::ArgMatches,
) -> Result<(), Failure> {
    // A benchmark starts a server of its own, or takes the URL of one.
    let is_bench = verb == "bench";
    if !LOCAL.contains(&verb) && !is_bench {
        return Ok(());
    }
    let is_given = |name: &str| {
        matches!(leaf.try_contains_id(name), Ok(true))
            && leaf.value_source(name) == Some(ValueSource::CommandLine)
    };
    let flags = config::keys().filter(|key| unused(verb).contains(&key.scope) && !key.secret);
    let flags = flags.filter(|key| !(is_bench && key.name == "url"));
    let given = flags.filter(|key| is_given(key.name)).map(config::Key::flag).next();
    let given = given.or_else(|| global.context.as_ref().map(|_| "context".to_owned()));
    match given {
        None => Ok(()),
        Some(flag) => Err(Failure::usage(format!("--{flag} has no effect on `rota {verb}`"))
            .hint(format!("leave --{flag} out"))),
    }
}
