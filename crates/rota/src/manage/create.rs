//! `rota task create`: creates one task from flags. The module `import` creates many.

use std::path::PathBuf;

use clap::{ArgGroup, Args, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, ClientError, Date, NewTask, TimeSpan,
    v1::{self, Task},
};

use super::{
    fresh_key, import, labels, retry,
    work::{self, Work, WorkArgs},
};
use crate::{dates, exit::Failure, output::Format};

/// The flags of a task.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("task").required(true).multiple(true).args(["kind", "command", "http", "file"]))]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    work: WorkArgs,
    /// Task id [default: chosen by the server].
    #[arg(long, value_parser = Text::new())]
    id: Option<String>,
    /// Key that makes a repeat safe: with the same key and content, you get the same task [default: a random
    /// key, unless --id is given]. With --file, each line without a key or id gets this key and its line number.
    #[arg(long, value_name = "KEY", value_parser = Text::new())]
    idempotency_key: Option<String>,
    /// Label of the task. Can be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Description for people, up to 256 characters.
    #[arg(long, value_name = "TEXT", value_parser = Text::new())]
    description: Option<String>,
    /// Delay before the task is due, such as 30s or 2h.
    #[arg(long, value_name = "TIME", conflicts_with = "run_at")]
    delay: Option<TimeSpan>,
    /// Earliest start time, such as 2026-01-31T12:00:00Z, "tomorrow 09:00" or "in 3h".
    #[arg(long, value_name = "DATE", value_parser = dates::coming)]
    run_at: Option<Date>,
    /// Start deadline. The task expires if it has not started by then.
    #[arg(long, value_name = "DATE", value_parser = dates::coming)]
    expires_at: Option<Date>,
    /// Catches `--cron`, to point to schedules.
    #[arg(long, hide = true, value_parser = a_schedule_is_meant)]
    cron: Option<String>,
    /// Wait until the task has ended, and print its output and result.
    #[arg(long, conflicts_with = "file")]
    pub(crate) wait: bool,
    /// Create many tasks from a file with one task in JSON on each line, or from standard input with -. Of the
    /// other flags for tasks, only --idempotency-key can be combined with it.
    #[arg(long, value_name = "FILE", conflicts_with_all = one_task())]
    file: Option<PathBuf>,
    /// Read the file and say which lines are not tasks, and create nothing. The server is not asked.
    #[arg(long, requires = "file", conflicts_with = "idempotency_key")]
    dry_run: bool,
}

/// The flags that describe one task.
fn one_task() -> Vec<&'static str> {
    let own = ["id", "labels", "description", "delay", "run_at", "expires_at"];
    own.into_iter().chain(work::FLAGS).chain(retry::FLAGS).collect()
}

/// Creates what the flags describe. Returns the task if it was a single one.
pub(crate) async fn run(
    args: CreateArgs,
    client: &Client,
    format: Format,
) -> Result<Option<Task>, Failure> {
    if let Some(file) = args.file.as_ref().filter(|_| args.dry_run) {
        import::dry_run(file, format).await?;
        return Ok(None);
    }
    if let Some(file) = &args.file {
        import::run(file, args.idempotency_key.clone(), client, format).await?;
        return Ok(None);
    }
    let task = from_flags(args)?;
    let key = task.idempotency_key.clone();
    match (client.create_task(NewTask::from(task)).await, key) {
        (Ok(created), _) => Ok(Some(created)),
        (Err(error @ ClientError::OutcomeUnknown { .. }), Some(key)) => {
            let again = "repeat the command with this key; you get the same task if it was created";
            Err(Failure::from(error).hint(format!("{again}: --idempotency-key {key}")))
        }
        (Err(error), _) => Err(error.into()),
    }
}

fn a_schedule_is_meant(_: &str) -> Result<String, String> {
    Err("a task runs once; create a schedule with `rota schedule create NAME --cron EXPRESSION`"
        .to_owned())
}

fn from_flags(args: CreateArgs) -> Result<v1::NewTask, Failure> {
    let Work { kind, payload, queue, priority, timeout, retry, retention } = args.work.read()?;
    let idempotency_key = match args.idempotency_key {
        None if args.id.is_none() => Some(fresh_key()),
        given => given,
    };
    Ok(v1::NewTask {
        id: args.id,
        queue,
        kind,
        payload,
        labels: labels(&args.labels)?,
        description: args.description,
        priority,
        run_at: args.run_at,
        delay: args.delay,
        expires_at: args.expires_at,
        timeout,
        retry,
        idempotency_key,
        retention,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn key(flags: &[&str]) -> Option<String> {
        let line = ["create", "--kind", "mail"].iter().chain(flags);
        from_flags(Cli::parse_from(line).args).expect("the flags are sound").idempotency_key
    }

    #[test]
    fn a_task_without_a_name_gets_a_key_of_its_own_and_any_other_keeps_its_name() {
        let (one, other) = (key(&[]), key(&[]));
        assert!(one.is_some() && other.is_some());
        assert_ne!(one, other, "each run creates a task of its own");
        assert_eq!(key(&["--id", "invoice-7"]), None);
        assert_eq!(key(&["--idempotency-key", "mine"]).as_deref(), Some("mine"));
    }
}
