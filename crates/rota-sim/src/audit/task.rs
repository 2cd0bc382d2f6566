//! What the auditor keeps of one task, and the rules that concern it alone.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{
    Op,
    asked::{Intent, Moment, check_dates},
    edits::Edited,
    queues::Waits,
    records::{Attempt, CANCELLED, COMPLETED, Done, Live, PENDING, RELEASED},
    rules::Rule,
    snoozes::Snooze,
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
    /// A schedule created it.
    pub(super) of_schedule: bool,
    pub(super) live: Option<Live>,
    done: Option<Done>,
    dead: Option<Done>,
    pub(super) result: Option<Bytes>,
    /// As it was after the last batch.
    pub(super) was_live: Option<Live>,
    was_done: Option<Done>,
    token_max: u64,
    /// Leases that are known to have ended, by whom it held.
    ends: Vec<u64>,
    /// All its leases, each with whose it is where that is known.
    tokens: Vec<(u64, Option<u64>)>,
    pub(super) history: VecDeque<(u64, Class)>,
    /// When batches changed it. A read that is answered with one may see what held within it.
    changed: VecDeque<u64>,
    /// A client asked for it to be deleted.
    pub(super) may_go: bool,
    pub(super) accepted: bool,
    /// The lease that its worker gave back last.
    pub(super) given_back: Option<u64>,
    /// What its worker asked for when it snoozed it last.
    pub(super) snoozing: Option<Box<Snooze>>,
    /// The attempt whose record is written in the batch at hand.
    pub(super) attempted: Option<Attempt>,
    /// What edits made of it, if there were any.
    pub(super) edited: Option<Box<Edited>>,
    /// What its client asked for, where that is known.
    pub(super) intent: Option<Box<Intent>>,
    /// When it appeared, and when it was last tried again.
    appeared_us: Option<u64>,
    revived_us: Option<u64>,
    /// Names that stand for it.
    pub(super) names: u32,
    /// Where it was counted as waiting.
    pub(super) counted: Waits,
    /// The queue that it is a task of.
    pub(super) queue: String,
}

