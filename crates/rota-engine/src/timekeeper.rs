//! Watches both clocks, to detect pauses of the process and jumps of the wall clock.
//!
//! A paused or starved process could not receive heartbeats, so that time does not count against workers. A
//! wall clock that jumps forward makes everything look old, so nothing is removed for its age until the clock
//! is trusted again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rota_core::{Millis, MonoTime, Now, WallTime};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{planted::Planted, shared::Shared};

/// Interval of checks.
const PERIOD: Duration = Duration::from_millis(100);
/// A check that comes later than this was delayed.
const HELD_UP: Millis = Millis(300);
/// Minimum delay that is logged as a warning.
const STOOD_STILL: Millis = Millis::from_secs(3);
/// Maximum advance of the wall clock over the monotonic clock before it counts as a jump. NTP corrects less
/// than this without a jump.
const JUMP: Millis = Millis::from_secs(300);
/// Maximum distance of the wall clock from the last date in the store when a leader begins.
const IDLE: Millis = Millis::from_secs(24 * 3600);
/// Time for which a jump of the wall clock holds up the ticks of schedules. A jump that is a mistake is often
/// corrected within this time. After a real one, such as that of a virtual machine that was suspended, ticks must
/// not wait for long.
const HOLD: Millis = Millis::from_secs(60);

/// The state of the clocks.
#[derive(Debug)]
pub(crate) struct Timekeeper {
    /// Time after which a wall clock that jumped is trusted again.
    grace: Millis,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<Now>,
    /// Time in which nothing could be received, and that has not been passed on yet.
    missed: Millis,
    doubt: Option<Doubt>,
}

/// The wall clock is not trusted.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    until: MonoTime,
    /// How far it is ahead.
    ahead: Millis,
    /// The part of it that jumps have made. The rest are small steps, such as those of a suspended process.
    jumped: Millis,
    /// Until then the ticks of schedules go by the clock as it was before the jump.
    held_until: MonoTime,
}

impl Seen {
    fn is_in_doubt(&self) -> bool {
        self.doubt.is_some() && !Planted::BelievesJumps.is_made()
    }
}

