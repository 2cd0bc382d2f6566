//! What the auditor keeps of one task, and the rules that concern it alone.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    records::{COMPLETED, Done, Live},
    rules::Rule,
};

/// Changes of a task that are remembered, to judge reads by.
const HISTORY: usize = 12;

/// How a task stands, as far as both a reader and the records can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// There is none.
    Absent,
    /// Scheduled or pending.
    Waits,
    /// Assigned or running.
    Leased,
    /// Ended; the number says how.
    Ended(u32),
}

/// The submission that a payload names.
pub(crate) fn tag_of(payload: &[u8]) -> Option<u64> {
    let digits = payload.get(..16)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[derive(Debug, Default)]
pub(super) struct Task {
    pub(super) has_spec: bool,
    pub(super) live: Option<Live>,
    done: Option<Done>,
    dead: Option<Done>,
    pub(super) result: Option<Bytes>,
    /// As it was after the last batch.
    was_live: Option<Live>,
    was_done: Option<Done>,
    token_max: u64,
    /// Leases that are known to have ended, by whom it held.
    ends: Vec<u64>,
    tokens: Vec<u64>,
    pub(super) history: VecDeque<(u64, Class)>,
    /// When batches changed it. A read that is answered with one may see what held within it.
    changed: VecDeque<u64>,
    /// A client asked for it to be deleted, or tried again.
    pub(super) may_go: bool,
    pub(super) may_return: bool,
    pub(super) accepted: bool,
}

/// What a batch did to a task.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) broken: Vec<(Rule, String)>,
    pub(super) leased: bool,
    pub(super) ended: bool,
    /// The session that lost its lease on it.
    pub(super) lost_by: Option<u64>,
}

impl Task {
    pub(super) fn put_done(&mut self, completed: bool, done: Option<Done>) {
        if completed {
            self.done = done;
        } else {
            self.dead = done;
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.live.is_some() || self.ended().is_some()
    }

    fn ended(&self) -> Option<Done> {
        self.done.or(self.dead)
    }

    /// Whether the end of that lease is durable, or the task went with it because a client asked.
    pub(super) fn has_ended(&self, token: u64) -> bool {
        self.ends.contains(&token) || (self.may_go && !self.exists())
    }

    pub(super) fn had(&self, token: u64) -> bool {
        self.tokens.contains(&token)
    }

    pub(super) fn class(&self) -> Class {
        match (&self.live, self.ended()) {
            (Some(live), _) if live.lease.is_some() => Class::Leased,
            (Some(_), _) => Class::Waits,
            (None, Some(done)) => Class::Ended(done.status),
            (None, None) => Class::Absent,
        }
    }

    /// Whether the task stood so at some moment between these two. Unknown counts as yes.
    pub(super) fn stood_so(&self, class: Class, from_us: u64, to_us: u64) -> bool {
        if self.changed.iter().any(|at_us| (from_us..=to_us).contains(at_us)) {
            return true;
        }
        let mut until_us = u64::MAX;
        for (since_us, stood) in self.history.iter().rev() {
            if *since_us <= to_us && until_us >= from_us && *stood == class {
                return true;
            }
            until_us = *since_us;
        }
        // Before the first change that is remembered.
        if self.history.len() == HISTORY {
            until_us > from_us
        } else {
            class == Class::Absent && until_us >= from_us
        }
    }

    /// Checks what the batch came to, and remembers it.
    pub(super) fn settle(&mut self, now_us: u64, seq: u64, wall_max_ms: i64) -> Judged {
        let mut judged = Judged::default();
        self.check_place(&mut judged, wall_max_ms);
        self.check_lease(&mut judged, seq);
        self.check_end(&mut judged);
        let class = self.class();
        if self.changed.len() == HISTORY {
            self.changed.pop_front();
        }
        self.changed.push_back(now_us);
        if self.history.back().is_none_or(|(_, last)| *last != class) {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back((now_us, class));
        }
        self.was_live.clone_from(&self.live);
        self.was_done = self.ended();
        judged
    }

    /// It is in one place, and leaves it as it may.
    fn check_place(&mut self, judged: &mut Judged, wall_max_ms: i64) {
        let ended = self.ended();
        let mut broken = |rule, what: &str| judged.broken.push((rule, what.to_owned()));
        if self.live.is_some() && ended.is_some() || self.done.is_some() && self.dead.is_some() {
            broken(Rule::Ends, "is in two places at once");
        }
        if self.exists() && !self.has_spec {
            broken(Rule::Lost, "has no definition");
        }
        match (&self.was_live, &self.was_done) {
            (Some(_), _) if !self.exists() && !self.may_go => {
                broken(Rule::Lost, "vanished while it was live");
            }
            (None, Some(was)) => match ended {
                Some(now) if now != *was && !self.may_return => {
                    broken(Rule::Ends, "ended a second time");
                }
                Some(_) => {}
                None if self.live.is_some() && !self.may_return => {
                    broken(Rule::Ends, "lives again, and nobody asked for that");
                }
                None if self.live.is_some() => {}
                None if !self.may_go && was.retain_until_ms > wall_max_ms => {
                    broken(Rule::Lost, "was removed before its time");
                }
                None => {}
            },
            _ => {}
        }
    }

    fn check_lease(&mut self, judged: &mut Judged, seq: u64) {
        let before = self.was_live.as_ref().and_then(|live| live.lease.clone());
        let now = self.live.as_ref().and_then(|live| live.lease.clone());
        let lost_before = self.was_live.as_ref().map_or(0, |live| live.lost);
        let lost_now = self
            .live
            .as_ref()
            .map_or_else(|| self.ended().map_or(lost_before, |done| done.lost), |live| live.lost);
        if let Some(lease) = &before
            && lost_now > lost_before
        {
            judged.lost_by = Some(lease.session);
        }
        let Some(lease) = now else { return };
        if before.as_ref().is_some_and(|before| before.token == lease.token) {
            if before.is_some_and(|before| before.session != lease.session) {
                let what = "one lease went from a session to another";
                judged.broken.push((Rule::Tokens, what.to_owned()));
            }
            return;
        }
        judged.leased = true;
        if lease.token <= self.token_max || lease.token > seq {
            let what =
                format!("lease {} in batch {seq} after lease {}", lease.token, self.token_max);
            judged.broken.push((Rule::Tokens, what));
        }
        self.token_max = self.token_max.max(lease.token);
        self.tokens.push(lease.token);
    }

    fn check_end(&mut self, judged: &mut Judged) {
        let ended = self.ended();
        let live_end = self.live.as_ref().and_then(|live| live.last_end);
        let done_end = ended.and_then(|done| done.last_end);
        let last = ended.and_then(|done| done.last);
        let ends = live_end.into_iter().chain(done_end).map(|end| end.token);
        for token in ends.chain(last.map(|last| last.token)) {
            if !self.ends.contains(&token) {
                self.ends.push(token);
            }
            if token > 0 && token > self.token_max {
                // Leased and ended within one batch.
                self.token_max = token;
                self.tokens.push(token);
            }
        }
        judged.ended = self.was_live.is_some() && ended.is_some();
        if let Some(done) = ended
            && done.status == COMPLETED
            && done.has_result != self.result.is_some()
        {
            judged.broken.push((Rule::Lost, "its result is not there".to_owned()));
        }
    }
}
