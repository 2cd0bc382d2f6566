//! `rota queue`.

use clap::{Subcommand, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client,
    v1::{self, Queue},
};

use crate::{
    exit::{Exit, Failure},
    output::{self, Format, Table},
};

/// Commands for queues.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueVerb {
    /// List all queues.
    #[command(visible_alias = "ls")]
    List,
    /// Show one queue.
    Get {
        /// Queue name.
        #[arg(value_parser = Text::new())]
        queue: String,
    },
    /// Stop starting tasks of a queue. Running tasks continue.
    Pause {
        /// Queue name.
        #[arg(value_parser = Text::new())]
        queue: String,
    },
    /// Start tasks of a paused queue again.
    Resume {
        /// Queue name.
        #[arg(value_parser = Text::new())]
        queue: String,
    },
}

/// Runs the command.
pub(crate) async fn run(verb: QueueVerb, client: &Client, format: Format) -> Result<(), Failure> {
    let one: Queue = match verb {
        QueueVerb::List => {
            let list = client.all_queues().await?;
            return if format == Format::Json { output::json(&list) } else { show(list.queues) };
        }
        QueueVerb::Get { queue } => {
            let found = client.all_queues().await?.queues.into_iter().find(|one| one.name == queue);
            found.ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("no such queue: {queue}"))
                    .hint("see `rota queue list`")
            })?
        }
        QueueVerb::Pause { queue } => client.pause_queue(v1::QueueRequest { queue }).await?,
        QueueVerb::Resume { queue } => client.resume_queue(v1::QueueRequest { queue }).await?,
    };
    if format == Format::Json { output::json(&one) } else { show(vec![one]) }
}

fn show(queues: Vec<Queue>) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "QUEUE",
        "STATE",
        "SCHEDULED",
        "PENDING",
        "RUNNING",
        "OLDEST",
        "COMPLETED",
        "FAILED",
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
