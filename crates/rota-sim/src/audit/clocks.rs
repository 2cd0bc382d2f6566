//! What nodes may believe of their wall clocks, to judge whether a tick was decided early.
//!
//! A clock that goes back, or forward by up to five minutes, is believed at once, and so is that of a process that
//! starts. One that jumps forward by more decides no ticks for a minute. In this minute the date is the one without
//! the jump. A node that was suspended meanwhile cannot tell the jump from the time that it did not run, so its date
//! lacks that time as well. What happens shortly before a node stops, or shortly after it went on, it sees together
//! with what happened while it stood still.

use rustc_hash::FxHashMap;

use crate::world::Endpoint;

/// A larger step forward is a jump.
const JUMP_MS: i64 = 300_000;
/// A jump is not believed for so long.
const HELD_US: u64 = 60_000_000;
/// Settings of a clock that are remembered.
const SETTINGS: usize = 32;
/// A node that runs looks at its clock at least so often.
const LOOK_US: u64 = 150_000;

/// A suspended node finds, when it goes on, that its clock went ahead by at most so much more.
pub(super) const SUSPENDED_MS: i64 = 8_000;

/// What the process of a node does while its clock is set.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetWhile {
    Starting,
    #[default]
    Running,
    /// It is stopped, while its monotonic clock goes on.
    Paused,
    /// It is stopped with its monotonic clock.
    Suspended,
}

/// How a clock was set.
#[derive(Debug, Clone, Copy, Default)]
struct Setting {
    since_us: u64,
    /// How far it is off.
    skew_ms: i64,
    /// How far it was off when the node surely ran last, so that it may have seen it.
    seen_ms: i64,
    /// From when on that is believed, and what is until then.
    believed_us: u64,
    before_ms: i64,
    /// How far it is ahead of where it was before the doubt began.
    ahead_ms: i64,
    /// It was set while the node was suspended, or during a doubt that began so. The node may count the time that it
    /// did not run as a part of the jump, and so doubt a clock that went ahead by less.
    suspended: bool,
    /// The same, where without that time it was no jump. Or it was set when its process had just started, which may
    /// not have looked at it before.
    may_be_a_step: bool,
    /// What a node believes that did not see the settings before this one, because it had not looked or was stopped.
    together_ms: Option<i64>,
}

impl Setting {
    fn believed_at(&self, at_us: u64) -> i64 {
        if at_us >= self.believed_us { self.skew_ms } else { self.before_ms }
    }

    /// The most that a node believes that does not take the time in which it was suspended for a part of the jump,
    /// or that saw less of its clock.
    fn at_once(&self) -> i64 {
        let at_once = if self.may_be_a_step { self.skew_ms } else { i64::MIN };
        at_once.max(self.together_ms.unwrap_or(i64::MIN))
    }
}

/// A clock.
#[derive(Debug, Default)]
struct Clock {
    /// Oldest first.
    settings: Vec<Setting>,
    /// When its node went on last, and what it did until then.
    went_on: (u64, SetWhile),
    /// What its node may have believed when it stopped last.
    at_stop_ms: i64,
}

/// The clocks of all machines.
#[derive(Debug, Default)]
pub(crate) struct Clocks(FxHashMap<Endpoint, Clock>);

