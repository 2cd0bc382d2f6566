//! The reference page, made from the catalogue.

use std::fmt::Write;

use crate::catalogue::{ALL, Metric, Shape, ShownBy};

const HEAD: &str = "\
# Metrics

<!-- Made by `cargo run -p rota-metrics --example reference`. Do not edit. -->

Nodes show metrics at `/metrics`, on the port of the API; workers do where `--metrics-listen` says so.
The format is OpenMetrics text, or protobuf with native histograms for a Prometheus that asks for it (rules and
dashboards want the classic ones kept beside them: see [monitoring](../monitoring.md)).
How to scrape, alert on and draw them is in [`deploy/prometheus`](../../deploy/prometheus) and
[`deploy/grafana`](../../deploy/grafana).

- **Totals of tasks are exact.** They are written to the store in the same batch as the tasks, so no
  crash and no change of leader loses or repeats one. The leader alone shows them: take `max` over nodes
  (`max by (queue, kind) (rota_tasks_completed_total)`) for the total, and `rate` of that, recorded, for the
  speed. A sum of rates would count twice what happened while another node led.
- **Labels are bounded.** The first `metrics_names` queues and kinds (200) stand for themselves, all
  others are `other`; so are workers beyond as many.
- Everything else counts since its process began.
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
