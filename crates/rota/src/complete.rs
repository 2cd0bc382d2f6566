//! Completion of names from the server: ids of tasks, queues, kinds, workers and schedules. A shell asks for them while
//! somebody types, so they come soon or not at all, and nothing is printed.

use std::{ffi::OsStr, future::Future, time::Duration};

use clap::{Arg, Command};
use clap_complete::{
    engine::{ArgValueCompleter, CompletionCandidate},
    env::Shells,
};
use rota_client::{Client, ClientError, v1};
use rota_proto::json::Words as _;

use crate::{
    config::{self, Settings},
    context::file,
    exit::Failure,
    output, serve,
};

/// Variable by which the script of a shell asks.
pub(crate) const VARIABLE: &str = "_ROTA_COMPLETE";
/// Zsh loads a file of its search path at the first completion, and expects it to complete then, too.
const ZSH_AUTOLOAD: &[u8] =
    b"\nif [ \"$funcstack[1]\" = \"_rota\" ]; then\n    _clap_dynamic_completer_rota \"$@\"\nfi\n";
/// Time for an answer.
const PATIENCE: Duration = Duration::from_millis(1000);
/// Candidates to read.
const MOST: u32 = 200;

type Names = Result<Vec<(String, String)>, ClientError>;

/// Prints the script that makes a shell ask this program.
pub(crate) fn script(shell: &str) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let shell = shells
        .completer(shell)
        .ok_or_else(|| Failure::usage(format!("no completion for the shell {shell:?}")))?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "rota", "rota", "rota", &mut script)?;
    if shell.name() == "zsh" {
        script.extend(ZSH_AUTOLOAD);
    }
    output::verbatim(&script)
}

/// Ids of tasks, the newest first.
pub(crate) fn tasks() -> ArgValueCompleter {
    completer(|client| async move {
        let request = v1::ListTasksRequest { page_size: MOST, ..v1::ListTasksRequest::default() };
        let tasks = client.list_tasks(request).await?.tasks.into_iter();
        Ok(tasks
            .map(|task| (task.id.clone(), format!("{} {}", task.kind, task.status().word())))
            .collect())
    })
}

/// Names of queues.
pub(crate) fn queues() -> ArgValueCompleter {
    completer(|client| async move {
        let request = v1::ListQueuesRequest { page_size: MOST, page_token: String::new() };
        let queues = client.list_queues(request).await?.queues.into_iter();
        Ok(queues.map(|queue| (queue.name, format!("{} pending", queue.pending))).collect())
    })
}

/// Kinds: those that workers serve and those of the newest tasks.
pub(crate) fn kinds() -> ArgValueCompleter {
    completer(|client| async move {
        let workers = client.list_workers(v1::ListWorkersRequest::default()).await?.workers;
        let request = v1::ListTasksRequest { page_size: MOST, ..v1::ListTasksRequest::default() };
        let tasks = client.list_tasks(request).await?.tasks;
        let served = workers.into_iter().flat_map(|worker| worker.kinds);
        let kinds: std::collections::BTreeSet<String> =
            served.chain(tasks.into_iter().map(|task| task.kind)).collect();
        Ok(kinds.into_iter().map(|kind| (kind, String::new())).collect())
    })
}

/// Names of workers.
pub(crate) fn workers() -> ArgValueCompleter {
    completer(|client| async move {
        let workers = client.list_workers(v1::ListWorkersRequest::default()).await?.workers;
        Ok(workers.into_iter().map(|worker| (worker.name, worker.session)).collect())
    })
}

/// Names of schedules.
pub(crate) fn schedules() -> ArgValueCompleter {
    completer(|client| async move {
        let request =
            v1::ListSchedulesRequest { page_size: MOST, ..v1::ListSchedulesRequest::default() };
        let schedules = client.list_schedules(request).await?.schedules.into_iter();
        Ok(schedules.map(|schedule| (schedule.name, schedule.sentence)).collect())
    })
}

