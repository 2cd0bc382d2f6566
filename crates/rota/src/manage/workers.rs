//! `rota workers`.

use clap::{Subcommand, builder::NonEmptyStringValueParser as Text};
use rota_client::{Client, v1};
use rota_proto::json::{Worker, WorkerList};

use crate::{
    exit::Failure,
    output::{self, Format, Table},
};

/// What can be done with workers.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkersVerb {
    /// List connected workers.
    #[command(visible_alias = "ls")]
    List,
    /// Ask a worker to take no more tasks, finish what it runs and end.
    Drain {
        /// Its name, or one session of it.
        #[arg(value_parser = Text::new())]
        worker: String,
    },
}

/// Runs the verb.
pub(crate) async fn run(verb: WorkersVerb, client: &Client, format: Format) -> Result<(), Failure> {
    let workers = match verb {
        WorkersVerb::List => {
            let list = client.all_workers().await?;
            WorkerList::from(list)
        }
        WorkersVerb::Drain { worker } => {
            let drained = client.drain_worker(v1::DrainWorkerRequest { worker }).await?;
            WorkerList { workers: vec![drained.into()], as_of: None, next_cursor: None }
        }
    };
    if format == Format::Json { output::json(&workers) } else { show(workers.workers) }
}

fn show(workers: Vec<Worker>) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "WORKER",
        "SESSION",
        "STATE",
        "SLOTS",
        "KINDS",
        "QUEUES",
        "CONNECTED",
        "HEARD",
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
            output::relative(worker.connected_at),
            format!("{} ago", output::coarse(worker.heartbeat_age.0)),
        ]);
    }
    table.print()
}
