//! `rota queue`.

use clap::{Subcommand, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, EventFilter,
    v1::{self, Queue},
};

use crate::{
    author::AuthorArgs,
    exit::{Exit, Failure},
    output::{self, Column, Format, Table},
    watch::{self, WatchArgs},
};

/// Commands for queues.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueVerb {
    /// List all queues.
    #[command(visible_alias = "ls")]
    List(WatchArgs),
    /// Show one queue.
    Get {
        /// Queue name.
        #[arg(value_parser = Text::new(), add = crate::complete::queues())]
        queue: String,
    },
    /// Stop starting tasks of a queue. Running tasks continue.
    Pause {
        /// Queue name.
        #[arg(value_parser = Text::new(), add = crate::complete::queues())]
        queue: String,
        #[command(flatten)]
        author: AuthorArgs,
    },
    /// Start tasks of a paused queue again.
    Resume {
        /// Queue name.
        #[arg(value_parser = Text::new(), add = crate::complete::queues())]
        queue: String,
    },
}

/// Runs the command.
pub(crate) async fn run(verb: QueueVerb, client: &Client, format: Format) -> Result<(), Failure> {
    let one: Queue = match verb {
        QueueVerb::List(watch) => {
            let changes = EventFilter::new().types(["task", "queue"]);
            return watch::shown(watch, client, changes, || list(client, format)).await;
        }
        QueueVerb::Get { queue } => {
            let found = client.all_queues().await?.queues.into_iter().find(|one| one.name == queue);
            found.ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("no such queue: {queue}"))
                    .hint("see `rota queue list`")
            })?
        }
        QueueVerb::Pause { queue, author } => {
            let (note, by) = author.note_and_author();
            let request = v1::PauseQueueRequest { queue, note, by };
            let paused = client.pause_queue(request).await?;
            if is_unused(&paused) {
                let name = &paused.name;
                output::note(&format!(
                    "note: the queue {name} has had no task yet; if the name is wrong, use `rota queue resume {name}`"
                ));
            }
            paused
        }
        QueueVerb::Resume { queue } => client.resume_queue(v1::QueueRequest { queue }).await?,
    };
    if format.is_data() { output::data(&one, format) } else { show(vec![one]) }
}

async fn list(client: &Client, format: Format) -> Result<(), Failure> {
    let list = client.all_queues().await?;
    if format.is_data() { output::list(&list, "queues", format) } else { show(list.queues) }
}

/// Whether no task is known to have been in the queue, so that its name can be a mistake.
fn is_unused(queue: &Queue) -> bool {
    queue.scheduled + queue.pending + queue.running == 0
        && queue.completed_total + queue.failed_total == 0
}

fn show(queues: Vec<Queue>) -> Result<(), Failure> {
    let mut table = Table::new([
        Column::new("QUEUE").keep(),
        Column::new("STATE").state(),
        Column::new("SCHEDULED").rank(3),
        Column::new("PENDING"),
        Column::new("RUNNING"),
        Column::new("OLDEST").rank(2),
        Column::new("COMPLETED").rank(4),
        Column::new("FAILED").rank(2),
    ]);
    for queue in queues {
        let oldest = queue.oldest_pending_age.map(|age| output::coarse(age.duration()));
        table.row([
            queue.name,
            if queue.paused { "paused" } else { "active" }.to_owned(),
            queue.scheduled.to_string(),
            queue.pending.to_string(),
            queue.running.to_string(),
            oldest.unwrap_or_else(|| "-".to_owned()),
            queue.completed_total.to_string(),
            queue.failed_total.to_string(),
        ]);
    }
    table.print()
}