/// Names of contexts.
pub(crate) fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let names = file::names().into_iter().map(|name| (name, String::new()));
        candidates(names.collect(), current)
    })
}

/// Output formats.
pub(crate) fn formats() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let words = output::Asked::WORDS.iter();
        candidates(words.map(|word| ((*word).to_owned(), String::new())).collect(), current)
    })
}

/// Statuses of tasks.
pub(crate) fn statuses() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let current = current.to_string_lossy();
        // Several are separated by commas.
        let before = current.rfind(',').map_or("", |at| &current[..=at]);
        let words = v1::TaskStatus::WORDS.iter();
        let words = words.map(|word| (format!("{before}{word}"), String::new()));
        candidates(words.collect(), OsStr::new(&*current))
    })
}

fn completer<F>(ask: impl Fn(Client) -> F + Send + Sync + 'static) -> ArgValueCompleter
where
    F: Future<Output = Names>,
{
    ArgValueCompleter::new(move |current: &OsStr| {
        // A shell shows nothing of an error, and a person cannot act on it while typing.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok();
        let names = runtime.and_then(|runtime| {
            runtime.block_on(async {
                let client = client()?.with_patience(Duration::ZERO);
                tokio::time::timeout(PATIENCE, ask(client)).await.ok()?.ok()
            })
        });
        candidates(names.unwrap_or_default(), current)
    })
}

/// A client by the options that are typed already, the variables and the files.
fn client() -> Option<Client> {
    let words: Vec<String> = std::env::args().collect();
    let command = Command::new("rota")
        .args(config::flags(&config::CLIENT))
        .args(["context", "config"].map(|name| Arg::new(name).long(name)));
    let flags: Vec<String> =
        command.get_arguments().filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect();
    let typed = std::iter::once("rota".to_owned()).chain(typed(&words, &flags));
    let matches = command.try_get_matches_from(typed).ok()?;
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let named = text("config").map(str::to_owned).or_else(|| std::env::var("ROTA_CONFIG").ok());
    let file = config::find_file(named.as_deref().map(std::path::Path::new)).ok()?;
    let context = file::choose(text("context")).ok()?;
    let variable = |name: &str| std::env::var(name).ok();
    let settings = Settings::resolve(&matches, variable, context.as_ref(), &file).ok()?;
    // Standard input belongs to the shell.
    if settings.text("token_file") == "-" { None } else { serve::client(&settings).ok() }
}

/// The words that are these flags, with their values.
fn typed(words: &[String], flags: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let name = word.split('=').next().unwrap_or_default();
        if !flags.iter().any(|flag| flag == name) {
            continue;
        }
        match (word.split_once('='), words.get(at + 1)) {
            (Some(_), _) => found.push(word.clone()),
            (None, Some(value)) => found.push(format!("{word}={value}")),
            (None, None) => {}
        }
    }
    found
}

fn candidates(names: Vec<(String, String)>, current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let names = names.into_iter().filter(|(name, _)| name.starts_with(&*current));
    let candidate = |(name, help): (String, String)| {
        let help = Some(help).filter(|help| !help.is_empty());
        CompletionCandidate::new(name).help(help.map(|help| crate::text::line(&help).into()))
    };
    names.map(candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_typed_count() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let flags = words("--url --context");
        let found = typed(&words("rota --url http://x task --context=prod get --kind"), &flags);
        assert_eq!(found, ["--url=http://x", "--context=prod"]);
        assert!(typed(&words("rota task get --url"), &flags).is_empty());
    }

    #[test]
    fn candidates_begin_with_what_is_typed_and_do_nothing_to_the_terminal() {
        let names = vec![
            ("mail".to_owned(), "1 pending\u{1b}[2J".to_owned()),
            ("images".to_owned(), String::new()),
        ];
        let found = candidates(names, OsStr::new("ma"));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].get_value(), "mail");
        let help = found[0].get_help().map(ToString::to_string);
        assert_eq!(help.as_deref(), Some(r"1 pending\u{1b}[2J"));
    }
}