impl Clocks {
    /// The clock of a machine is so far off from now on.
    pub(crate) fn set(&mut self, now_us: u64, endpoint: Endpoint, skew_ms: i64, during: SetWhile) {
        let Clock { settings, went_on, at_stop_ms } = self.0.entry(endpoint).or_default();
        let has_started = went_on.1 == SetWhile::Starting && now_us <= went_on.0 + LOOK_US;
        // Until the node has looked at its clock, it is as if it had not gone on.
        let during = match (during, *went_on) {
            (SetWhile::Running, (since_us, before))
                if before != SetWhile::Starting && now_us <= since_us + LOOK_US =>
            {
                before
            }
            _ => during,
        };
        if during == SetWhile::Starting {
            *went_on = (now_us, SetWhile::Starting);
        }
        let last = settings.last().copied().unwrap_or_default();
        let step_ms = skew_ms - last.skew_ms;
        let in_doubt = now_us < last.believed_us;
        let is_small = in_doubt && step_ms.abs() <= JUMP_MS;
        let before_ms = last.believed_at(now_us) + if is_small { step_ms } else { 0 };
        let suspended = during == SetWhile::Suspended || in_doubt && last.suspended;
        let jump_ms = if suspended { JUMP_MS - SUSPENDED_MS } else { JUMP_MS };
        let ahead_ms = if in_doubt { last.ahead_ms + step_ms } else { step_ms };
        let believed_us = if during == SetWhile::Starting || ahead_ms <= jump_ms {
            now_us
        } else if during == SetWhile::Suspended {
            now_us + SUSPENDED_MS.cast_unsigned() * 1000 + HELD_US
        } else if step_ms > JUMP_MS {
            now_us + HELD_US
        } else {
            last.believed_us.max(now_us)
        };
        let seen = settings.iter().rev().find(|setting| setting.since_us + LOOK_US < now_us);
        let seen = seen.copied().unwrap_or_default();
        let is_one_step = settings.last().is_some_and(|last| now_us <= last.since_us + LOOK_US);
        let is_jump = skew_ms - seen.skew_ms > JUMP_MS;
        let together_ms =
            is_one_step.then(|| if is_jump { seen.believed_at(now_us) } else { skew_ms });
        // A node that stopped goes on from what it believed then, whatever its clock was set to in between.
        let is_stopped = matches!(during, SetWhile::Paused | SetWhile::Suspended);
        let from_stop_ms = (is_stopped && skew_ms - *at_stop_ms > jump_ms).then_some(*at_stop_ms);
        let kept_ms = last.together_ms.filter(|_| is_small).map(|together| together + step_ms);
        let together_ms = together_ms.max(from_stop_ms).max(kept_ms);
        if settings.len() == SETTINGS {
            settings.remove(0);
        }
        // A stopped node sees none of several settings but the last.
        let unseen = is_stopped && skew_ms - last.seen_ms <= JUMP_MS;
        let may_be_a_step =
            unseen || if in_doubt { last.may_be_a_step } else { suspended && ahead_ms <= JUMP_MS };
        let may_be_a_step = may_be_a_step || has_started;
        settings.push(Setting {
            since_us: now_us,
            skew_ms,
            seen_ms: if is_stopped { last.seen_ms } else { skew_ms },
            believed_us,
            before_ms,
            ahead_ms,
            suspended,
            may_be_a_step,
            together_ms,
        });
    }

    /// The node of a clock stops.
    pub(crate) fn stop(&mut self, now_us: u64, endpoint: Endpoint, how: SetWhile) {
        let Some(clock) = self.0.get_mut(&endpoint) else { return };
        clock.at_stop_ms = clock.settings.last().map_or(0, |last| last.believed_at(now_us));
        // What it has not looked at yet, it finds when it goes on.
        let unseen = clock.settings.pop_if(|last| now_us <= last.since_us + LOOK_US);
        if let Some(Setting { since_us, skew_ms, .. }) = unseen {
            self.set(since_us, endpoint, skew_ms, how);
        }
    }

    /// The node of a clock goes on, and looks at it soon.
    pub(crate) fn go_on(&mut self, now_us: u64, endpoint: Endpoint, after: SetWhile) {
        self.0.entry(endpoint).or_default().went_on = (now_us, after);
    }

    /// How far the date is off that a node believes now.
    pub(crate) fn believed_ms(&self, endpoint: Endpoint, now_us: u64) -> i64 {
        let last = self.0.get(&endpoint).and_then(|clock| clock.settings.last());
        last.map_or(0, |setting| setting.believed_at(now_us))
    }

    /// Whether a node may not have believed its clock at some time between these moments.
    pub(super) fn was_in_doubt(&self, endpoint: Endpoint, from_us: u64, to_us: u64) -> bool {
        let within = self.within(endpoint, from_us, to_us);
        within.into_iter().any(|setting| setting.believed_us > from_us.max(setting.since_us))
    }

    /// Whether any node may not have believed its clock at some time between these moments. Such a node decides no
    /// ticks while its date is behind.
    pub(super) fn was_any_in_doubt(&self, from_us: u64, to_us: u64) -> bool {
        self.0.keys().any(|endpoint| self.was_in_doubt(*endpoint, from_us, to_us))
    }

