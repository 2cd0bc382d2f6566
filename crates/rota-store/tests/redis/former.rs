//! A former master that stood still while Sentinel made another server the master, and has not heard of that yet.

use std::sync::Arc;

use rota_store::redis::{RedisOptions, RedisServers};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    node::{Node, within},
    server::Redis,
};

/// The failovers that made the two servers the master.
const TERMS: [u64; 2] = [1, 2];

/// Answers as a Sentinel does. The failover happens as soon as somebody has taken the seat on the first server.
async fn serve(stream: TcpStream, servers: Arc<[Redis; 2]>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut next = async || lines.next_line().await.ok().flatten();
    while let Some(count) = next().await {
        let mut words = Vec::new();
        for _ in 0..count[1..].parse::<usize>().expect("a command") {
            next().await;
            words.push(next().await.expect("a word").to_ascii_uppercase());
        }
        let now = usize::from(servers[0].cli(&["EXISTS", "{rota}:leader"]) == "1");
        let answer = match words.get(1).map(String::as_str) {
            Some("MASTER") => format!("*2\r\n+config-epoch\r\n+{}\r\n", TERMS[now]),
            Some("GET-MASTER-ADDR-BY-NAME") => {
                format!("*2\r\n+127.0.0.1\r\n+{}\r\n", servers[now].port())
            }
            _ => "+OK\r\n".to_owned(),
        };
        write.write_all(answer.as_bytes()).await.expect("it listens");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_the_seat_of_a_former_master_does_not_lead_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sentinels = vec![listener.local_addr().unwrap().to_string()];
    let servers = Arc::new([Redis::start(), Redis::start()]);
    let answering = tokio::spawn({
        let servers = servers.clone();
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, servers.clone()));
            }
        }
    });
    let options =
        RedisOptions::new(RedisServers::Sentinel { sentinels, master: "rota".to_owned() });
    let node = Node::new("a", options);
    let leading = node.lead().await;
    assert_eq!(servers[0].cli(&["EXISTS", "{rota}:leader"]), "1", "it was not tried there");
    assert_eq!(leading.fence().epoch.0 >> 32, TERMS[1], "it leads on the former master");
    node.put(leading.fence(), leading.seq_floor(), "1").await.unwrap();
    assert_eq!(servers[1].cli(&["HGET", "{rota}:s:hot", "a"]), "1");
    within(leading.resign(None)).await;
    answering.abort();
}
