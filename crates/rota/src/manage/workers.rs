//! `rota workers`.

use clap::{Subcommand, builder::NonEmptyStringValueParser as Text};
use rota_client::{
    Client, EventFilter,
    v1::{self, ListWorkersResponse, Worker},
};

use crate::{
    exit::Failure,
    output::{self, Column, Format, Table},
    watch::{self, WatchArgs},
};

/// Commands for workers.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkersVerb {
    /// List connected workers.
    #[command(visible_alias = "ls")]
    List(WatchArgs),
    /// Drain a worker: it takes no more tasks, finishes those that it runs, and exits.
    Drain {
        /// Name of the worker, or the id of one of its sessions.
        #[arg(value_parser = Text::new(), add = crate::complete::workers())]
        worker: String,
    },
}

/// Runs the command.
pub(crate) async fn run(verb: WorkersVerb, client: &Client, format: Format) -> Result<(), Failure> {
    match verb {
        WorkersVerb::List(watch) => {
            // Tasks change the slots in use.
            let changes = EventFilter::new().types(["worker", "task"]);
            let show = || async { print(client.all_workers().await?, format) };
            watch::shown(watch, client, changes, show).await
        }
        WorkersVerb::Drain { worker } => {
            let drained = client.drain_worker(v1::DrainWorkerRequest { worker }).await?;
            let workers = vec![drained];
            print(ListWorkersResponse { workers, as_of: None, next_page_token: None }, format)
        }
    }
}

fn print(workers: ListWorkersResponse, format: Format) -> Result<(), Failure> {
    if format.is_data() { output::list(&workers, "workers", format) } else { show(workers.workers) }
}

fn show(workers: Vec<Worker>) -> Result<(), Failure> {
    let mut table = Table::new([
        Column::new("WORKER").keep(),
        Column::new("SESSION").rank(5).middle(),
        Column::new("STATE").state(),
        Column::new("SLOTS"),
        Column::new("KINDS").rank(2).end(),
        Column::new("QUEUES").rank(3).end(),
        Column::new("CONNECTED").rank(4),
        Column::new("HEARD"),
    ]);
    let names = |names: &[String]| {
        if names.is_empty() { "all".to_owned() } else { names.join(",") }
    };
    for worker in workers {
        table.row([
            worker.name,
            worker.session,
            if worker.draining { "draining" } else { "active" }.to_owned(),
            format!("{}/{}", worker.slots_used, worker.slots),
            names(&worker.kinds),
            names(&worker.queues),
            output::when(worker.connected_at.unwrap_or_default()),
            format!("{} ago", output::coarse(worker.heartbeat_age.unwrap_or_default().duration())),
        ]);
    }
    table.print()
}
