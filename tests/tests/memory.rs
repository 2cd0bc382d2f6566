//! The memory of a node as a whole process: clients offer far more at once than `docs/configuration.md`
//! says that it may hold.

use std::{fs, sync::Arc};

use rota_tests::process::{LOOK, PATIENCE, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

const MIB: usize = 1 << 20;
const BODIES: usize = 32 * MIB;
const ANSWERS: usize = 32 * MIB;
const STORE_CACHE: usize = 16 * MIB;
const STORE_TABLES: usize = 128 * MIB;
const PAYLOAD: usize = MIB;
/// Answers that may be made at once without having found room yet, by `docs/configuration.md`.
const ANSWERS_BEING_MADE: usize = 32;
/// What a connection of HTTP/1 may take.
const CONNECTION: usize = 128 << 10;
/// Clients that send three payloads at once, and clients that ask for one and do not read it.
const WRITERS: usize = 300;
const READERS: usize = 300;

/// What the process may take beyond what it takes at rest, by the table in `docs/configuration.md`: bodies,
/// answers, connections and the store; the other parts have nothing to do here.
const BOUND: usize = 3 * BODIES
    + 2 * ANSWERS
    + ANSWERS_BEING_MADE * PAYLOAD
    + (WRITERS + READERS) * CONNECTION
    + STORE_CACHE
    + STORE_TABLES;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_takes_no_more_than_its_documentation_says() {
    let options = [
        format!("--limits-bodies-in-flight-bytes={BODIES}"),
        format!("--limits-answers-in-flight-bytes={ANSWERS}"),
        format!("--limits-request-bytes={}", 4 * MIB),
        format!("--store-embedded-cache-bytes={STORE_CACHE}"),
        format!("--payload-cache-bytes={MIB}"),
    ];
    let server = Server::start(&options.each_ref().map(String::as_str)).await;
    server.ready().await;
    let batch = Arc::new(batch(3));
    assert_eq!(post(&server, &batch).await, 200, "a first batch");
    let at_rest = resident(&server);

    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(ask_without_reading(address(&server)));
    }
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (address, batch) = (address(&server), batch.clone());
        writers.spawn(async move { send(&address, &batch).await });
    }
    let mut peak = 0;
    let mut look = tokio::time::interval(LOOK);
    let offered = async {
        let mut answers = [0; 2];
        loop {
            tokio::select! {
                biased;
                answer = writers.join_next() => match answer {
                    Some(answer) => answers[usize::from(answer.expect("a writer") == 200)] += 1,
                    None => return answers,
                },
                _ = look.tick() => peak = peak.max(resident(&server)),
            }
        }
    };
    let [refused, accepted] = timeout(PATIENCE * 3, offered).await.expect("all are answered");
    let grown = peak.saturating_sub(at_rest);
    println!(
        "{accepted} batches accepted, {refused} refused; {} MiB at rest, {} MiB more at most, bound {} MiB",
        at_rest / MIB,
        grown / MIB,
        BOUND / MIB
    );
    // The allocator gives back what was freed later, and not all of it.
    assert!(accepted > 0 && grown < BOUND / 4 * 5, "{} MiB", grown / MIB);
    readers.shutdown().await;
    // Who comes afterwards finds room again.
    let mut look = tokio::time::interval(LOOK);
    let served = async {
        while post(&server, &batch).await != 200 {
            look.tick().await;
        }
    };
    timeout(PATIENCE, served).await.expect("there is room again");
    assert!(server.stop().await.success());
}

fn address(server: &Server) -> String {
    server.url().trim_start_matches("http://").to_owned()
}

/// A request that creates so many tasks, each with the largest payload; the first has an id.
fn batch(tasks: usize) -> Vec<u8> {
    let payload = "x".repeat(PAYLOAD - 2);
    let task = |at: usize| {
        let id = if at == 0 { r#""id":"large","# } else { "" };
        format!(r#"{{{id}"kind":"nobody","payload":"{payload}"}}"#)
    };
    let tasks: Vec<_> = (0..tasks).map(task).collect();
    let body = format!(r#"{{"tasks":[{}]}}"#, tasks.join(","));
    let head = format!(
        "POST /v1/tasks/batch HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

async fn post(server: &Server, request: &[u8]) -> u16 {
    send(&address(server), request).await
}

/// Sends a request; the status of the answer, 0 for none.
async fn send(address: &str, request: &[u8]) -> u16 {
    let Ok(mut stream) = TcpStream::connect(address).await else { return 0 };
    let (mut read, mut write) = stream.split();
    // Refused while it is being sent, it may be answered before its end.
    let (_, answer) = tokio::join!(write.write_all(request), async {
        let mut head = [0; 12];
        read.read_exact(&mut head).await.ok()?;
        std::str::from_utf8(&head[9..]).ok()?.parse().ok()
    });
    answer.unwrap_or(0)
}

/// Asks for the large task, and never reads what comes.
async fn ask_without_reading(address: String) {
    let request = "GET /v1/tasks/large HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let _ = stream.write_all(request.as_bytes()).await;
    std::future::pending::<()>().await;
}

/// Resident memory of the server's process that is not backed by files.
fn resident(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches("kB").trim().parse::<usize>().expect("a number") * 1024
}