/// What a batch did to a task.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) broken: Vec<(Rule, String)>,
    /// The same, unless somebody may have asked for one of these within the batch.
    pub(super) doubted: Vec<(&'static [Op], Rule, String)>,
    pub(super) leased: bool,
    pub(super) ended: bool,
    pub(super) snoozed: bool,
    /// The session that lost its lease on it.
    pub(super) lost_by: Option<u64>,
    /// The session from which it was taken back, if its worker did not give it back.
    pub(super) taken_from: Option<u64>,
    /// Whose lease it was, and whose it is, by which token.
    pub(super) lease_moved: (Option<u64>, Option<u64>),
    pub(super) token: u64,
    /// What somebody must have asked for.
    pub(super) asked: Vec<Op>,
    /// It appeared, or is gone.
    pub(super) appeared: bool,
    pub(super) vanished: bool,
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

    /// Whether it is removed soon after its end.
    pub(super) fn is_brief(&self) -> bool {
        self.intent.as_ref().is_some_and(|intent| intent.is_short_lived)
    }

    pub(super) fn ended(&self) -> Option<Done> {
        self.done.or(self.dead)
    }

    /// Whether the end of that lease is durable, or the task went with it because a client asked.
    pub(super) fn has_ended(&self, token: u64) -> bool {
        self.ends.contains(&token) || (self.may_go && !self.exists())
    }

    pub(super) fn had(&self, token: u64) -> bool {
        self.tokens.iter().any(|(other, _)| *other == token)
    }

    /// Whose that lease is.
    pub(super) fn holder(&self, token: u64) -> Option<u64> {
        self.tokens.iter().find(|(other, _)| *other == token)?.1
    }

    /// Whether it has been there since then, and stood still. A list reads live tasks first and then
    /// ended ones, so one that is tried again in between may be in neither.
    pub(super) fn rests_since(&self, since_us: u64) -> bool {
        let there = self.exists() && self.appeared_us.is_some_and(|at_us| at_us < since_us);
        there && self.changed.back().is_none_or(|at_us| *at_us < since_us)
    }

    /// Whether it lived after the last batch that was judged.
    pub(super) fn lived(&self) -> bool {
        self.was_live.is_some()
    }

    /// Where it waits for a worker, if it does.
    pub(super) fn waits(&self) -> Waits {
        let live = self.live.as_ref()?;
        let waits = live.lease.is_none() && live.status == PENDING;
        waits.then(|| (live.queue.clone(), live.priority))
    }

    /// What it lacks of something that was acknowledged as done since then.
    pub(super) fn lacks(&self, op: Op, since_us: u64) -> Option<&'static str> {
        let changed = self.changed.iter().any(|at_us| *at_us >= since_us);
        let revived = self.revived_us.is_some_and(|at_us| at_us >= since_us);
        match (op, &self.live) {
            // One that changed may have ended and been retried within a step.
            (Op::Cancel, Some(live)) => (!live.cancel_requested && !revived && !changed)
                .then_some("nobody is told to stop it"),
            (Op::Retry, _) => (!revived && !changed).then_some("it does not live again"),
            (Op::Delete, _) => self.exists().then_some("it is there"),
            _ => None,
        }
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
    pub(super) fn settle(&mut self, at: &Moment) -> Judged {
        let mut judged = Judged::default();
        self.check_place(&mut judged);
        self.check_lease(&mut judged, at);
        self.check_end(&mut judged);
        self.check_snooze(&mut judged, at);
        self.attempted = None;
        let edits = self.check_edits(&mut judged, at);
        self.check_asked(&mut judged, at, edits);
        self.note_appearance(&mut judged, at.now_us);
        let class = self.class();
        if self.changed.len() == HISTORY {
            self.changed.pop_front();
        }
        self.changed.push_back(at.now_us);
        if self.history.back().is_none_or(|(_, last)| *last != class) {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back((at.now_us, class));
        }
        self.was_live.clone_from(&self.live);
        self.was_done = self.ended();
        judged
    }

    fn note_appearance(&mut self, judged: &mut Judged, now_us: u64) {
        let before = self.was_live.is_some() || self.was_done.is_some();
        judged.appeared = !before && self.exists();
        judged.vanished = before && !self.exists();
        if judged.appeared {
            self.appeared_us = Some(now_us);
            let asked = self.intent.as_ref().map(|intent| intent.queue.clone());
            let queue = self.live.as_ref().map(|live| live.queue.clone()).or(asked);
            self.queue = queue.unwrap_or_default();
        }
        if judged.vanished && self.names > 0 {
            let what = "is gone, and its names are taken".to_owned();
            judged.broken.push((Rule::Names, what));
        }
    }

    /// What must have been asked for, and whether what came of it is that.
    fn check_asked(&mut self, judged: &mut Judged, at: &Moment, edits: u32) {
        let ended = self.ended();
        let (before, now) = (self.was_live.as_ref(), self.live.as_ref());
        let stopping = |live: Option<&Live>| live.is_some_and(|live| live.cancel_requested);
        let cancelled = ended.is_some_and(|done| done.status == CANCELLED);
        let was_cancelled = self.was_done.is_some_and(|done| done.status == CANCELLED);
        if !stopping(before) && !was_cancelled && (stopping(now) || cancelled) {
            judged.asked.push(Op::Cancel);
        }
        let again = ended.is_some() && ended != self.was_done;
        if self.was_done.is_some() && (now.is_some() || again) {
            judged.asked.push(Op::Retry);
            self.revived_us = Some(at.now_us);
        }
        if let Some(was) = self.was_done
            && !self.exists()
            && was.retain_until_ms > at.wall_max_ms
        {
            judged.asked.push(Op::Delete);
        }
        // Of several edits within a batch, only the last one can be seen.
        let edited = self.edited.as_deref().filter(|_| edits > 0);
        let by_edit = |asks: fn(&Edited) -> bool| edited.is_some_and(|one| edits > 1 || asks(one));
        if let (Some(before), Some(now)) = (before, now) {
            if before.priority != now.priority && !by_edit(|edited| edited.priority.is_some()) {
                judged.asked.push(Op::Priority);
            }
            let waits = before.lease.is_none() && now.lease.is_none();
            let same = before.failures == now.failures && before.attempt == now.attempt;
            let moved = before.run_at_ms != now.run_at_ms;
            if waits && same && moved && !by_edit(|edited| edited.run_at_ms.is_some()) {
                judged.asked.push(Op::Postpone);
            }
        }
        judged.asked.extend(std::iter::repeat_n(Op::Edit, edits as usize));
        let Some(intent) = &self.intent else { return };
        let is_new = self.was_live.is_none() && self.was_done.is_none();
        if let Some(live) = now.filter(|_| is_new) {
            intent.check_new(live, at, judged);
        }
        // An edit may have lowered the budget below what is spent.
        if edits == 0 {
            intent.check_attempts(before, now, ended, at, judged);
        }
    }

    /// Checks what edits made of it. Says how many the batch made.
    fn check_edits(&mut self, judged: &mut Judged, at: &Moment) -> u32 {
        let live = self.live.as_ref().map(|live| live.edits);
        let now = live.or_else(|| self.ended().map(|done| done.edits));
        if self.edited.is_none() && now.unwrap_or(0) == 0 {
            return 0;
        }
        let edited = self.edited.get_or_insert_default();
        let edits = edited.settle(now, at, judged);
        let Some(live) = self.live.as_ref().filter(|_| edits > 0) else { return edits };
        let leased = |live: &Live| live.lease.as_ref().map(|lease| lease.token);
        let had = self.was_live.as_ref().and_then(leased);
        if had.is_some() && had == leased(live) {
            let what = "was edited while a worker had it".to_owned();
            judged.broken.push((Rule::Versions, what));
        }
        if edited.priority.is_some_and(|priority| priority != live.priority) {
            let what =
                format!("was edited to priority {:?}, not {}", edited.priority, live.priority);
            judged.doubted.push((&[Op::Priority, Op::Retry], Rule::Asked, what));
        }
        let early_ms = at.behind_ms + at.slack_ms();
        if edited.run_at_ms.is_some_and(|asked_ms| live.run_at_ms < asked_ms - early_ms) {
            let what =
                format!("was edited to run at {:?}, not {}", edited.run_at_ms, live.run_at_ms);
            judged.doubted.push((&[Op::Postpone, Op::Retry], Rule::Dates, what));
        }
        let asked = self.intent.as_ref().map(|intent| intent.expires_at_ms);
        if asked.is_some_and(|expires_at_ms| expires_at_ms != live.expires_at_ms) {
            let what = format!("was edited to expire at {asked:?}, not {:?}", live.expires_at_ms);
            judged.doubted.push((&[Op::Retry], Rule::Asked, what));
        }
        edits
    }

    /// It is in one place, and leaves it as it may.
    fn check_place(&self, judged: &mut Judged) {
        let ended = self.ended();
        let mut broken = |rule, what: &str| judged.broken.push((rule, what.to_owned()));
        if self.live.is_some() && ended.is_some() || self.done.is_some() && self.dead.is_some() {
            broken(Rule::Ends, "is in two places at once");
        }
        if self.exists() && !self.has_spec {
            broken(Rule::Lost, "has no definition");
        }
        // One that ended within the batch may be removed within it.
        let is_short_lived = self.intent.as_ref().is_none_or(|intent| intent.is_short_lived);
        if self.was_live.is_some() && !self.exists() && !self.may_go && !is_short_lived {
            broken(Rule::Lost, "vanished while it was live");
        }
    }

    fn check_lease(&mut self, judged: &mut Judged, at: &Moment) {
        let seq = at.seq;
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
        let session =
            |lease: &Option<super::records::Lease>| lease.as_ref().map(|lease| lease.session);
        judged.lease_moved = (session(&before), session(&now));
        let back = self.live.as_ref().and_then(|live| live.last_end);
        let back = back.filter(|end| end.kind == RELEASED && self.given_back != Some(end.token));
        let taken = before.as_ref().filter(|lease| Some(lease.token) == back.map(|end| end.token));
        judged.taken_from = taken.map(|lease| lease.session);
        let Some(lease) = now else { return };
        judged.token = lease.token;
        if before.as_ref().is_some_and(|before| before.token == lease.token) {
            if before.is_some_and(|before| before.session != lease.session) {
                let what = "one lease went from a session to another";
                judged.broken.push((Rule::Tokens, what.to_owned()));
            }
            return;
        }
        judged.leased = true;
        self.check_due(judged, at);
        if lease.token <= self.token_max || lease.token > seq {
            let what =
                format!("lease {} in batch {seq} after lease {}", lease.token, self.token_max);
            judged.broken.push((Rule::Tokens, what));
        }
        self.token_max = self.token_max.max(lease.token);
        self.tokens.push((lease.token, Some(lease.session)));
    }

    /// It was given away when it could run.
    fn check_due(&self, judged: &mut Judged, at: &Moment) {
        let Some(live) = &self.live else { return };
        let expires_at_ms = match &self.intent {
            Some(intent) if self.revived_us.is_none() && self.was_done.is_none() => {
                intent.expires_at_ms
            }
            _ => live.expires_at_ms,
        };
        check_dates(live.run_at_ms, expires_at_ms, at, judged);
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
                self.tokens.push((token, None));
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
