//! The pulse of a connection: when to send heartbeats, and when to give up a connection without
//! acknowledgements.
//!
//! A node can stall, or a network drop all packets, without breaking the connection. The worker must
//! reconnect through another node before the TTL of its session is over. Time is counted in ticks, and a
//! pause of this process counts as at most one tick, so that the server is not blamed for it.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

/// Number of ticks in a TTL.
const TICKS: u32 = 8;
/// Number of ticks between heartbeats: four heartbeats in a TTL.
const HEARTBEAT_EVERY: u32 = 2;
/// Maximum ticks for an acknowledgement at first: a quarter of the TTL.
const PATIENCE_MIN: u32 = 2;
/// The same on slow connections: more than any message takes. A large payload on a slow link delays the
/// messages behind it, and giving up would only send it again. Then the pings of HTTP/2 detect a stalled
/// node.
const PATIENCE_MAX: u32 = 512 * TICKS;
/// Number of consecutive heartbeats with prompt answers after which a connection is not slow: those of a TTL.
const PROMPT: u32 = TICKS / HEARTBEAT_EVERY;

/// The maximum time for acknowledgements, learned from one connection to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience(u32);

impl Default for Patience {
    fn default() -> Self {
        Self(PATIENCE_MIN)
    }
}

impl Patience {
    /// Records that a silent connection was given up. The next one gets more time, because the network may
    /// just be slow.
    pub(crate) fn grow(&mut self) {
        self.0 = (self.0 * 2).min(PATIENCE_MAX);
    }

    /// Time for a node to welcome a worker whose session has this TTL, when it was tried so often before. Each
    /// try doubles the least time: a node without a leader keeps the worker waiting and must not use up the
    /// TTL, but a slow leader needs the time.
    pub(crate) fn for_welcome(self, ttl: Duration, tries: u32) -> Duration {
        let least = PATIENCE_MIN << tries.min(16);
        (ttl / TICKS).saturating_mul(self.0.max(least))
    }
}

/// The action of a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Send a heartbeat.
    Send,
    /// Do nothing.
    Rest,
    /// Give up the connection, because heartbeats were not acknowledged in time.
    Silent,
}

/// What a message of the server shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The server reaches the worker.
    Something,
    /// The worker reaches the server, too.
    Acknowledgement,
}

/// The pulse of one connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    ticks: Interval,
    judge: Judge,
}

impl Pulse {
    /// Begins with a heartbeat. Silence counts only if the server acknowledges heartbeats.
    pub(crate) fn new(ttl: Duration, patience: Option<Patience>) -> Self {
        let mut ticks = tokio::time::interval(ttl / TICKS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, judge: Judge::new(patience) }
    }

    /// Waits for the next tick. Cancel safe.
    pub(crate) async fn tick(&mut self) -> Beat {
        self.ticks.tick().await;
        self.judge.tick()
    }

    /// Records a message of the server.
    pub(crate) fn heard(&mut self, message: Heard) {
        self.judge.heard(message);
    }

    /// The patience after this connection, for the next one. `None` if the server acknowledges no heartbeats.
    pub(crate) fn patience(&self) -> Option<Patience> {
        self.judge.patience
    }

    /// Whether the last heartbeats were answered promptly, for a TTL.
    pub(crate) fn was_prompt(&self) -> bool {
        self.judge.prompt >= PROMPT
    }
}

#[derive(Debug)]
struct Judge {
    patience: Option<Patience>,
    /// Ticks until the next heartbeat.
    rest: u32,
    /// Ticks since the oldest heartbeat without a later message of the server.
    unanswered: Option<u32>,
    /// Ticks since the oldest heartbeat without a later acknowledgement.
    unacknowledged: Option<u32>,
    /// Consecutive heartbeats that were acknowledged as soon as the least patience asks for.
    prompt: u32,
}

impl Judge {
    fn new(patience: Option<Patience>) -> Self {
        Self { patience, rest: 0, unanswered: None, unacknowledged: None, prompt: 0 }
    }

    /// Ends the extra patience when the connection has shown that it is not slow. Kept longer, it would let a
    /// node that stops later use up the whole TTL.
    fn heard(&mut self, message: Heard) {
        self.unanswered = None;
        if message == Heard::Something {
            return;
        }
        let Some(unacknowledged) = self.unacknowledged.take() else { return };
        self.prompt = if unacknowledged < PATIENCE_MIN { self.prompt + 1 } else { 0 };
        if self.prompt >= PROMPT {
            self.patience = self.patience.map(|_| Patience::default());
        }
    }

    fn tick(&mut self) -> Beat {
        for count in [&mut self.unanswered, &mut self.unacknowledged].into_iter().flatten() {
            *count += 1;
        }
        if self.is_silent() {
            return Beat::Silent;
        }
        if self.rest > 0 {
            self.rest -= 1;
            return Beat::Rest;
        }
        self.rest = HEARTBEAT_EVERY - 1;
        self.unanswered.get_or_insert(0);
        self.unacknowledged.get_or_insert(0);
        Beat::Send
    }