    /// How far ahead the date may have been by which a node decided ticks between these moments.
    pub(super) fn ahead_ms(&self, endpoint: Endpoint, from_us: u64, to_us: u64) -> i64 {
        let within = self.within(endpoint, from_us, to_us).into_iter();
        let believed = within.flat_map(|setting| {
            let since_us = from_us.max(setting.since_us);
            [setting.believed_at(since_us), setting.believed_at(to_us), setting.at_once()]
        });
        believed.max().unwrap_or(0).max(0)
    }

    /// The settings that held at some time between these moments.
    fn within(&self, endpoint: Endpoint, from_us: u64, to_us: u64) -> Vec<&Setting> {
        let settings = self.0.get(&endpoint).map_or(&[][..], |clock| &clock.settings);
        let after = settings.iter().map(|setting| setting.since_us).skip(1).chain([u64::MAX]);
        let within = settings.iter().zip(after);
        let within = within.filter(|(setting, end)| setting.since_us <= to_us && *end >= from_us);
        within.map(|(setting, _)| setting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;
    const NODE: Endpoint = Endpoint(1);

    #[test]
    fn a_step_is_believed_at_once_and_a_jump_after_a_minute() {
        let mut clocks = Clocks::default();
        assert_eq!(clocks.ahead_ms(NODE, 0, 10), 0);
        clocks.set(100, NODE, 20_000, SetWhile::Running);
        assert_eq!(clocks.ahead_ms(NODE, 0, 99), 0);
        assert_eq!(clocks.ahead_ms(NODE, 0, 100), 20_000);
        clocks.set(200, NODE, 20_000 + DAY_MS, SetWhile::Running);
        assert_eq!(clocks.ahead_ms(NODE, 200, 300), 20_000);
        assert_eq!(clocks.ahead_ms(NODE, 200, 200 + HELD_US), 20_000 + DAY_MS);
        clocks.set(300, NODE, 21_000 + DAY_MS, SetWhile::Running);
        assert_eq!(clocks.ahead_ms(NODE, 300, 399), 21_000);
        assert!(clocks.was_any_in_doubt(300, 399));
        // Set back by a minute, its date is behind, though its clock is ahead.
        clocks.set(350, NODE, DAY_MS - 39_000, SetWhile::Running);
        assert_eq!(clocks.believed_ms(NODE, 350), -39_000);
        assert_eq!(clocks.believed_ms(NODE, 300 + HELD_US), DAY_MS - 39_000);
        clocks.set(400, NODE, 0, SetWhile::Running);
        assert!(!clocks.was_any_in_doubt(401, 1000));
        assert_eq!(clocks.ahead_ms(NODE, 401, 1000), 0);
        // A clock that goes back by a step, to where it is not far ahead, is believed again.
        clocks.set(410, NODE, 2 * JUMP_MS, SetWhile::Running);
        assert!(clocks.was_in_doubt(NODE, 411, 412));
        clocks.set(420, NODE, JUMP_MS, SetWhile::Running);
        assert_eq!(clocks.ahead_ms(NODE, 421, 430), JUMP_MS);
        assert!(!clocks.was_in_doubt(NODE, 421, 430));
        clocks.set(440, NODE, 0, SetWhile::Running);
        clocks.set(450, NODE, JUMP_MS, SetWhile::Suspended);
        assert!(clocks.was_in_doubt(NODE, 451, 460));
        // A small step does not end the doubt.
        clocks.set(470, NODE, JUMP_MS + 673, SetWhile::Running);
        assert!(clocks.was_in_doubt(NODE, 471, 480));
        assert_eq!(clocks.ahead_ms(NODE, 471, 480), JUMP_MS + 673);
        // Nor does it see how far its clock was set back while it was stopped.
        for stopped in [SetWhile::Paused, SetWhile::Suspended] {
            clocks.set(480, NODE, -JUMP_MS, SetWhile::Running);
            clocks.set(481, NODE, -2 * JUMP_MS, stopped);
            clocks.set(482, NODE, 0, stopped);
            clocks.set(490, NODE, 4_000, SetWhile::Running);
            assert!(clocks.was_in_doubt(NODE, 491, 495));
            assert_eq!(clocks.ahead_ms(NODE, 491, 495), 4_000);
        }
        clocks.set(500, NODE, DAY_MS, SetWhile::Starting);
        assert_eq!(clocks.ahead_ms(NODE, 501, 1000), DAY_MS);
    }

    #[test]
    fn a_clock_that_is_set_when_its_process_has_just_started_may_be_believed() {
        for (late_us, ahead_ms) in [(LOOK_US, DAY_MS), (LOOK_US + 1, 0)] {
            let mut clocks = Clocks::default();
            clocks.set(1_000_000, NODE, 0, SetWhile::Starting);
            let set_us = 1_000_000 + late_us;
            clocks.set(set_us, NODE, DAY_MS, SetWhile::Running);
            assert!(clocks.was_in_doubt(NODE, set_us, set_us + 10), "it may have looked before");
            assert_eq!(clocks.ahead_ms(NODE, set_us, set_us + 10), ahead_ms);
        }
    }

    #[test]
    fn two_settings_that_a_node_sees_together_are_one() {
        for (late_us, ahead_ms) in [(LOOK_US, 11_000), (LOOK_US + 1, 1_000)] {
            let mut clocks = Clocks::default();
            clocks.set(0, NODE, 11_000, SetWhile::Starting);
            clocks.set(1_000_000, NODE, 1_000, SetWhile::Running);
            let set_us = 1_000_000 + late_us;
            clocks.set(set_us, NODE, DAY_MS, SetWhile::Running);
            // It may not know that the clock was set back.
            assert_eq!(clocks.ahead_ms(NODE, set_us + 10, set_us + 20), ahead_ms);
        }
    }

    #[test]
    fn a_node_goes_on_from_what_it_believed_when_it_stopped() {
        for (ran_us, how) in [(60_000, SetWhile::Paused), (LOOK_US + 1, SetWhile::Suspended)] {
            let mut clocks = Clocks::default();
            clocks.set(0, NODE, 0, SetWhile::Starting);
            clocks.set(1_000_000, NODE, 19_000, SetWhile::Running);
            clocks.stop(1_000_000 + ran_us, NODE, how);
            // It sees none of that, and does not believe the day.
            clocks.set(3_000_000, NODE, 0, how);
            clocks.set(4_000_000, NODE, DAY_MS, how);
            clocks.go_on(5_000_000, NODE, how);
            assert_eq!(clocks.ahead_ms(NODE, 6_000_000, 6_000_001), 19_000);
            // Nor does a small step end the doubt.
            clocks.set(7_000_000, NODE, DAY_MS + 500, SetWhile::Running);
            assert_eq!(clocks.ahead_ms(NODE, 7_500_000, 7_500_001), 19_500);
            clocks.set(8_000_000, NODE, 0, SetWhile::Running);
            assert_eq!(clocks.ahead_ms(NODE, 9_000_000, 9_000_001), 0);
        }
    }

    #[test]
    fn a_clock_that_is_set_beside_a_suspension_is_set_during_it() {
        let set_right_after = |late_us: u64| {
            let mut clocks = Clocks::default();
            clocks.set(0, NODE, -JUMP_MS, SetWhile::Running);
            clocks.stop(1_000_000, NODE, SetWhile::Suspended);
            clocks.go_on(8_000_000, NODE, SetWhile::Suspended);
            clocks.set(8_000_000 + late_us, NODE, 0, SetWhile::Running);
            clocks
        };
        let clocks = set_right_after(LOOK_US);
        assert!(clocks.was_in_doubt(NODE, 9_000_000, 9_000_001));
        assert_eq!(clocks.ahead_ms(NODE, 9_000_000, 9_000_001), 0);
        let clocks = set_right_after(LOOK_US + 1);
        assert!(!clocks.was_in_doubt(NODE, 9_000_000, 9_000_001));

        let set_right_before = |early_us: u64| {
            let mut clocks = Clocks::default();
            clocks.set(0, NODE, -JUMP_MS, SetWhile::Running);
            clocks.set(1_000_000, NODE, 0, SetWhile::Running);
            clocks.stop(1_000_000 + early_us, NODE, SetWhile::Suspended);
            clocks
        };
        assert!(set_right_before(LOOK_US).was_in_doubt(NODE, 9_000_000, 9_000_001));
        assert!(!set_right_before(LOOK_US + 1).was_in_doubt(NODE, 9_000_000, 9_000_001));
    }
}
