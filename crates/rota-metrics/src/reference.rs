//! Generates the reference page from the catalogue.

use std::fmt::Write;

use crate::catalogue::{ALL, Metric, Shape, ShownBy};

const HEAD: &str = "\
# Metrics

<!-- Made by `cargo run -p rota-metrics --example reference`. Do not edit. -->

Nodes show metrics at `/metrics` on the port of the API. Workers show metrics at the address of `--metrics-listen`.
The format is OpenMetrics text, or protobuf with native histograms if Prometheus asks for it. Rules and dashboards need
the classic histograms as well; see [monitoring](../monitoring.md#native-histograms). Scrape configurations and alerts are
in [`deploy/prometheus`](../../deploy/prometheus), dashboards in [`deploy/grafana`](../../deploy/grafana).

- **Totals of tasks are exact.** Rota writes them to the store in the same batch as the tasks, so a crash or a change of
  leader loses and repeats nothing. Only the leader shows them. The total is `max` over the nodes
  (`max by (queue, kind) (rota_tasks_completed_total)`). For a rate, record this `max` and apply `rate` to it. A sum of
  rates over the nodes would count twice what happened while another node led.
- **Labels are bounded.** The first `metrics_names` queues and kinds (default 200) have their own label values. All
  others are `other`. The same limit applies to workers and to schedules with a problem. Schedules without a problem
  have no series of their own.
- All other metrics count since the start of their process.
";

const PARTS: [(ShownBy, &str); 4] = [
    (ShownBy::Leader, "Shown by the leader"),
    (ShownBy::Node, "Shown by every node"),
    (ShownBy::Worker, "Shown by workers"),
    (ShownBy::Process, "Shown by nodes and workers"),
];

/// The page, in Markdown.
#[must_use]
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for (shown_by, title) in PARTS {
        let _ = write!(
            page,
            "\n## {title}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n"
        );
        for metric in ALL.iter().filter(|metric| metric.shown_by == shown_by) {
            let _ = writeln!(page, "{}", row(metric));
        }
    }
    page
}

fn row(metric: &Metric) -> String {
    let shape = match metric.shape {
        Shape::Counter => "counter",
        Shape::Gauge => "gauge",
        Shape::Histogram(_) => "histogram",
    };
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {shape} | {} | {} |", metric.name, labels.join(", "), metric.help)
}