impl Timekeeper {
    pub(crate) fn new(grace: Duration) -> Self {
        Self { grace: Millis::from_duration(grace), seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the clocks. Call it before relying on them. Returns true if the wall clock is not trusted at
    /// this moment.
    pub(crate) fn check(&self, now: Now) -> bool {
        let mut seen = self.seen();
        self.compare_with_last(&mut seen, now);
        seen.is_in_doubt()
    }

    fn compare_with_last(&self, seen: &mut Seen, now: Now) {
        let Some(last) = seen.last else {
            seen.last = Some(now);
            return;
        };
        if now.mono < last.mono {
            return;
        }
        seen.last = Some(now);
        let gap = now.mono.since(last.mono);
        if gap > HELD_UP {
            let missed = Millis(gap.0 - HELD_UP.0);
            seen.missed = Millis(seen.missed.0 + missed.0);
            if gap > STOOD_STILL {
                warn!(?gap, "the process was paused; the pause does not count against workers");
            }
        }
        let expected = last.wall + gap;
        let (ahead, behind) = (now.wall.since(expected), expected.since(now.wall));
        if let Some(doubt) = &mut seen.doubt {
            // It stays untrusted until it is right again, or until the grace period is over.
            let total = (doubt.ahead.0 + ahead.0).saturating_sub(behind.0);
            doubt.ahead = Millis(total);
            if ahead > JUMP {
                // Earlier jumps are believed once their hold is over, whatever comes later.
                let held = if now.mono < doubt.held_until { doubt.jumped } else { Millis(0) };
                doubt.until = now.mono + self.grace;
                doubt.held_until = now.mono + HOLD;
                doubt.jumped = Millis(held.0 + ahead.0);
            } else if behind > JUMP {
                doubt.jumped = Millis(doubt.jumped.0.saturating_sub(behind.0));
            }
            if total <= JUMP.0 {
                info!("the wall clock is right again");
                seen.doubt = None;
            } else if doubt.until <= now.mono {
                info!(?ahead, "the wall clock is trusted again");
                seen.doubt = None;
            }
        } else if ahead > JUMP {
            self.begin_to_doubt(seen, now, ahead, HOLD, "the wall clock jumped forward");
        }
    }

    /// Checks the clock of a new leader. `written` is the last trusted date in the store.
    pub(crate) fn compare(&self, written: Option<WallTime>, now: Now) {
        let ahead = written.map_or(Millis(0), |written| now.wall.since(written));
        let mut seen = self.seen();
        // A jump since the last look is one; the distance from the store must not count it again.
        self.compare_with_last(&mut seen, now);
        if ahead > IDLE && seen.doubt.is_none() {
            let what = "the wall clock is far ahead of the last date in the store";
            // It was probably down, so its ticks do not wait.
            self.begin_to_doubt(&mut seen, now, ahead, Millis(0), what);
        }
    }

    fn begin_to_doubt(&self, seen: &mut Seen, now: Now, ahead: Millis, hold: Millis, what: &str) {
        let grace = self.grace;
        warn!(%ahead, %grace, "{what}; no ended task is removed during the grace period");
        let (until, held_until) = (now.mono + grace, now.mono + hold);
        seen.doubt = Some(Doubt { until, ahead, jumped: ahead, held_until });
    }

    /// Whether the wall clock is not trusted.
    pub(crate) fn doubts(&self) -> bool {
        self.seen().is_in_doubt()
    }

    /// The date by which the ticks of schedules are decided: for a while after a jump of the wall clock, the date
    /// without the jump.
    pub(crate) fn believed(&self, now: Now) -> WallTime {
        match self.seen().doubt {
            Some(doubt) if now.mono < doubt.held_until && !Planted::DecidesByJumps.is_made() => {
                WallTime(now.wall.0.saturating_sub_unsigned(doubt.jumped.0))
            }
            _ => now.wall,
        }
    }

    /// The time since the last call in which nothing could be received.
    pub(crate) fn take_missed(&self) -> Millis {
        let missed = std::mem::take(&mut self.seen().missed);
        if Planted::CountsPauses.is_made() { Millis(0) } else { missed }
    }
}

/// Checks the clocks until `stop` is cancelled.
pub(crate) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = period.tick() => { shared.timekeeper.check(shared.host.now()); }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600_000;

    fn keeper() -> Timekeeper {
        started_at(0)
    }

    fn started_at(wall: u64) -> Timekeeper {
        let keeper = Timekeeper::new(Duration::from_secs(3600));
        keeper.check(at(wall, 0));
        keeper
    }

    fn at(wall: u64, mono: u64) -> Now {
        let wall = WallTime(1_000_000_000 + i64::try_from(wall).expect("small"));
        Now { wall, mono: MonoTime(5000 + mono) }
    }

    #[test]
    fn a_clock_that_jumps_forward_is_believed_after_a_grace() {
        let keeper = keeper();
        keeper.check(at(100, 100));
        assert!(!keeper.doubts());
        keeper.check(at(8 * DAY, 200));
        assert!(keeper.doubts());
        keeper.check(at(8 * DAY + 3_599_000, 3_599_200));
        assert!(keeper.doubts());
        keeper.check(at(8 * DAY + 3_600_000, 3_600_200));
        assert!(!keeper.doubts());
    }

    #[test]
    fn a_clock_that_is_set_right_again_is_believed_at_once() {
        let keeper = keeper();
        keeper.check(at(8 * DAY, 100));
        assert!(keeper.doubts());
        keeper.check(at(4 * DAY, 200));
        assert!(keeper.doubts(), "half the way is not back");
        keeper.check(at(400, 300));
        assert!(!keeper.doubts());
        // Nor is a clock doubted that goes back: everything looks younger then.
        keeper.check(Now { wall: WallTime(1), mono: MonoTime(5400) });
        assert!(!keeper.doubts());
    }

    #[test]
    fn ticks_go_by_the_former_clock_for_a_minute_after_a_jump() {
        let keeper = keeper();
        let jumped = at(8 * DAY, 100);
        keeper.check(jumped);
        assert_eq!(keeper.believed(jumped), at(100, 100).wall);
        let later = at(8 * DAY + 59_900, 60_000);
        keeper.check(later);
        assert_eq!(keeper.believed(later), at(60_000, 60_000).wall);
        let behind = at(8 * DAY + 60_100, 60_200);
        keeper.check(behind);
        assert_eq!(keeper.believed(behind), behind.wall);
        assert!(keeper.doubts(), "retention waits for longer");
    }

    #[test]
    fn small_steps_during_a_jump_are_believed() {
        let keeper = keeper();
        keeper.check(at(8 * DAY, 100));
        // A suspended process: only the wall clock goes on.
        let resumed = at(8 * DAY + 2_200, 200);
        keeper.check(resumed);
        assert_eq!(keeper.believed(resumed), at(2_300, 200).wall);
        let half_way_back = at(4 * DAY + 2_300, 300);
        keeper.check(half_way_back);
        assert_eq!(keeper.believed(half_way_back), at(2_400, 300).wall);
    }

    #[test]
    fn the_ticks_of_a_leader_that_was_down_do_not_wait() {
        let keeper = started_at(8 * DAY);
        let now = at(8 * DAY + 100, 100);
        keeper.compare(Some(at(0, 0).wall), now);
        assert!(keeper.doubts());
        assert_eq!(keeper.believed(now), now.wall);
        // The clock that it started with is believed, so only what comes then is a jump.
        let jumped = at(9 * DAY + 200, 200);
        keeper.check(jumped);
        assert_eq!(keeper.believed(jumped), at(8 * DAY + 200, 200).wall);
    }

    #[test]
    fn a_jump_while_a_leader_loads_counts_once() {
        let keeper = keeper();
        let jumped = at(DAY + 100, 100);
        keeper.compare(Some(at(0, 0).wall), jumped);
        assert_eq!(keeper.believed(jumped), at(100, 100).wall);
        let later = at(DAY + 200, 200);
        keeper.check(later);
        assert_eq!(keeper.believed(later), at(200, 200).wall);
    }

    #[test]
    fn a_jump_that_was_believed_is_not_held_again_with_the_next_one() {
        let keeper = keeper();
        keeper.check(at(DAY, 100));
        keeper.check(at(DAY + 60_000, 60_100));
        let again = at(2 * DAY + 60_100, 60_200);
        keeper.check(again);
        assert_eq!(keeper.believed(again), at(DAY + 60_100, 60_200).wall);
    }

    #[test]
    fn small_steps_are_no_jumps_however_many() {
        let keeper = keeper();
        for step in 1..1000 {
            keeper.check(at(step * 60_000, step * 100));
        }
        assert!(!keeper.doubts());
    }

    #[test]
    fn a_leader_doubts_a_clock_far_ahead_of_the_store() {
        let keeper = started_at(8 * DAY);
        let now = at(8 * DAY, 0);
        keeper.compare(None, now);
        assert!(!keeper.doubts(), "an empty store says nothing");
        keeper.compare(Some(WallTime(now.wall.0 - 3_600_000)), now);
        assert!(!keeper.doubts());
        keeper.compare(Some(at(0, 0).wall), now);
        assert!(keeper.doubts());
    }

    #[test]
    fn time_in_which_nothing_could_be_heard_is_told_once() {
        let keeper = keeper();
        for mono in (0..1000).step_by(250) {
            keeper.check(at(mono, mono));
        }
        assert_eq!(keeper.take_missed(), Millis(0));
        keeper.check(at(5750, 5750));
        assert_eq!(keeper.take_missed(), Millis(5000 - 300));
        assert_eq!(keeper.take_missed(), Millis(0));
    }
}