    /// A network can carry one direction only, so tasks that arrive do not show that heartbeats do. But they can
    /// delay an acknowledgement, which gets half as much time again.
    fn is_silent(&self) -> bool {
        let Some(Patience(patience)) = self.patience else { return false };
        self.unanswered.is_some_and(|ticks| ticks >= patience)
            || self.unacknowledged.is_some_and(|ticks| ticks >= patience + patience / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::{Beat::*, Heard::*, *};

    fn ticks(judge: &mut Judge, count: usize) -> Vec<Beat> {
        (0..count).map(|_| judge.tick()).collect()
    }

    #[test]
    fn silence_is_noticed_with_half_of_the_ttl_left() {
        let mut judge = Judge::new(Some(Patience::default()));
        assert_eq!(ticks(&mut judge, 2), [Send, Rest]);
        // Heard of just before a heartbeat: nothing passes from then on.
        judge.heard(Acknowledgement);
        assert_eq!(ticks(&mut judge, 3), [Send, Rest, Silent], "with the one before, half a TTL");
    }

    #[test]
    fn who_answers_in_time_is_never_silent() {
        let mut judge = Judge::new(Some(Patience::default()));
        for _ in 0..20 {
            assert_eq!(judge.tick(), Send);
            assert_eq!(judge.tick(), Rest);
            judge.heard(Acknowledgement);
        }
    }

    #[test]
    fn tasks_that_arrive_do_not_show_that_heartbeats_do() {
        let mut judge = Judge::new(Some(Patience::default()));
        let mut beats = Vec::new();
        for _ in 0..4 {
            beats.push(judge.tick());
            judge.heard(Something);
        }
        assert_eq!(beats, [Send, Rest, Send, Silent], "with the one before, five eighths of a TTL");
    }

    #[test]
    fn a_server_that_acknowledges_nothing_is_not_judged() {
        let mut judge = Judge::new(None);
        assert!(ticks(&mut judge, 40).iter().all(|beat| *beat != Silent));
    }

    #[test]
    fn a_slow_way_is_given_more_time() {
        let mut patience = Patience::default();
        let ttl = Duration::from_secs(8);
        let mut waits = Vec::new();
        for _ in 0..3 {
            waits.push(patience.for_welcome(ttl, 0).as_secs());
            patience.grow();
        }
        assert_eq!(waits, [2, 4, 8]);
        let mut judge = Judge::new(Some(patience));
        let beats = ticks(&mut judge, 17);
        assert!(beats[..16].iter().all(|beat| *beat != Silent), "{beats:?}");
        assert_eq!(beats[16], Silent);
        for _ in 0..100 {
            patience.grow();
        }
        assert_eq!(patience.for_welcome(ttl, 0), ttl * 512);
    }

    /// A judge with the patience of a TTL, as after two silent connections.
    fn patient() -> Judge {
        let mut patience = Patience::default();
        patience.grow();
        patience.grow();
        Judge::new(Some(patience))
    }

    #[test]
    fn prompt_answers_of_one_ttl_end_the_patience_that_silence_has_brought() {
        let mut judge = patient();
        for _ in 0..PROMPT {
            assert_eq!(ticks(&mut judge, 2), [Send, Rest]);
            judge.heard(Acknowledgement);
        }
        assert_eq!(judge.patience, Some(Patience::default()));
        assert_eq!(ticks(&mut judge, 3), [Send, Rest, Silent], "a node that stops is left in time");
    }

    #[test]
    fn one_late_answer_shows_that_the_connection_is_still_slow() {
        let mut judge = patient();
        let before = judge.patience;
        for _ in 1..PROMPT {
            assert_eq!(ticks(&mut judge, 2), [Send, Rest]);
            judge.heard(Acknowledgement);
        }
        assert_eq!(ticks(&mut judge, 4), [Send, Rest, Send, Rest]);
        judge.heard(Acknowledgement);
        for _ in 1..PROMPT {
            assert_eq!(ticks(&mut judge, 2), [Send, Rest]);
            // Several messages answer one heartbeat.
            judge.heard(Acknowledgement);
            judge.heard(Acknowledgement);
        }
        assert_eq!(judge.patience, before);
    }

    #[test]
    fn an_answer_to_the_heartbeat_before_the_last_is_not_prompt() {
        let mut judge = patient();
        for _ in 0..8 {
            // The answer comes with the next heartbeat: after a quarter of the TTL.
            judge.tick();
            judge.tick();
            judge.tick();
            judge.heard(Acknowledgement);
            judge.tick();
            judge.heard(Acknowledgement);
            assert_eq!(judge.prompt, 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_prompt_after_the_four_heartbeats_of_a_ttl() {
        let mut patience = Patience::default();
        patience.grow();
        let mut pulse = Pulse::new(Duration::from_secs(8), Some(patience));
        let began = tokio::time::Instant::now();
        for _ in 0..4 {
            assert!(!pulse.was_prompt());
            assert_eq!(pulse.patience(), Some(patience));
            assert_eq!([pulse.tick().await, pulse.tick().await], [Send, Rest]);
            pulse.heard(Acknowledgement);
        }
        assert_eq!(began.elapsed().as_secs(), 7, "the first is sent at once");
        assert!(pulse.was_prompt());
        assert_eq!(pulse.patience(), Some(Patience::default()));
    }

    #[test]
    fn nodes_that_do_not_welcome_a_worker_get_twice_the_time_with_each_try() {
        let (patience, ttl) = (Patience::default(), Duration::from_secs(8));
        let waits = [0, 1, 2, 3].map(|rounds| patience.for_welcome(ttl, rounds).as_secs());
        assert_eq!(waits, [2, 4, 8, 16]);
        let patience = patient().patience.expect("a patience");
        let waits = [0, 1, 2, 3].map(|rounds| patience.for_welcome(ttl, rounds).as_secs());
        assert_eq!(waits, [8, 8, 8, 16], "a way that was slow gets what it took");
        assert_eq!(patience.for_welcome(Duration::MAX, u32::MAX), Duration::MAX);
    }
}
