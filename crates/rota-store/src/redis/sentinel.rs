//! Finding the master by its Sentinels.
//!
//! All of them are asked, and the answer with the highest `config-epoch` counts: that number grows with each failover, so a
//! Sentinel that is cut off from the others is outvoted by any that knows of a later failover.
//!
//! The two come from two questions. `SENTINEL MASTER` tells the number of a failover as soon as a replica is promoted, and
//! the address of the former master until all other replicas follow the new one. If the former master lives on, a node that
//! took that address for the new master's would write to it.

use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;

use super::{
    answer,
    connection::{self, within},
    fault::Fault,
    options::{RedisOptions, split_port},
};

/// How long one Sentinel has for its answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often a Sentinel is asked that changes its mind meanwhile.
const READS: usize = 3;

/// Where the master is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) endpoint: String,
    /// The `config-epoch` of the failover that made it the master; 0 without Sentinel.
    pub(super) term: u64,
}

/// The master of that name, as the Sentinels have it.
pub(super) async fn find(
    options: &RedisOptions,
    sentinels: &[String],
    master: &str,
) -> Result<Place, Fault> {
    let asked = sentinels.iter().map(async |sentinel| {
        let answer = within(PATIENCE, ask(options, sentinel, master)).await;
        answer
            .unwrap_or(Err(Fault::Silent(PATIENCE)))
            .map_err(|fault| format!("Sentinel at {sentinel}: {}", fault.reason()))
    });
    let mut best: Option<Place> = None;
    let mut reasons = Vec::new();
    for answer in join_all(asked).await {
        match answer {
            Ok(place) if best.as_ref().is_none_or(|best| best.term < place.term) => {
                best = Some(place);
            }
            Ok(_) => {}
            Err(reason) => reasons.push(reason),
        }
    }
    best.ok_or_else(|| Fault::Refused(reasons.join("; ")))
}

async fn ask(options: &RedisOptions, sentinel: &str, master: &str) -> Result<Place, Fault> {
    let user = options.sentinel_user.as_ref();
    let mut connection = connection::dial(options, sentinel, user, 0).await?;
    let missing = || Fault::Refused(format!("it does not tell where `{master}` is"));
    let mut term = term_of(&mut connection, master).await?.ok_or_else(missing)?;
    for _ in 0..READS {
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let [ip, port] = answer::exactly(question.query_async(&mut connection).await?)?;
        let (ip, port) = (answer::text(ip)?, answer::text(port)?);
        let now = term_of(&mut connection, master).await?.ok_or_else(missing)?;
        if now == term {
            let host = if ip.contains(':') { format!("[{ip}]") } else { ip };
            let endpoint = format!("{host}:{port}");
            split_port(&endpoint).ok_or_else(missing)?;
            return Ok(Place { endpoint, term });
        }
        term = now;
    }
    Err(Fault::Refused("failovers follow one another".to_owned()))
}

/// The number of the failover that made the master of that name, if the Sentinel tells it.
async fn term_of(
    connection: &mut MultiplexedConnection,
    master: &str,
) -> Result<Option<u64>, Fault> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("MASTER").arg(master);
    let told = answer::pairs(question.query_async(connection).await?)?;
    let found = told.into_iter().find(|(name, _)| name == "config-epoch");
    found.map(|(_, term)| answer::number(term)).transpose()
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::redis::RedisServers;

    /// A Sentinel after it has promoted a replica, before the other replicas follow that.
    async fn promoting(stream: TcpStream) {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut next = async || lines.next_line().await.ok().flatten();
        while let Some(count) = next().await {
            let mut words = Vec::new();
            for _ in 0..count[1..].parse::<usize>().expect("a command") {
                next().await;
                words.push(next().await.expect("a word").to_ascii_uppercase());
            }
            let answer = match words.get(1).map(String::as_str) {
                Some("MASTER") => {
                    "*6\r\n+ip\r\n+127.0.0.1\r\n+port\r\n+1\r\n+config-epoch\r\n+7\r\n"
                }
                Some("GET-MASTER-ADDR-BY-NAME") => "*2\r\n+127.0.0.2\r\n+2\r\n",
                _ => "+OK\r\n",
            };
            write.write_all(answer.as_bytes()).await.expect("it listens");
        }
    }

    #[tokio::test]
    async fn a_promoted_replica_is_the_master_before_the_other_replicas_follow_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let sentinel = listener.local_addr().expect("an address").to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(promoting(stream));
            }
        });
        let options = RedisOptions::new(RedisServers::Single("127.0.0.1:1".to_owned()));
        let place = find(&options, &[sentinel], "rota").await.expect("an answer");
        assert_eq!(place, Place { endpoint: "127.0.0.2:2".to_owned(), term: 7 });
    }
}
