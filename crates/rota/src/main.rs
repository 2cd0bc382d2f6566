//! The `rota` binary: CLI verbs and configuration, and the one place where parts are put together.
//! It decides nothing about tasks.

mod bench;
mod config;
mod exit;
mod log;
mod manage;
mod output;
mod serve;
mod store;
mod top;
mod trace;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use config::{KEYS, Scope, Settings};
use exit::Failure;
use output::Format;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rota: a distributed task scheduler.
#[derive(Debug, Parser)]
#[command(name = "rota", version, after_help = exit::HELP, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
struct Common {
    /// The configuration file; by default ./rota.toml, then the user's, then /etc/rota/rota.toml.
    #[arg(long, global = true, env = "ROTA_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to print: table for people, json for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a server and a worker in one process: for development.
    Dev,
    /// Run a server.
    Server,
    /// Run a worker.
    Worker,
    /// Create, read and manage tasks.
    #[command(subcommand)]
    Task(manage::task::TaskVerb),
    /// See, pause and resume queues.
    #[command(subcommand)]
    Queue(manage::queue::QueueVerb),
    /// See and drain workers.
    #[command(subcommand)]
    Workers(manage::workers::WorkersVerb),
    /// See the nodes, their leader and their store; hand leadership over.
    Cluster(manage::cluster::ClusterArgs),
    /// Watch throughput, queues, workers, errors and nodes.
    Top,
    /// About the server: version, leader, store, limits.
    Info,
    /// See or change what a node logs.
    Log {
        /// What it is to log until it ends: a level, levels by module, or both
        /// (info,rota_engine=debug). Without, shows what it logs.
        filter: Option<String>,
    },
    /// Show the settings in force and where each comes from.
    Config,
    /// Measure a server: throughput, latency, lateness.
    #[command(subcommand)]
    Bench(bench::BenchVerb),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// The settings that a verb has flags for.
fn scopes(verb: &str) -> &'static [Scope] {
    match verb {
        "dev" => &[Scope::Common, Scope::Server, Scope::Limits, Scope::Worker],
        "server" => &[Scope::Common, Scope::Server, Scope::Limits],
        "worker" => &[Scope::Common, Scope::Client, Scope::Worker],
        "config" => &[Scope::Common, Scope::Server, Scope::Limits, Scope::Client, Scope::Worker],
        "bench" | "completions" => &[],
        _ => &[Scope::Client],
    }
}

/// The command line with a flag for each setting, on the verbs that heed it.
fn command() -> clap::Command {
    let mut command = Cli::command();
    let verbs: Vec<String> =
        command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    for verb in verbs {
        let flags = config::flags(scopes(&verb));
        command = command.mut_subcommand(verb, |mut verb| {
            let leaves: Vec<String> =
                verb.get_subcommands().map(|leaf| leaf.get_name().to_owned()).collect();
            if leaves.is_empty() {
                return verb.args(flags);
            }
            if !verb.is_subcommand_required_set() {
                verb = verb.args(flags.clone());
            }
            for leaf in leaves {
                let flags = flags.clone();
                verb = verb.mut_subcommand(leaf, |leaf| leaf.args(flags));
            }
            verb
        });
    }
    command
}

fn main() -> ExitCode {
    let mut matches = command().get_matches();
    let leaf = leaf(&matches).clone();
    let cli = match Cli::from_arg_matches_mut(&mut matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match run(cli, &leaf) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// The matches of the last subcommand: where the flags of settings are.
fn leaf(matches: &clap::ArgMatches) -> &clap::ArgMatches {
    match matches.subcommand() {
        Some((_, inner)) => leaf(inner),
        None => matches,
    }
}

fn run(cli: Cli, leaf: &clap::ArgMatches) -> Result<(), Failure> {
    let (named, leaf) = (cli.common.config.clone(), leaf.clone());
    let read = move || {
        let file = config::find_file(named.as_deref())?;
        Ok(Settings::resolve(&leaf, |name| std::env::var(name).ok(), &file))
    };
    let settings = read()?;
    let format = cli.common.output;
    if matches!(cli.verb, Verb::Server | Verb::Bench(_)) {
        without_huge_pages();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.verb {
            Verb::Dev => serve::dev(&settings, log::start(&settings, read)?).await,
            Verb::Server => serve::server(&settings, log::start(&settings, read)?).await,
            Verb::Worker => serve::run_worker(&settings, log::start(&settings, read)?).await,
            Verb::Task(verb) => manage::task::run(verb, &serve::client(&settings)?, format).await,
            Verb::Queue(verb) => manage::queue::run(verb, &serve::client(&settings)?, format).await,
            Verb::Workers(verb) => {
                manage::workers::run(verb, &serve::client(&settings)?, format).await
            }
            Verb::Cluster(args) => {
                manage::cluster::run(args, &serve::client(&settings)?, format).await
            }
            Verb::Top => top::run(serve::client(&settings)?).await,
            Verb::Info => manage::info(&serve::client(&settings)?, format).await,
            Verb::Log { filter } => {
                manage::log_filter(filter, &serve::client(&settings)?, format).await
            }
            Verb::Config => show_config(&settings, format),
            Verb::Bench(verb) => bench::run(verb, format).await,
            Verb::Completions { shell } => {
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut command(), "rota", &mut text);
                output::raw(&text)
            }
        }
    })
}

/// Where the system gives huge pages unasked, the first touch of one clears two megabytes and holds every
/// task up for milliseconds. Not for workers: the programs that they start would inherit it.
fn without_huge_pages() {
    // A kernel that refuses costs latency, and nothing else.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_thp_disable(true).unwrap_or_default();
}

fn show_config(settings: &Settings, format: Format) -> Result<(), Failure> {
    let shown = |key: &config::Key| {
        let text = settings.text(key.name);
        if key.secret && !text.is_empty() { "(hidden)".to_owned() } else { text.to_owned() }
    };
    match format {
        Format::Json => {
            let keys = KEYS.iter().map(|key| {
                let value = serde_json::json!({
                    "value": shown(key), "source": settings.source(key.name).to_string(),
                });
                (key.name.to_owned(), value)
            });
            output::json(&serde_json::Value::Object(keys.collect()))
        }
        Format::Table => {
            let mut table = output::Table::new(&["KEY", "VALUE", "SOURCE"]);
            for key in KEYS {
                let source = settings.source(key.name).to_string();
                table.row([key.name.to_owned(), shown(key), source]);
            }
            table.print()
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command().debug_assert();
    }
}
