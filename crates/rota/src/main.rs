//! The `rota` binary: commands, configuration, and the assembly of all parts. It decides nothing about tasks.

mod ask;
mod author;
mod banner;
mod bench;
mod calendar;
mod complete;
mod config;
mod context;
mod dates;
mod doctor;
mod events;
mod exit;
mod global;
mod guard;
mod input;
mod log;
mod man;
mod manage;
mod open;
mod output;
mod schedule;
mod serve;
mod store;
mod store_commands;
mod text;
mod tls;
mod token;
mod top;
mod trace;
mod watch;
mod yaml;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::CompleteEnv;

use config::{Scope, Settings};
use exit::{Exit, Failure};
use global::Global;
use output::{Column, Format, Table};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rota: a distributed task scheduler.
#[derive(Debug, Parser)]
#[command(name = "rota", version = env!("ROTA_VERSION"), after_help = exit::HELP, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a server and a worker in one process, for development.
    Dev,
    /// Run a server.
    Server,
    /// Run a worker.
    Worker {
        /// Catches `rota worker list`, to point to `rota workers list`.
        #[arg(hide = true)]
        words: Vec<String>,
    },
    /// Create, show and manage tasks.
    #[command(subcommand, visible_alias = "tasks")]
    Task(manage::task::TaskVerb),
    /// List, pause and resume queues.
    #[command(subcommand, visible_alias = "queues")]
    Queue(manage::queue::QueueVerb),
    /// List and drain workers.
    #[command(subcommand)]
    Workers(manage::workers::WorkersVerb),
    /// Show the nodes, the leader and the store; transfer leadership.
    Cluster(manage::cluster::ClusterArgs),
    /// Copy, check, back up and read a store, without a server.
    #[command(subcommand)]
    Store(store_commands::StoreVerb),
    /// Create, show and manage recurring schedules; preview expressions; import crontabs.
    #[command(subcommand, visible_alias = "schedules")]
    Schedule(schedule::ScheduleVerb),
    /// List, show, create and delete calendars: sets of days that schedules share.
    #[command(subcommand, visible_alias = "calendars")]
    Calendar(calendar::CalendarVerb),
    /// Print changes of tasks, queues, workers and schedules as they happen.
    Events(events::EventsArgs),
    /// Watch throughput, queues, workers, errors and nodes live.
    Top,
    /// Open the dashboard of a server in the browser, and print its address.
    Open,
    /// Show the version, leader, store and limits of a server.
    Info,
    /// Show or change the log filter of a node.
    Log {
        /// New filter: a level, levels by module, or both (info,rota_engine=debug). It holds until the node
        /// restarts. Without it, the command shows the current filter.
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        filter: Option<String>,
    },
    /// Show the effective settings and the source of each.
    Config,
    /// Measure the throughput, latency and lateness of a server.
    #[command(subcommand)]
    Bench(bench::BenchVerb),
    /// Keep several clusters by name: list, use, add, remove and show them.
    #[command(subcommand, visible_alias = "contexts")]
    Context(context::ContextVerb),
    /// Check the connection to a server, the token, clocks, versions, the store and workers, and say what to do.
    Doctor,
    /// Print a completion script for a shell. It completes ids, queues and kinds from the server.
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// Shell to print the script for.
        #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
        shell: String,
    },
    /// Write the manual pages of all commands into a directory. Packages do that.
    #[command(hide = true)]
    Man {
        /// Directory for the pages, such as /usr/local/share/man/man1.
        directory: PathBuf,
    },
}

const COMPLETIONS_HELP: &str = "\
Examples:
  source <(rota completions bash)          # in ~/.bashrc
  source <(rota completions zsh)           # in ~/.zshrc
  rota completions fish | source           # in ~/.config/fish/config.fish";

/// The settings that a command has flags for. Those of clients are global options.
fn scopes(verb: &str) -> &'static [Scope] {
    match verb {
        "dev" => &[Scope::Common, Scope::Server, Scope::Store, Scope::Limits, Scope::Worker],
        "server" => &[Scope::Common, Scope::Server, Scope::Store, Scope::Limits],
        "store" => &[Scope::Store],
        "worker" => &[Scope::Common, Scope::Worker],
        "config" => &[Scope::Common, Scope::Server, Scope::Store, Scope::Limits, Scope::Worker],
        _ => &[],
    }
}

