//! `make demo`: a server and workers as processes of their own, real tasks on real documents, and
//! every outcome checked.
//!
//! The demo uses what any user can use: the `rota` binary, `rota-client` and `rota-worker`. A run is
//! `processes` (started), `work` on `documents` and the
//! `scenarios` beside it, and `show` (what came of it). It exits with 1 if anything is other than expected.

mod documents;
mod processes;
mod scenarios;
mod schedules;
mod show;
mod target;
mod work;

use std::{
    io::{self, IsTerminal},
    net::TcpListener,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use processes::{Place, Process};
use rota_client::{Client, v1::GetServerInfoRequest};
use rota_worker::{HandlerError, TaskContext, Worker};
use scenarios::Stage;
use show::{Progress, Row, table};
use work::work_through;

/// A worker that is silent for so long is taken for gone. Short, so that nobody waits for the demo;
/// the server's default is 10 s.
const SESSION_TTL: &str = "3s";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]
#[tokio::main]
async fn main() -> ExitCode {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| "/usr/share/doc".into());
    match run(Path::new(&directory)).await {
        Ok(rows) if rows.iter().all(|row| row.holds) => {
            println!("All {} outcomes are as expected.", rows.len());
            ExitCode::SUCCESS
        }
        Ok(rows) => {
            let wrong = rows.iter().filter(|row| !row.holds).count();
            println!("{wrong} of {} outcomes are NOT as expected.", rows.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("The demo cannot go on: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The whole demo. Whatever still runs when it is interrupted, or fails, is killed.
#[expect(clippy::print_stdout, reason = "a program for a terminal")]
async fn run(directory: &Path) -> Result<Vec<Row>> {
    let place = Place::find()?;
    let copies = place.home.join("copies");
    std::fs::create_dir(&copies)?;
    let documents = documents::find(directory, &copies)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    if documents.is_empty() {
        return Err(format!("there are no documents in {}", directory.display()).into());
    }
    let (url, mut server) = start_server(&place)?;
    let client = Client::connect([url.clone()])?;
    ready(&client, &mut server).await?;
    let rust = rust_worker(client.clone())?;
    let drain = rust.drain();
    let rust = tokio::spawn(rust.run());
    let stage = Stage::build(place.clone(), client, &url).await?;
    println!(
        "Server {url}; workers anna and bruno, processes of their own, and one in Rust. Logs: {}",
        place.home.display()
    );

    let progress = Progress::new(documents.len());
    let began = Instant::now();
    let work = async {
        tokio::join!(work_through(&stage, &documents, &progress), scenarios(&stage, &progress))
    };
    let (worked, mut rows) = tokio::select! {
        biased;
        both = work => both,
        _ = tokio::signal::ctrl_c() => return Err("interrupted".into()),
    };
    let took = began.elapsed();
    progress.finish();
    rows.splice(
        0..0,
        worked.unwrap_or_else(|error| {
            let words = server.last_words().unwrap_or_default();
            vec![Row::new("documents worked through", "all", format!("{error} {words}"), false)]
        }),
    );

    let show = |rows: &[Row]| println!("\n{}\nThis took {:.1} s.", table(rows), took.as_secs_f64());
    let stop = async {
        drain.start();
        rust.await??;
        Result::Ok(shut_down(stage.workers.into_inner(), server).await)
    };
    if is_kept() {
        show(&rows);
        println!("\nThe server and its workers still run. Look around:\n{}", hints(&place, &url));
        println!("Ctrl-C ends them.");
        tokio::signal::ctrl_c().await?;
        rows.push(stop.await?);
    } else {
        rows.push(stop.await?);
        show(&rows);
        println!("\nTo look around, `make demo KEEP=1`, and then:\n{}", hints(&place, &url));
    }
    Ok(rows)
}

/// On a terminal the reader may want to look around; elsewhere nobody is there to do so.
fn is_kept() -> bool {
    match std::env::var("KEEP").as_deref() {
        Ok("" | "0" | "no") => false,
        Ok(_) => true,
        Err(_) => io::stdin().is_terminal() && io::stdout().is_terminal(),
    }
}

fn hints(place: &Place, url: &str) -> String {
    let rota = place.rota.display();
    let server = if url.ends_with(":7420") { String::new() } else { format!(" --url {url}") };
    format!(
        "  {url}/ (dashboard)\n  {url}/docs (API)\n  {rota} task list --queue documents{server}\n  {rota} task get orphaned{server}\n  \
         {rota} schedule ticks greeting{server}\n  \
         {rota} queue list{server}"
    )
}

/// The usual port, unless somebody has it.
fn start_server(place: &Place) -> Result<(String, Process)> {
    let listener =
        TcpListener::bind("127.0.0.1:7420").or_else(|_| TcpListener::bind("127.0.0.1:0"));
    let address = listener?.local_addr()?.to_string();
    let arguments =
        ["server", "--listen", &address, "--store", "file:data", "--session-ttl", SESSION_TTL];
    Ok((format!("http://{address}"), place.start("server", &arguments)?))
}

/// A worker with handlers in Rust, in this process.
fn rust_worker(client: Client) -> Result<Worker> {
    let worker = Worker::builder(client)
        .name("rust")
        .handler("greet", |context: TaskContext, whom: Option<String>| async move {
            let whom = whom.unwrap_or_else(|| "world".to_owned());
            Ok::<_, HandlerError>(format!("hello {whom}, from {}", context.worker()))
        })
        .handler("stumble", |context: TaskContext, (): ()| async move {
            if context.attempt() < 3 {
                return Err(HandlerError::new(format!("attempt {}: not today", context.attempt())));
            }
            Ok("done")
        });
    Ok(worker.build()?)
}

/// Waits until the server serves.
async fn ready(client: &Client, server: &mut Process) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(words) = server.last_words() {
            return Err(words.into());
        }
        let info = client.get_server_info(GetServerInfoRequest {}).await;
        if info.is_ok_and(|info| info.ready) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("the server was not ready within 30 s".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// All that is played beside the documents.
async fn scenarios(stage: &Stage, progress: &Progress) -> Vec<Row> {
    use scenarios as play;
    let rows = tokio::join!(
        told(progress, "an HTTP request", play::hook(stage)),
        told(progress, "tasks that fail twice", play::stumbling(stage)),
        told(progress, "a task due later", play::delayed(stage)),
        told(progress, "a task that takes too long", play::too_slow(stage)),
        told(progress, "a task cancelled while it runs", play::cancelled(stage)),
        told(progress, "a program that no worker allows", play::forbidden(stage)),
        told(progress, "a task of a kind that nobody serves", play::unserved(stage)),
        told(progress, "a task sent twice", play::repeated(stage)),
        told(progress, "schedules", schedules::play(stage)),
    );
    let (hook, stumbling, delayed, slow, cancelled, forbidden, unserved, repeated, scheduled) =
        rows;
    // A killed worker takes an attempt from whatever it has: the others are to show theirs before.
    let killed = told(progress, "a task whose worker is killed", play::orphaned(stage)).await;
    [hook, stumbling, delayed, slow, cancelled, killed, forbidden, unserved, repeated, scheduled]
        .concat()
}

/// Plays a scenario, and says what came of it. One that comes to nothing is a row that does not hold.
async fn told(
    progress: &Progress,
    what: &str,
    scenario: impl Future<Output = scenarios::Outcome>,
) -> Vec<Row> {
    let rows = scenario
        .await
        .unwrap_or_else(|trouble| vec![Row::new(what, "an outcome", trouble.to_string(), false)]);
    for row in &rows {
        progress.say(&format!("{}: {}", row.what, row.observed));
    }
    rows
}

/// Ends all processes in order, workers first.
async fn shut_down(workers: Vec<Process>, server: Process) -> Row {
    let mut trouble = Vec::new();
    for process in workers.into_iter().chain([server]) {
        if let Err(error) = process.stop().await {
            trouble.push(error.to_string());
        }
    }
    let observed =
        if trouble.is_empty() { "all ended well".to_owned() } else { trouble.join("; ") };
    Row::same("workers and server told to stop", "all ended well", observed)
}
