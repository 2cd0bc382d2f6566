//! The status of etcd, read from each member on request.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Shared,
    answer::Patience,
    fault::Fault,
    link::{Client, Effect, Link},
    members::Members,
    options::EtcdOptions,
    usage::{Fullness, Usage},
    wire::{StatusRequest, StatusResponse},
};
use crate::store::StoreStatus;

/// Timeout of the answer of a member.
const PATIENCE: Duration = Duration::from_secs(1);

/// Time that a caller waits. Requests continue afterwards, so that a slow connection is ready for the next
/// call.
const LIMIT: Duration = Duration::from_millis(900);

/// Time for other members after the answer of a healthy one, so that an unavailable member does not delay
/// every call.
const OTHERS: Duration = Duration::from_millis(100);

pub(super) async fn status(shared: &Arc<Shared>) -> StoreStatus {
    let mut status = StoreStatus {
        backend: "etcd",
        location: shared.options.location(),
        epoch: shared.epoch(),
        revision: shared.revision(),
        bytes_max: Some(shared.options.quota_bytes),
        ..StoreStatus::default()
    };
    if let Err(error) = shared.check_open() {
        status.problem = Some(error.to_string());
        return status;
    }
    let answers = shared.inquiries.put(shared).await;
    // Without an answer, earlier values do not tell how full it is now.
    if answers.iter().any(Result::is_ok)
        && let Some(fullness) = shared.inquiries.fullness(&shared.options)
    {
        status.bytes_max = Some(fullness.quota);
        status.bytes_used = Some(fullness.used);
        status.pressure = fullness.is_near.then(|| {
            let Fullness { used, quota, .. } = fullness;
            format!("etcd's database is near its quota: {used} of {quota} bytes are used")
        });
    }
    status.problem = problem(&answers).or_else(|| shared.background.trouble());
    status
}

/// Reads the status of the members.
pub(super) struct Inquiries {
    members: Vec<Inquiry>,
    usage: Mutex<Usage>,
}

/// The request to one member.
struct Inquiry {
    link: Link,
    /// The request in flight, which concurrent callers share.
    current: Mutex<Option<watch::Receiver<Answer>>>,
}

type Answer = Option<Result<StatusResponse, Fault>>;

impl Inquiries {
    pub(super) fn new(options: &Arc<EtcdOptions>, members: &Arc<Members>) -> Self {
        let inquiry = |member| {
            let link = Link::new("status", options, members);
            let link = link.for_small_requests(PATIENCE).fixed_to(member);
            Inquiry { link, current: Mutex::default() }
        };
        Self {
            members: (0..members.count()).map(inquiry).collect(),
            usage: Mutex::new(Usage::new(members.count())),
        }
    }

    /// The usage of etcd, as far as known.
    pub(super) fn fullness(&self, options: &EtcdOptions) -> Option<Fullness> {
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.fullness(options.quota_bytes)
    }

    /// The answers of members that answer in time.
    pub(super) async fn put(&self, shared: &Arc<Shared>) -> Vec<Result<StatusResponse, Fault>> {
        let asked = (0..self.members.len()).map(|member| {
            let mut answer = self.ask(shared, member);
            async move { answer.wait_for(Option::is_some).await.ok().and_then(|told| told.clone()) }
        });
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut answers = Vec::new();
        let first = async {
            while let Some(answer) = asked.next().await {
                let is_well = answer.as_ref().is_some_and(is_well);
                answers.extend(answer);
                if is_well {
                    break;
                }
            }
        };
        if timeout(LIMIT, first).await.is_err() {
            return answers;
        }
        let mut patience = std::pin::pin!(sleep(OTHERS));
        loop {
            tokio::select! {
                biased;
                answer = asked.next() => match answer {
                    Some(answer) => answers.extend(answer),
                    None => return answers,
                },
                () = &mut patience => return answers,
            }
        }
    }

