//! Maintenance of etcd by the leader: compaction of old revisions, which would fill it.
//!
//! Revisions are compacted up to a commit of the age in the options. Only commits are used as compaction
//! points, so the last commit always stays readable, however old it is. When the database gets full, history
//! is kept only for seconds.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Shared,
    fault::Fault,
    link::{Client, Effect, Link},
    read,
    wire::CompactionRequest,
};

/// Age of kept revisions under pressure, for followers that lag or read a snapshot.
const HISTORY_MIN: Duration = Duration::from_secs(15);

/// Maximum interval between compactions.
const STEP_MAX: Duration = Duration::from_secs(5);

/// Pressure begins at one part of the quota in this many.
const PRESSURE: u64 = 2;

pub(super) enum Never {}

/// Compacts at intervals. Cancel safe.
pub(super) async fn run(shared: &Arc<Shared>) -> Never {
    let mut commits = Commits::default();
    // Not the link for small requests, because compaction can take long.
    let link = Link::new("upkeep", &shared.options, &shared.members);
    let step = (shared.options.history / 20).clamp(Duration::from_millis(100), STEP_MAX);
    let mut warned = false;
    loop {
        sleep(step).await;
        match compact(shared, &link, &mut commits).await {
            Ok(()) => {}
            // From 3.4.42, 3.5.28 and 3.6.9 on, etcd lets only the role root compact.
            Err(Fault::Forbidden(why)) if !warned => {
                warned = true;
                tracing::warn!(
                    %why,
                    "etcd does not let its user compact the history, which fills it; start etcd with \
                     --auto-compaction-retention=10m, or grant the user the role root"
                );
            }
            Err(fault) => tracing::debug!(reason = fault.reason(), "cannot compact etcd"),
        }
    }
}

async fn compact(shared: &Arc<Shared>, link: &Link, commits: &mut Commits) -> Result<(), Fault> {
    let (head, _) = read::head(link, &shared.layout, 0).await?;
    let Some(head) = head else { return Ok(()) };
    let now = Instant::now();
    commits.note(now, head.mod_revision);
    shared.inquiries.put(shared).await;
    let fullness = shared.inquiries.fullness(&shared.options);
    let pressed = fullness.is_some_and(|full| full.is_near || full.used > full.quota / PRESSURE);
    let history = shared.options.history;
    let keep = if pressed { history.min(HISTORY_MIN) } else { history };
    let Some(revision) = commits.older_than(now, keep) else { return Ok(()) };
    let request =
        |client: Client| async move { client.kv().compact(CompactionRequest { revision }).await };
    match link.call(Effect::Harmless, request).await {
        // Somebody else has compacted further.
        Ok(_) | Err(Fault::Compacted(_)) => {
            tracing::debug!(revision, pressed, "compacted etcd");
            Ok(())
        }
        Err(fault) => Err(fault),
    }
}

/// The revisions of the head over time, oldest first.
#[derive(Default)]
struct Commits(VecDeque<(Instant, i64)>);

impl Commits {
    fn note(&mut self, at: Instant, revision: i64) {
        if self.0.back().is_none_or(|(_, last)| *last < revision) {
            self.0.push_back((at, revision));
        }
    }

    /// The newest revision of at least this age. Removes it and older ones.
    fn older_than(&mut self, now: Instant, age: Duration) -> Option<i64> {
        let mut found = None;
        while let Some((at, revision)) = self.0.front().copied() {
            if now.duration_since(at) < age {
                break;
            }
            found = Some(revision);
            self.0.pop_front();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_enough_is_found_once() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut commits = Commits::default();
        for (seconds, revision) in [(0, 5), (10, 9), (20, 9), (30, 12)] {
            commits.note(at(seconds), revision);
        }
        let minute = Duration::from_secs(60);
        assert_eq!(commits.older_than(at(59), minute), None);
        assert_eq!(commits.older_than(at(85), minute), Some(9));
        assert_eq!(commits.older_than(at(85), minute), None);
        // The last commit of all may be compacted up to, for it stays readable.
        assert_eq!(commits.older_than(at(500), minute), Some(12));
        assert_eq!(commits.older_than(at(900), minute), None);
    }
}
