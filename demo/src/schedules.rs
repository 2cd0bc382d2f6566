//! Schedules: one that fires every two seconds, one whose task still runs at the next tick, and a paused one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rota_client::{
    ScheduleHandle,
    v1::{Overlap, Tick, TickOutcome, TickReason},
};
use serde_json::json;

use crate::{
    scenarios::{Outcome, Stage, Trouble},
    show::Row,
};

/// How often the ticks of a schedule are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// The ticks that are waited for have come by then.
const COME: Duration = Duration::from_secs(30);

fn is_fired(tick: &Tick) -> bool {
    tick.outcome() == TickOutcome::Fired
}

fn is_overlap(tick: &Tick) -> bool {
    tick.outcome() == TickOutcome::Skipped && tick.reason() == TickReason::Overlap
}

/// The ticks of a schedule, newest first, once they are as wanted.
async fn ticks(
    schedule: &ScheduleHandle,
    are_wanted: impl Fn(&[Tick]) -> bool,
) -> Result<Vec<Tick>, Trouble> {
    let look = async {
        loop {
            let ticks = schedule.ticks(100).await?;
            if are_wanted(&ticks) {
                return Ok(ticks);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let late = |_| Trouble::new(format!("{} had other ticks within {COME:?}", schedule.name()));
    tokio::time::timeout(COME, look).await.map_err(late)?
}

/// Plays all three at the same time.
pub(crate) async fn play(stage: &Stage) -> Outcome {
    let (regular, slow, paused) = tokio::join!(regular(stage), overlapping(stage), paused(stage));
    Ok(vec![regular?, slow?, paused?])
}

async fn regular(stage: &Stage) -> Result<Row, Trouble> {
    let schedule = stage.client().schedule("greeting");
    let draft = schedule.cron("*/2 * * * * *").kind("greet").payload_json(&"every two seconds");
    draft.max_runs(3).put().await?;
    let ticks = ticks(&schedule, |ticks| ticks.iter().filter(|tick| is_fired(tick)).count() == 3);
    let ticks = ticks.await?;
    let fired: Vec<_> =
        ticks.iter().filter(|tick| is_fired(tick)).filter_map(|tick| tick.nominal_time).collect();
    let apart: Vec<_> = fired.windows(2).map(|pair| pair[0].seconds - pair[1].seconds).collect();
    let observed = format!("{} ticks fired, {apart:?} seconds apart", fired.len());
    Ok(Row::same("a schedule every two seconds", "3 ticks fired, [2, 2] seconds apart", observed))
}

async fn overlapping(stage: &Stage) -> Result<Row, Trouble> {
    let file = stage.file("overlapping.pid");
    let argv = stage.argv("linger", &["3", &file.to_string_lossy()]);
    let schedule = stage.client().schedule("overlapping");
    let draft = schedule.cron("* * * * * *").overlap(Overlap::Skip);
    draft.kind("command").payload_json(&json!({ "argv": argv })).put().await?;
    let come = |ticks: &[Tick]| ticks.iter().any(is_fired) && ticks.iter().any(is_overlap);
    ticks(&schedule, come).await?;
    schedule.delete().await?;
    let observed = "its next tick is skipped (overlap)".to_owned();
    Ok(Row::same(
        "a schedule whose task still runs",
        "its next tick is skipped (overlap)",
        observed,
    ))
}

async fn paused(stage: &Stage) -> Result<Row, Trouble> {
    let schedule = stage.client().schedule("paused");
    // Its first tick is too far away to come before the pause.
    schedule.cron("0 0 1 1 *").kind("greet").payload_json(&"never").put().await?;
    schedule.pause("the demo shows a pause").await?;
    schedule.cron("* * * * * *").kind("greet").payload_json(&"never").put().await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let resumed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    schedule.resume().await?;
    let ticks = ticks(&schedule, |ticks| ticks.iter().any(is_fired)).await?;
    schedule.delete().await?;
    let is_paused = |tick: &&Tick| {
        tick.outcome() == TickOutcome::Skipped && tick.reason() == TickReason::Paused
    };
    let skipped: u64 = ticks.iter().filter(is_paused).map(|tick| tick.count).sum();
    let is_late = |tick: &Tick| {
        let nominal = tick.nominal_time.and_then(|at| u64::try_from(at.seconds).ok());
        is_fired(tick) && nominal.is_none_or(|nominal| nominal < resumed)
    };
    let late = ticks.iter().any(is_late);
    let observed = match (skipped, late) {
        (0, _) => "no tick was skipped".to_owned(),
        (_, true) => "skipped ticks fired late".to_owned(),
        (_, false) => "its ticks are skipped, and none fires late".to_owned(),
    };
    let expected = "its ticks are skipped, and none fires late";
    Ok(Row::same("a schedule that is paused and resumed", expected, observed))
}