    /// Sends a request to a member, unless one is in flight.
    fn ask(&self, shared: &Arc<Shared>, member: usize) -> watch::Receiver<Answer> {
        let mut current =
            self.members[member].current.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = |asked: &watch::Receiver<Answer>| {
            asked.borrow().is_none() && asked.has_changed().is_ok()
        };
        if let Some(asked) = current.as_ref().filter(|asked| pending(asked)) {
            return asked.clone();
        }
        let (answer, asked) = watch::channel(None);
        *current = Some(asked.clone());
        let shared = Arc::clone(shared);
        shared.clone().background.tasks.spawn(async move {
            let inquiries = &shared.inquiries;
            let told = tokio::select! {
                biased;
                () = shared.background.stop.cancelled() => return,
                told = ask(&inquiries.members[member].link) => told,
            };
            if let Ok(told) = &told {
                let mut usage = inquiries.usage.lock().unwrap_or_else(PoisonError::into_inner);
                usage.note(member, told);
            }
            answer.send_replace(Some(told));
        });
        asked
    }
}

/// Reads the status of the member of this link.
async fn ask(link: &Link) -> Result<StatusResponse, Fault> {
    let request =
        |client: Client| async move { client.maintenance().status(StatusRequest {}).await };
    link.call_within(Patience::brief(PATIENCE), Effect::Harmless, request).await
}

fn is_well(answer: &Result<StatusResponse, Fault>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.leader != 0)
}

/// The problem of etcd, from the answers of its members. A member that is unavailable or has no leader does
/// not matter while another one has a leader. An alarm of any member counts.
fn problem(answers: &[Result<StatusResponse, Fault>]) -> Option<String> {
    let told = || answers.iter().flatten();
    let errors = |leads: bool| {
        let of_kind = told().filter(move |answer| (answer.leader != 0) == leads);
        of_kind.flat_map(|answer| &answer.errors)
    };
    let has_leader = told().any(|answer| answer.leader != 0);
    if errors(has_leader).any(|error| error.contains("NOSPACE")) {
        Some(
            "etcd is full (alarm NOSPACE); compact and defragment it or raise its quota, then \
             `etcdctl alarm disarm`"
                .to_owned(),
        )
    } else if let Some(error) = errors(has_leader).next() {
        Some(format!("etcd: {error}"))
    } else if has_leader {
        None
    } else if told().next().is_some() {
        Some("etcd has no leader".to_owned())
    } else if answers.iter().any(|answer| matches!(answer, Err(Fault::Forbidden(_)))) {
        // Some versions tell their status to the role root only, and serve all else. If the user may do nothing at
        // all, the campaign reports it.
        None
    } else {
        let faults = answers.iter().filter_map(|answer| answer.as_ref().err());
        let reasons = faults.map(Fault::reason).next();
        Some(reasons.unwrap_or_else(|| format!("etcd did not answer within {LIMIT:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(leader: u64, errors: &[&str]) -> Result<StatusResponse, Fault> {
        let errors = errors.iter().map(ToString::to_string).collect();
        Ok(StatusResponse { leader, errors, ..StatusResponse::default() })
    }

    #[test]
    fn a_member_that_is_away_is_no_problem_and_an_alarm_of_any_is() {
        let away = || Err(Fault::Refused("away".to_owned()));
        let says = |answers: &[_]| problem(answers).unwrap_or_default();
        assert_eq!(problem(&[told(1, &[]), away()]), None);
        assert_eq!(problem(&[told(0, &["etcdserver: no leader"]), told(1, &[])]), None);
        assert!(says(&[told(1, &[]), told(1, &["memberID:1 alarm:NOSPACE"])]).contains("full"));
        assert!(says(&[told(1, &["alarm:CORRUPT"])]).contains("CORRUPT"));
        assert!(says(&[told(0, &[]), away()]).contains("no leader"));
        assert!(says(&[away(), away()]).contains("away"));
        assert_eq!(problem(&[away(), Err(Fault::Forbidden("permission denied".to_owned()))]), None);
        assert!(says(&[]).contains("did not answer"));
    }
}
