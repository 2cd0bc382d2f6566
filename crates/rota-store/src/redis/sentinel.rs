//! Finding the master by its Sentinels.
//!
//! All of them are asked, and the answer with the highest `config-epoch` counts: that number grows with each failover, so a
//! Sentinel that is cut off from the others is outvoted by any that knows of a later failover.

use std::time::Duration;

use futures_util::future::join_all;

use super::{
    answer,
    connection::{self, within},
    fault::Fault,
    options::{RedisOptions, split_port},
};

/// How long one Sentinel has for its answer.
const PATIENCE: Duration = Duration::from_secs(1);

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
    let mut question = redis::cmd("SENTINEL");
    question.arg("MASTER").arg(master);
    let told = answer::pairs(question.query_async(&mut connection).await?)?;
    let field = |wanted: &str| {
        let found = told.iter().find(|(name, _)| name == wanted);
        found.and_then(|(_, value)| answer::text(value.clone()).ok())
    };
    let missing = || Fault::Refused(format!("it does not tell where `{master}` is"));
    let (ip, port) = (field("ip").ok_or_else(missing)?, field("port").ok_or_else(missing)?);
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip };
    let endpoint = format!("{host}:{port}");
    split_port(&endpoint).ok_or_else(missing)?;
    let term = field("config-epoch").and_then(|term| term.parse().ok()).ok_or_else(missing)?;
    Ok(Place { endpoint, term })
}
