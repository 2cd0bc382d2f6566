//! `rota bench`: measures a server over its public API, with real workers.
//!
//! Without `--url` it starts a server as a child process, on a free port, with data in a temporary directory
//! and every commit on disk. Each measurement fails unless every task completed exactly once.

mod backlog;
mod child;
mod latency;
mod ledger;
mod schedules;
mod throughput;
mod ticks_seen;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use hdrhistogram::Histogram;
use rota_client::Client;
use rota_proto::TimeSpan;
use serde::Serialize;
use serde_json::{Value, json};

use child::{Child, Usage};

use crate::{
    exit::Failure,
    output::{self, Column, Format},
};

/// Measurements.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchVerb {
    /// Measure tasks per second, from submission to completion.
    Throughput {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        load: throughput::Load,
    },
    /// Measure the latency from submission to the start of the handler, at a fixed rate (open loop).
    Latency {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        load: latency::Load,
    },
    /// Measure the lateness of delayed tasks, with a backlog.
    Delay {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        load: backlog::DelayLoad,
    },
    /// Measure the time from the restart of a killed server with a backlog to its first task.
    Restart {
        #[command(flatten)]
        target: Target,
        /// Number of tasks in the backlog, all due tomorrow.
        #[arg(long, default_value_t = 1_000_000)]
        backlog: u64,
    },
    /// Measure the lateness of ticks, from when they are due to the start of the handler, with many schedules.
    Schedules {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        load: schedules::ScheduleLoad,
    },
    /// Run all measurements of tasks.
    All {
        #[command(flatten)]
        target: Target,
    },
}

/// The server to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// URL of a running server, or of several nodes [default: start a server].
    #[arg(long, value_delimiter = ',')]
    url: Vec<String>,
    /// Data directory of the server that it starts [default: a temporary directory].
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
}

/// The server that is measured.
pub(crate) struct Subject {
    /// URLs of the nodes.
    nodes: Vec<String>,
    client: Client,
    child: Option<Child>,
}

impl Subject {
    async fn start(target: &Target) -> Result<Self, Failure> {
        let (nodes, child) = if target.url.is_empty() {
            let child = Child::start(target.data.clone()).await?;
            (vec![child.url().to_owned()], Some(child))
        } else {
            (target.url.clone(), None)
        };
        let client =
            Client::builder(nodes.clone()).request_timeout(Duration::from_secs(60)).build()?;
        Ok(Self { nodes, client, child })
    }

    /// Memory and CPU time of the server, if the benchmark started it.
    fn resources(&self) -> Option<Usage> {
        self.child.as_ref().and_then(Child::usage)
    }

    /// The same, to show it.
    fn usage(&self) -> Value {
        self.resources().map_or(Value::Null, |usage| json!(usage))
    }
}

/// Quantiles of a latency, in milliseconds.
#[derive(Debug, Serialize)]
struct Quantiles {
    count: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

/// Makes them from values in microseconds.
#[expect(clippy::cast_precision_loss, reason = "microseconds of hours fit 52 bits")]
fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    Quantiles {
        count: histogram.len(),
        p50_ms: at(0.5),
        p90_ms: at(0.9),
        p99_ms: at(0.99),
        p999_ms: at(0.999),
        max_ms: histogram.max() as f64 / 1000.0,
    }
}

fn histogram() -> Histogram<u64> {
    // A microsecond to an hour, in three digits.
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are sound")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Runs the command and prints the result.
pub(crate) async fn run(verb: BenchVerb, format: Format) -> Result<(), Failure> {
    let found = match verb {
        BenchVerb::Throughput { target, load } => {
            throughput::run(&Subject::start(&target).await?, &load).await?
        }
        BenchVerb::Latency { target, load } => {
            latency::run(&Subject::start(&target).await?, &load).await?
        }
        BenchVerb::Delay { target, load } => {
            backlog::delay(&Subject::start(&target).await?, &load).await?
        }
        BenchVerb::Restart { target, backlog } => {
            backlog::restart(Subject::start(&target).await?, backlog).await?
        }
        BenchVerb::Schedules { target, load } => {
            schedules::run(&mut Subject::start(&target).await?, &load).await?
        }
        BenchVerb::All { target } => {
            let load = throughput::Load::default();
            let throughput = throughput::run(&Subject::start(&target).await?, &load).await?;
            let load = latency::Load::default();
            let latency = latency::run(&Subject::start(&target).await?, &load).await?;
            let load = backlog::DelayLoad::default();
            let delay = backlog::delay(&Subject::start(&target).await?, &load).await?;
            let restart = backlog::restart(Subject::start(&target).await?, load.backlog).await?;
            json!({ "throughput": throughput, "latency": latency, "delay": delay, "restart": restart })
        }
    };
    if format.is_data() {
        output::data(&found, format)
    } else {
        let mut table = output::Table::new([Column::new("MEASURE").keep(), Column::new("VALUE")]);
        flatten("", &found, &mut table);
        table.print()
    }
}

fn flatten(prefix: &str, value: &Value, table: &mut output::Table) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name =
                    if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&name, value, table);
            }
        }
        Value::Null => {}
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            table.row([prefix.to_owned(), format!("{number:.3}")]);
        }
        other => table.row([prefix.to_owned(), other.to_string()]),
    }
}

/// Parses a duration.
fn span(text: &str) -> Result<Duration, String> {
    text.parse::<TimeSpan>().map(TimeSpan::duration).map_err(|error| error.to_string())
}