/// The settings that a command checks before it starts.
fn checked(verb: &Verb) -> Vec<Scope> {
    let more: &[Scope] = match verb {
        Verb::Worker { .. } | Verb::Config => &config::CLIENT,
        Verb::Dev | Verb::Server => &[Scope::Trust],
        _ => &[],
    };
    scopes(name(verb)).iter().chain(more).copied().collect()
}

/// The word of a command whose settings are checked, or which refuses global options.
fn name(verb: &Verb) -> &'static str {
    match verb {
        Verb::Dev => "dev",
        Verb::Server => "server",
        Verb::Worker { .. } => "worker",
        Verb::Store(_) => "store",
        Verb::Config => "config",
        Verb::Bench(_) => "bench",
        Verb::Completions { .. } => "completions",
        Verb::Man { .. } => "man",
        _ => "",
    }
}

/// The command line, with a flag for each setting on the commands that use it.
fn command() -> clap::Command {
    let mut command = global::with_client_settings(Cli::command());
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
    CompleteEnv::with_factory(command).var(complete::VARIABLE).bin("rota").complete();
    let args: Vec<OsString> = std::env::args_os().collect();
    let (format, ended) = match parse(&args) {
        Ok((cli, leaf)) => (cli.global.output.format, run(cli, &leaf)),
        Err(error) if error.use_stderr() && wants_json(&args) => {
            (Format::Json, Err(unreadable(&error)))
        }
        // The message repeats the arguments, which may hold control characters from somebody else.
        Err(error)
            if error.use_stderr() && text::lines(&error.to_string()) != error.to_string() =>
        {
            output::note(error.to_string().trim_end());
            return ExitCode::from(Exit::Usage as u8);
        }
        Err(error) => error.exit(),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure, format);
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Parses the command line. Returns the matches of the innermost subcommand, which has the flags of settings.
fn parse(args: &[OsString]) -> Result<(Cli, clap::ArgMatches), clap::Error> {
    let mut matches = command().color(colour(args)).try_get_matches_from(args)?;
    let leaf = leaf(&matches).clone();
    Ok((Cli::from_arg_matches_mut(&mut matches)?, leaf))
}

/// Splits clap's message into an error and a hint.
fn unreadable(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let text = text.trim().trim_start_matches("error: ");
    match text.split_once("\n\n") {
        Some((wrong, more)) => Failure::usage(wrong).hint(more),
        None => Failure::usage(text),
    }
}

/// Whether a command line that cannot be parsed asks for JSON.
fn wants_json(args: &[OsString]) -> bool {
    let args: Vec<_> = args.iter().take_while(|arg| *arg != "--").collect();
    let is_json = |word: &str| matches!(word, "json" | "jsonl" | "yaml");
    let apart = |pair: &[&OsString]| {
        (pair[0] == "-o" || pair[0] == "--output") && pair[1].to_str().is_some_and(is_json)
    };
    let joined = |arg: &&OsString| {
        let arg = arg.to_str().unwrap_or_default();
        arg.strip_prefix("--output=")
            .or(arg.strip_prefix("-o="))
            .or(arg.strip_prefix("-o"))
            .is_some_and(is_json)
    };
    args.windows(2).any(apart) || args.iter().any(joined)
}

/// The value of `--color`, for help and errors, which are printed before it is parsed.
fn colour(args: &[OsString]) -> ColorChoice {
    let args: Vec<_> =
        args.iter().take_while(|arg| *arg != "--").filter_map(|arg| arg.to_str()).collect();
    let joined = args.iter().filter_map(|arg| arg.strip_prefix("--color="));
    let apart = args.windows(2).filter(|pair| pair[0] == "--color").map(|pair| pair[1]);
    match joined.chain(apart).next() {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

fn leaf(matches: &clap::ArgMatches) -> &clap::ArgMatches {
    match matches.subcommand() {
        Some((_, inner)) => leaf(inner),
        None => matches,
    }
}

fn run(cli: Cli, leaf: &clap::ArgMatches) -> Result<(), Failure> {
    config::check_variables(std::env::vars_os())?;
    let runs_programs = matches!(cli.verb, Verb::Dev | Verb::Worker { .. });
    // Servers too: a worker on the same machine may run programs as the same user.
    let hides_secrets = runs_programs || matches!(cli.verb, Verb::Server);
    // Before anything is read or opened, because this may re-execute the program.
    let secrets = if hides_secrets {
        guard::take_secrets(config::secret_variables())?
    } else {
        guard::Secrets::default()
    };
    let inherited = if runs_programs { guard::inherited_files() } else { Vec::new() };
    let global = cli.global;
    output::set_screen(&global.output, global.color, global.times)?;
    global::refuse_unused(&global, name(&cli.verb), leaf)?;
    // A broken file of contexts must not keep servers from starting, nor be beyond repair by its own command.
    let needs_context = !matches!(
        cli.verb,
        Verb::Dev
            | Verb::Server
            | Verb::Store(_)
            | Verb::Context(_)
            | Verb::Completions { .. }
            | Verb::Man { .. }
            | Verb::Bench(_)
    );
    let context =
        if needs_context { context::file::choose(global.context.as_deref())? } else { None };
    let (named, leaf) = (global.config.clone(), leaf.clone());
    let flags = leaf.clone();
    let read = move || {
        let file = config::find_file(named.as_deref())?;
        Settings::resolve(&leaf, |name| secrets.variable(name), context.as_ref(), &file)
    };
    let format = global.output.format;
    if let Verb::Context(verb) = cli.verb {
        // A client, which checks the addresses, needs a runtime.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let flag = global.context.as_deref();
        return runtime.block_on(async { context::run(verb, &flags, flag, format) });
    }
    let settings = read()?;
    if let Verb::Worker { words } = &cli.verb {
        no_words(words)?;
    }
    if matches!(cli.verb, Verb::Dev | Verb::Server | Verb::Worker { .. } | Verb::Config) {
        config::check(&settings, &checked(&cli.verb))?;
    }
    if runs_programs && settings.get("allow_command")? {
        guard::close_up(&inherited)?;
    }
    if matches!(cli.verb, Verb::Server | Verb::Bench(_)) {
        without_huge_pages();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.verb {
            Verb::Dev => serve::dev(&settings, start_log(&settings, read)?).await,
            Verb::Server => serve::server(&settings, start_log(&settings, read)?).await,
            Verb::Worker { .. } => serve::run_worker(&settings, start_log(&settings, read)?).await,
            Verb::Task(verb) => manage::task::run(verb, &serve::client(&settings)?, format).await,
            Verb::Queue(verb) => manage::queue::run(verb, &serve::client(&settings)?, format).await,
            Verb::Workers(verb) => {
                manage::workers::run(verb, &serve::client(&settings)?, format).await
            }
            Verb::Cluster(args) => {
                manage::cluster::run(args, &serve::client(&settings)?, format).await
            }
            Verb::Store(verb) => store_commands::run(verb, &settings, format).await,
            Verb::Schedule(verb) => schedule::run(verb, || serve::client(&settings), format).await,
            Verb::Calendar(verb) => calendar::run(verb, &serve::client(&settings)?, format).await,
            Verb::Events(args) => events::run(args, &serve::client(&settings)?, format).await,
            Verb::Top => top::run(serve::client(&settings)?).await,
            Verb::Open => open::run(&settings).await,
            Verb::Info => manage::info(&serve::client(&settings)?, format).await,
            Verb::Log { filter } => {
                manage::log_filter(filter, &serve::client(&settings)?, format).await
            }
            Verb::Config => {
                settings.notes().iter().for_each(|told| output::note(told));
                strange_variables().iter().for_each(|told| output::note(told));
                show_config(&settings, format)
            }
            Verb::Bench(verb) => bench::run(verb, format).await,
            Verb::Doctor => doctor::run(&settings, format).await,
            Verb::Completions { shell } => complete::script(&shell),
            Verb::Man { directory } => man::write(command(), &directory),
            // It is done above, because it needs no settings.
            Verb::Context(_) => Ok(()),
        }
    })
}

/// Starts the log of the process, and warns of unknown `ROTA_*` variables.
fn start_log(
    settings: &Settings,
    read: impl Fn() -> Result<Settings, Failure> + Send + 'static,
) -> Result<log::Log, Failure> {
    let log = log::start(settings, read)?;
    settings.notes().iter().for_each(|told| tracing::warn!("{told}"));
    strange_variables().iter().for_each(|told| tracing::warn!("{told}"));
    Ok(log)
}

fn strange_variables() -> Vec<String> {
    config::unknown_variables(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))
}

fn no_words(words: &[String]) -> Result<(), Failure> {
    match words.first().map(String::as_str) {
        None => Ok(()),
        Some("list" | "ls" | "drain") => {
            let words = words.join(" ");
            Err(Failure::usage("`rota worker` runs a worker; it does not manage other workers")
                .hint(format!("use `rota workers {words}`")))
        }
        Some(word) => {
            Err(Failure::usage(format!("unexpected argument {word:?} for `rota worker`")))
        }
    }
}

/// Turns transparent huge pages off: the first access to one clears two megabytes, which delays every task by
/// milliseconds. Workers keep them, because the programs that they start would inherit the setting.
fn without_huge_pages() {
    // If the kernel refuses, only latency suffers.
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_thp_disable(true).unwrap_or_default();
}

fn show_config(settings: &Settings, format: Format) -> Result<(), Failure> {
    let shown = |key: &config::Key| {
        let text = settings.text(key.name);
        if key.secret && !text.is_empty() { "(hidden)".to_owned() } else { text.to_owned() }
    };
    if format.is_data() {
        let keys = config::keys().map(|key| {
            let value = serde_json::json!({
                "value": shown(key), "source": settings.source(key.name).to_string(),
            });
            (key.name.to_owned(), value)
        });
        output::data(&serde_json::Value::Object(keys.collect()), format)
    } else {
        let mut table = Table::new([
            Column::new("KEY").keep(),
            Column::new("VALUE").middle(),
            Column::new("SOURCE").end(),
        ]);
        for key in config::keys() {
            let source = settings.source(key.name).to_string();
            table.row([key.name.to_owned(), shown(key), source]);
        }
        table.print()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn json_is_asked_for_before_the_program_of_a_task_begins() {
        let asked = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            wants_json(&args)
        };
        for line in
            ["rota -o json x", "rota --output=json", "rota task --output json", "rota -ojson"]
        {
            assert!(asked(line), "{line}");
        }
        for line in ["rota x", "rota -o table", "rota task create -- x -o json"] {
            assert!(!asked(line), "{line}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    /// Each command without subcommands: its words and its definition.
    fn verbs(above: &[String], command: &clap::Command) -> Vec<(Vec<String>, clap::Command)> {
        let below: Vec<_> = command
            .get_subcommands()
            .flat_map(|verb| verbs(&[above, &[verb.get_name().to_owned()]].concat(), verb))
            .collect();
        if below.is_empty() { vec![(above.to_vec(), command.clone())] } else { below }
    }

    #[test]
    fn arguments_that_are_not_utf_8_are_wrong_usage_for_every_verb() {
        let mut tried = 0;
        let mut whole = command();
        whole.build();
        for (words, verb) in verbs(&["rota".to_owned()], &whole) {
            for arg in verb.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let mut line: Vec<OsString> = words.iter().map(OsString::from).collect();
                match (arg.get_long(), arg.is_last_set()) {
                    (Some(long), _) => {
                        let mut flag = OsString::from(format!("--{long}="));
                        flag.push(OsString::from_vec(vec![0xff]));
                        line.push(flag);
                    }
                    (None, true) => {
                        line.extend([
                            "--command".into(),
                            "--".into(),
                            OsString::from_vec(vec![0xff]),
                        ]);
                    }
                    (None, false) => {
                        let before = arg.get_index().map_or(0, |index| index - 1);
                        line.extend(std::iter::repeat_n(OsString::from("x"), before));
                        line.push(OsString::from_vec(vec![0xff]));
                    }
                }
                tried += 1;
                // Paths can have any bytes; opening the file shows whether it exists.
                let is_path = arg.get_value_parser().type_id() == std::any::TypeId::of::<PathBuf>();
                match parse(&line) {
                    Ok(_) => assert!(is_path, "{line:?}"),
                    Err(error) if is_path => {
                        assert_ne!(error.kind(), ErrorKind::InvalidUtf8, "{line:?}");
                    }
                    Err(error) => {
                        assert_eq!(error.exit_code(), Exit::Usage as i32, "{line:?}: {error}");
                    }
                }
                assert!(!wants_json(&line));
            }
        }
        assert!(tried > 100, "{tried}");
    }
}
