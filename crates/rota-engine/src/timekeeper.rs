//! Watches both clocks: for time in which this node could do nothing, and for a wall clock that jumps.
//!
//! A process that was stopped or starved could not hear its workers; that time is given back to them. A
//! wall clock that jumps forward makes everything look old; until it has proved to be right, nothing
//! is removed for its age.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rota_core::{Millis, MonoTime, Now, WallTime};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{planted::Planted, shared::Shared};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(100);
/// A look that comes later than this was held up.
const HELD_UP: Millis = Millis(300);
/// So much is worth a warning.
const STOOD_STILL: Millis = Millis::from_secs(3);
/// The wall clock may go forward by so much more than the monotonic one before it is doubted. NTP
/// corrects less than this without a jump.
const JUMP: Millis = Millis::from_secs(300);
/// The wall clock may be so far ahead of the last date in the store when a leader begins.
const IDLE: Millis = Millis::from_secs(24 * 3600);

/// What is known of the clocks.
#[derive(Debug)]
pub(crate) struct Timekeeper {
    /// How long a wall clock that jumped must go on by itself before it is believed.
    grace: Millis,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    last: Option<Now>,
    /// Time in which nothing could be heard, and that nobody was given yet.
    missed: Millis,
    doubt: Option<Doubt>,
}

/// The wall clock is not believed.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    until: MonoTime,
    /// How far it is ahead of where it should be.
    ahead: Millis,
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

    /// Looks at the clocks. Whoever is about to rely on them looks first. True: the wall clock is not to
    /// be believed at this moment.
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
                warn!(?gap, "the process stood still; workers get that time again");
            }
        }
        let expected = last.wall + gap;
        let (ahead, behind) = (now.wall.since(expected), expected.since(now.wall));
        if let Some(doubt) = &mut seen.doubt {
            // It is doubted until it comes back to where it should be, or long enough.
            let total = (doubt.ahead.0 + ahead.0).saturating_sub(behind.0);
            doubt.ahead = Millis(total);
            if ahead > JUMP {
                doubt.until = now.mono + self.grace;
            }
            if total <= JUMP.0 {
                info!("the wall clock is back");
                seen.doubt = None;
            } else if doubt.until <= now.mono {
                info!(?ahead, "the wall clock is believed");
                seen.doubt = None;
            }
        } else if ahead > JUMP {
            self.begin_to_doubt(seen, now, ahead, "the wall clock jumped forward");
        }
    }

    /// A leader begins: `written` is the last date in the store that was believed.
    pub(crate) fn compare(&self, written: Option<WallTime>, now: Now) {
        let ahead = written.map_or(Millis(0), |written| now.wall.since(written));
        let mut seen = self.seen();
        if ahead > IDLE && seen.doubt.is_none() {
            let what = "the wall clock is far ahead of the last date in the store";
            self.begin_to_doubt(&mut seen, now, ahead, what);
        }
    }

    fn begin_to_doubt(&self, seen: &mut Seen, now: Now, ahead: Millis, what: &str) {
        let grace = self.grace;
        warn!(%ahead, %grace, "{what}; nothing is removed for its age before the grace is over");
        seen.doubt = Some(Doubt { until: now.mono + grace, ahead });
    }

    /// Whether the wall clock is not to be believed.
    pub(crate) fn doubts(&self) -> bool {
        self.seen().is_in_doubt()
    }

    /// The time in which nothing could be heard since the last call.
    pub(crate) fn take_missed(&self) -> Millis {
        let missed = std::mem::take(&mut self.seen().missed);
        if Planted::CountsPauses.is_made() { Millis(0) } else { missed }
    }
}

/// Looks at the clocks until `stop` is cancelled.
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
        let keeper = Timekeeper::new(Duration::from_secs(3600));
        keeper.check(at(0, 0));
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
    fn small_steps_are_no_jumps_however_many() {
        let keeper = keeper();
        for step in 1..1000 {
            keeper.check(at(step * 60_000, step * 100));
        }
        assert!(!keeper.doubts());
    }

    #[test]
    fn a_leader_doubts_a_clock_far_ahead_of_the_store() {
        let keeper = keeper();
        let now = at(8 * DAY, 100);
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
