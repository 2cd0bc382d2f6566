//! `rota task`: the verbs, and which module does the work of each.

use clap::{Subcommand, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, Date, EventFilter, TimeSpan,
    v1::{self, BulkAction, ListAttemptsResponse},
};

use super::{
    bulk::{self, Which},
    create,
    failures::{self, FailuresArgs},
    ids::Ids,
    list::{self, FilterArgs, ListArgs},
    logs::{self, LogsArgs},
    show::{self, show},
    update,
    wait::{self, Wait},
    wait_all,
};
use crate::{
    dates,
    exit::Failure,
    output::{self, Format},
    watch::{self, WatchArgs},
};

/// Commands for tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskVerb {
    /// Create a task from flags, or many from a file.
    #[command(after_help = "Examples:\n  \
        rota task create --kind resize --payload '{\"image\": \"cat.png\"}'\n  \
        rota task create --command --wait -- sh -c 'echo hello'\n  \
        rota task create --http https://example.org --delay 30s\n  \
        rota task create --file tasks.jsonl")]
    Create(Box<create::CreateArgs>),
    /// List tasks, newest first.
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  \
        rota task list --status failed --since 1h\n  \
        rota task list --search 'connection timed out' --status failed"
    )]
    List {
        #[command(flatten)]
        filter: FilterArgs,
        #[command(flatten)]
        args: ListArgs,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Count the tasks that match a filter.
    Count {
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// List groups of failed tasks with the same kind and the same error, the most recent first.
    #[command(after_help = "Examples:\n  \
        rota task failures --since 1h\n  \
        rota task list --status failed --error-fingerprint 9c1e24c5f0d2a7b3\n  \
        rota task retry --error-fingerprint 9c1e24c5f0d2a7b3 --dry-run")]
    Failures(FailuresArgs),
    /// Show tasks: their status, why they are not running, and their attempts.
    #[command(after_help = "Examples:\n  \
        rota task get invoice-7\n  \
        rota task list --status failed --limit 1000 -o template='{{ id }}' | rota task get -")]
    Get {
        #[command(flatten)]
        ids: Ids,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Wait until tasks have ended, and print the output and result of each as it ends. Fails if a task did not
    /// complete.
    #[command(
        after_help = "Waits for all tasks at once. Ends with code 0 if all completed, 6 if a task ended in another \
        state, 124 if the time\nis over, and 1 if tasks failed with different codes.\n\n\
        Examples:\n  \
        rota task wait invoice-7 invoice-8 --timeout 10m\n  \
        rota task list --queue mail -o template='{{ id }}' | rota task wait -"
    )]
    Wait {
        #[command(flatten)]
        ids: Ids,
        /// Time to wait for all tasks before giving up, such as 30s [default: no limit].
        #[arg(long, value_name = "TIME")]
        timeout: Option<TimeSpan>,
    },
    /// Print the output of the last attempt, also while it runs.
    #[command(after_help = "Examples:\n  \
        rota task logs nightly-backup\n  \
        rota task logs -f nightly-backup\n  \
        rota task logs -f --tail 20 nightly-backup")]
    Logs(LogsArgs),
    /// Print the result that the handler returned.
    Result {
        /// Task id.
        #[arg(value_parser = Text::new(), add = crate::complete::tasks())]
        id: String,
    },
    /// List the attempts of a task.
    Attempts {
        /// Task id.
        #[arg(value_parser = Text::new(), add = crate::complete::tasks())]
        id: String,
    },
    /// Cancel tasks: those with these ids, or all that match a filter.
    #[command(after_help = BULK_HELP)]
    Cancel(Which),
    /// Run ended tasks again: those with these ids, or all that match a filter.
    #[command(after_help = BULK_HELP)]
    Retry(Which),
    /// Delete ended tasks: those with these ids, or all that match a filter.
    #[command(after_help = BULK_HELP)]
    Delete(Which),
    /// Change the earliest start time of a waiting task.
    Reschedule {
        /// Task id.
        #[arg(value_parser = Text::new(), add = crate::complete::tasks())]
        id: String,
        /// Delay from now before the task is due, such as 30s or 2h.
        #[arg(long, value_name = "TIME", required_unless_present = "run_at")]
        delay: Option<TimeSpan>,
        /// Earliest start time, such as 2026-01-31T12:00:00Z, "tomorrow 09:00" or "in 3h".
        #[arg(long, value_name = "DATE", conflicts_with = "delay", value_parser = dates::coming)]
        run_at: Option<Date>,
    },
    /// Change parts of a waiting task. Parts that you do not name stay unchanged.
    Update(Box<update::UpdateArgs>),
    /// Change the priority of a waiting task.
    Priority {
        /// Task id.
        #[arg(value_parser = Text::new(), add = crate::complete::tasks())]
        id: String,
        /// New priority, 0 to 9. Tasks with a higher priority run first.
        priority: u32,
    },
}

