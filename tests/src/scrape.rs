//! What a node shows at `/metrics`.

use std::collections::{BTreeMap, BTreeSet};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    audit::{Record, Verdict},
    process::PATIENCE,
};

/// The value of each series, by its name and labels as they are written.
pub type Series = BTreeMap<String, f64>;

/// Reads the metrics of the process at `url`, such as `http://127.0.0.1:7420`.
///
/// # Panics
/// When it does not answer, or with something else.
pub async fn scrape(url: &str) -> Series {
    let address = url.strip_prefix("http://").expect("an address");
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET /metrics HTTP/1.0\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(PATIENCE, asked).await.expect("in time").expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.split(' ').nth(1) == Some("200"), "{head}");
    assert!(body.ends_with("# EOF\n"), "it is cut off");
    let lines = body.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    series.collect()
}

/// The sum of a metric over all its labels; 0 where it is not shown.
#[must_use]
pub fn sum(series: &Series, metric: &str) -> f64 {
    let of = |name: &str| name.split('{').next() == Some(metric);
    series.iter().filter(|(name, _)| of(name)).map(|(_, value)| value).sum()
}

/// The values that a label has in the series of metrics whose names begin so.
#[must_use]
pub fn values(series: &Series, metrics: &str, label: &str) -> BTreeSet<String> {
    let begin = format!("{label}=\"");
    let value = |name: &str| {
        let (_, rest) = name.strip_prefix(metrics)?.split_once(&begin)?;
        rest.split('"').next().map(str::to_owned)
    };
    series.keys().filter_map(|name| value(name)).collect()
}

/// Holds the totals that a leader shows against what was judged from outside: exactly, after whatever
/// happened to servers and workers.
///
/// # Panics
/// When one of them is another number.
pub fn hold_totals(series: &Series, verdict: &Verdict, records: &[Record]) {
    let attempts = records.iter().map(|record| record.attempts.len()).sum();
    for (metric, count) in [
        ("rota_tasks_submitted_total", verdict.tasks),
        ("rota_tasks_started_total", attempts),
        ("rota_tasks_lost_total", verdict.lost),
        ("rota_tasks_completed_total", verdict.tasks),
        ("rota_tasks_failed_total", 0),
        ("rota_tasks_cancelled_total", 0),
        ("rota_tasks_expired_total", 0),
    ] {
        let count = f64::from(u32::try_from(count).expect("a number of tasks"));
        let shown = sum(series, metric);
        // Whole numbers of this size have no rounding.
        assert!((shown - count).abs() < f64::EPSILON, "{metric} is {shown}, and {count} happened");
    }
}
