//! A scrape of a node with many pending tasks, in many queues, as Prometheus asks for it.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use rota_client::{Client, task, v1};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::{BenchResult, quantile, say};

const READY_WITHIN: Duration = Duration::from_secs(60);
/// Tasks in one request.
const BATCH: u32 = 1000;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// What Prometheus accepts: with native histograms, and text.
const FORMATS: [(&str, &str); 2] = [
    (
        "protobuf",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ),
    ("text", "application/openmetrics-text;version=1.0.0"),
];

/// Fills a server of its own and scrapes it.
#[tokio::main]
pub(crate) async fn run(rota: &str, tasks: u32, queues: u32, scrapes: u32) -> BenchResult<()> {
    let directory = tempfile::tempdir_in(".")?;
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.to_string();
    let store = format!("file:{}", directory.path().join("data").display());
    // Ends with this value.
    let _server: Child = Command::new(rota)
        .args(["server", "--log", "warn", "--listen", &address, "--store", &store])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let client = Client::builder([format!("http://{address}")]).patience(READY_WITHIN).build()?;
    let ready = async {
        while !client.get_server_info(v1::GetServerInfoRequest {}).await?.ready {
            sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, rota_client::ClientError>(())
    };
    timeout(READY_WITHIN, ready).await??;
    fill(&client, tasks, queues).await?;
    for (name, accept) in FORMATS {
        let mut took = Vec::new();
        let mut bytes = 0;
        for _ in 0..scrapes {
            let began = Instant::now();
            bytes = scrape(&address, accept).await?;
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        let [p50, p99, most] = [50, 99, 100].map(|percent| quantile(&took, percent));
        say(&format!(
            "{tasks} tasks in {queues} queues, {scrapes} scrapes as {name}: p50 {p50:.1} ms, p99 \
             {p99:.1} ms, longest {most:.1} ms; {bytes} bytes"
        ));
    }
    Ok(())
}

/// Half of them are for tomorrow, half wait for a worker.
async fn fill(client: &Client, tasks: u32, queues: u32) -> BenchResult<()> {
    let numbers: Vec<u32> = (0..tasks).collect();
    for numbers in numbers.chunks(BATCH as usize) {
        let new = |number: &u32| {
            let new = task("bench-scrape").queue(format!("queue-{}", number % queues.max(1)));
            if number.is_multiple_of(2) { new.delay(DAY) } else { new }
        };
        for result in client.create_tasks(numbers.iter().map(new).collect()).await? {
            result?;
        }
    }
    Ok(())
}

/// Asks once, on a connection of its own. The size of the answer.
async fn scrape(address: &str, accept: &str) -> BenchResult<usize> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(&answer).into_owned().into());
    }
    Ok(answer.len())
}