const BULK_HELP: &str = "\
With a filter, the command shows how many tasks it will change and asks first. In scripts, add --yes.
--dry-run shows the tasks and changes nothing. An id of - reads ids from standard input, one on each line.";

/// Runs the command.
pub(crate) async fn run(verb: TaskVerb, client: &Client, format: Format) -> Result<(), Failure> {
    match verb {
        TaskVerb::Create(args) => {
            let wait = args.wait;
            match create::run(*args, client, format).await? {
                Some(task) if wait => {
                    // Before the wait: the task goes on if the user interrupts the wait.
                    if format.is_data() {
                        output::json_note(&serde_json::json!({ "id": task.id }));
                    } else {
                        output::note(&task.id);
                    }
                    let wait = Wait { id: task.id, timeout: None, known: true };
                    wait::until_ended(client, wait, format).await
                }
                Some(task) if format.is_data() => output::data(&task, format),
                Some(task) => output::line(&task.id),
                None => Ok(()),
            }
        }
        TaskVerb::List { filter, args, watch } => {
            let filter = list::filter(&filter)?;
            let show = || list::list(client, filter.clone(), args, format);
            watch::shown(watch, client, list::changes(&filter), show).await
        }
        TaskVerb::Count { filter } => failures::count(client, list::filter(&filter)?, format).await,
        TaskVerb::Failures(args) => failures::list(client, args, format).await,
        TaskVerb::Get { ids, watch } => {
            let Ids { ids } = ids;
            if watch.watch && ids.iter().any(|id| id == "-") {
                return Err(Failure::usage("--watch cannot read ids from standard input"));
            }
            let changes = ids.iter().fold(EventFilter::new(), EventFilter::task);
            watch::shown(watch, client, changes, || show::get(client, ids.clone(), format)).await
        }
        TaskVerb::Wait { ids, timeout } => wait_all::run(client, ids, timeout, format).await,
        TaskVerb::Logs(args) => logs::run(args, client, format).await,
        TaskVerb::Result { id } => {
            let result = client.get_result(&id).await?;
            if result.is_empty() && !format.is_data() {
                output::note(&format!("{id} has no result"));
                return Ok(());
            }
            match format {
                _ if result.is_empty() => output::data(&serde_json::Value::Null, format),
                Format::Jsonl | Format::Yaml | Format::Template => {
                    output::data(&show::result(&result), format)
                }
                // Unchanged, because a program reads it. Most results are JSON.
                Format::Json | Format::Table | Format::Wide => output::result(&result),
            }
        }
        TaskVerb::Attempts { id } => {
            let attempts = client.list_attempts(&id).await?;
            if format.is_data() {
                output::list(&ListAttemptsResponse { attempts }, "attempts", format)
            } else {
                show::attempts(&attempts).print()
            }
        }
        TaskVerb::Cancel(which) => bulk::change(client, which, BulkAction::Cancel, format).await,
        TaskVerb::Retry(which) => bulk::change(client, which, BulkAction::Retry, format).await,
        TaskVerb::Delete(which) => bulk::change(client, which, BulkAction::Delete, format).await,
        TaskVerb::Reschedule { id, delay, run_at } => {
            let request = v1::RescheduleTaskRequest { id, run_at, delay };
            show(&client.reschedule_task(request).await?, format)
        }
        TaskVerb::Update(args) => show(&update::run(*args, client).await?, format),
        TaskVerb::Priority { id, priority } => {
            let request = v1::SetTaskPriorityRequest { id, priority };
            show(&client.set_task_priority(request).await?, format)
        }
    }
}
