//! A load of schedules, each with a tick every second, and what the API tells of them in the end.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use rota_client::v1::{
    CatchUp, ListSchedulesRequest, ListTicksRequest, Overlap, PauseSchedulesRequest,
    PutScheduleRequest, ScheduleDefinition, TaskTemplate, Tick, TickOutcome,
    schedule_service_client::ScheduleServiceClient,
};
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::{
    history::Ticks,
    process::{LOOK, PATIENCE},
};

/// What the names of the schedules begin with, and so the ids of their tasks.
pub const PREFIX: &str = "each-second-";
/// Calls under way at a time.
const CALLS: usize = 16;
/// Entries of a page.
const PAGE: u32 = 1000;

/// What the API tells of the ticks of all schedules, by schedule and by the date of the first.
pub type Told = BTreeMap<String, BTreeMap<i64, Ticks>>;

/// The schedules of a cluster.
#[derive(Debug)]
pub struct Schedules {
    count: usize,
}

/// Whether a task is one of a schedule of this load.
#[must_use]
pub fn is_theirs(id: &str) -> bool {
    id.starts_with(PREFIX)
}

fn name(number: usize) -> String {
    format!("{PREFIX}{number}")
}

/// Seconds since 1970 by the clock of this process.
///
/// # Panics
/// When it is before 1970.
#[must_use]
pub fn now_s() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a date");
    i64::try_from(now.as_secs()).expect("a date")
}

impl Schedules {
    /// Creates so many through this node, with each of the rules for late ticks in turn. Their tasks are of this kind.
    ///
    /// # Panics
    /// When one is refused.
    pub async fn create(url: &str, kind: &str, count: usize) -> Self {
        let client = connect(url).await.expect("a connection");
        let put = |number: usize| {
            let mut client = client.clone();
            let catch_up = [CatchUp::All, CatchUp::Last, CatchUp::None][number % 3];
            let template = TaskTemplate {
                kind: kind.to_owned(),
                payload: b"\"k1\"".to_vec().into(),
                ..TaskTemplate::default()
            };
            let definition = ScheduleDefinition {
                name: Some(name(number)),
                expressions: vec!["* * * * * *".to_owned()],
                overlap: Some(Overlap::Allow.into()),
                catch_up: Some(catch_up.into()),
                catch_up_max: Some(1000),
                template: Some(template),
                ..ScheduleDefinition::default()
            };
            let request = PutScheduleRequest { definition: Some(definition), ..Default::default() };
            async move { client.put_schedule(request).await }
        };
        let all: Result<Vec<_>, _> =
            stream::iter(0..count).map(put).buffer_unordered(CALLS).try_collect().await;
        all.expect("schedules are created");
        Self { count }
    }

    /// Waits until the ticks up to now are decided. Gives how long that took.
    ///
    /// # Panics
    /// When it takes longer than a minute.
    pub async fn catch_up(&self, url: &str) -> Duration {
        let (wanted, began) = (now_s(), tokio::time::Instant::now());
        let mut look = tokio::time::interval(LOOK);
        let caught_up = async {
            while self.decided_until(url).await.is_none_or(|until| until < wanted - 1) {
                look.tick().await;
            }
        };
        timeout(PATIENCE, caught_up).await.expect("ticks are decided");
        began.elapsed()
    }

    /// Up to when the ticks of all of them are decided.
    async fn decided_until(&self, url: &str) -> Option<i64> {
        let (mut client, mut until, mut count) = (connect(url).await?, i64::MAX, 0);
        let mut page_token = String::new();
        loop {
            let request =
                ListSchedulesRequest { page_size: PAGE, page_token, ..Default::default() };
            let page = client.list_schedules(request).await.ok()?.into_inner();
            for schedule in page.schedules {
                until = until.min(schedule.decided_until?.seconds);
                count += 1;
            }
            match page.next_page_token {
                Some(next) => page_token = next,
                None => return (count == self.count).then_some(until),
            }
        }
    }

    /// Pauses all of them.
    ///
    /// # Panics
    /// When that is not done.
    pub async fn pause(&self, url: &str) {
        let request = PauseSchedulesRequest { all: true, ..Default::default() };
        let mut client = connect(url).await.expect("a connection");
        let paused = client.pause_schedules(request).await.expect("an answer");
        assert_eq!(paused.into_inner().changed as usize, self.count);
    }

    /// What the API tells of all ticks.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn told(&self, url: &str) -> Told {
        let client = connect(url).await.expect("a connection");
        let of = |number: usize| {
            let client = client.clone();
            async move { (name(number), ticks_of(client, name(number)).await) }
        };
        stream::iter(0..self.count).map(of).buffer_unordered(CALLS).collect().await
    }
}

async fn connect(url: &str) -> Option<ScheduleServiceClient<Channel>> {
    ScheduleServiceClient::connect(url.to_owned()).await.ok()
}

async fn ticks_of(
    mut client: ScheduleServiceClient<Channel>,
    name: String,
) -> BTreeMap<i64, Ticks> {
    let mut all = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListTicksRequest {
            name: name.clone(),
            page_size: PAGE,
            page_token,
            ..Default::default()
        };
        let page = client.list_ticks(request).await.expect("a page").into_inner();
        let ticks = page.ticks.iter().map(ticks);
        all.extend(ticks.map(|ticks| (ticks.first_ms, ticks)));
        match page.next_page_token {
            Some(next) => page_token = next,
            None => return all,
        }
    }
}

/// What was told of ticks, as it is written. The number of a task is not told.
fn ticks(tick: &Tick) -> Ticks {
    let first_ms = tick.nominal_time.map_or(0, |at| at.seconds * 1000);
    Ticks {
        outcome: match tick.outcome() {
            TickOutcome::Fired => 1,
            _ => 0,
        },
        task: None,
        first_ms,
        last_ms: tick.last_nominal_time.map_or(first_ms, |at| at.seconds * 1000),
        count: tick.count.max(1),
    }
}
