//! Snoozes: an attempt ends with "not now", spends nothing of its budget, and the task waits until then.

use super::{
    Op, Rule, Task,
    asked::Moment,
    records::{COMPLETED, FAILED, Live, RELEASED},
    task::Judged,
};

/// What a worker asked for when it snoozed a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snooze {
    /// By which lease.
    pub(crate) token: u64,
    /// Until when, by a true clock.
    pub(crate) until_ms: i64,
    /// It named a delay, and the node's clock made a date of it.
    pub(crate) by_delay: bool,
}

impl Task {
    /// Checks whether the batch snoozed the task, and should have.
    pub(super) fn check_snooze(&self, judged: &mut Judged, at: &Moment) {
        let Some(before) = &self.was_live else { return };
        if self.edited.as_ref().is_some_and(|edited| edited.written) {
            // The bound may have been another one before.
            return;
        }
        let snoozes = self.live.as_ref().map_or(before.snoozes, |live| live.snoozes);
        let Some(lease) = &before.lease else {
            if snoozes > before.snoozes {
                judged.broken.push((Rule::Asked, "was snoozed while nobody had it".to_owned()));
            }
            return;
        };
        let asked = self.snoozing.as_deref().filter(|snooze| snooze.token == lease.token);
        let left = self.intent.as_ref().map_or(u32::MAX, |intent| intent.max_snoozes);
        let is_left = before.snoozes < left;
        match (asked, &self.live) {
            (Some(snooze), Some(live)) if snoozes > before.snoozes => {
                if !is_left {
                    let what = format!("was snoozed {snoozes} times, of {left}");
                    judged.broken.push((Rule::Asked, what));
                }
                self.check_snoozed(before, live, snooze, judged, at);
            }
            (None, Some(_)) if snoozes > before.snoozes => {
                let what = "was snoozed, though its worker did not ask for it";
                judged.broken.push((Rule::Asked, what.to_owned()));
            }
            (Some(_), live) if self.ended_by_report(lease.token) => {
                let failed = live.as_ref().is_some_and(|live| live.failures > before.failures);
                let status = self.ended().map_or(0, |done| done.status);
                let what = format!("an attempt that was snoozed came to {live:?}, {status}");
                // A worker that leaves gives its tasks back, also one whose report is still on its way.
                let released = live.as_ref().and_then(|live| live.last_end);
                let released = released.is_some_and(|end| end.kind == RELEASED);
                if is_left && (failed || status == FAILED) || status == COMPLETED {
                    judged.broken.push((Rule::Asked, what));
                } else if live.is_some() && !failed && !released {
                    // It was cancelled, and tried again.
                    judged.doubted.push((&[Op::Retry], Rule::Asked, what));
                }
            }
            _ => {}
        }
    }

    fn check_snoozed(
        &self,
        before: &Live,
        live: &Live,
        snooze: &Snooze,
        judged: &mut Judged,
        at: &Moment,
    ) {
        let attempts = before.attempt + u32::from(live.lease.is_some());
        judged.snoozed = true;
        let spent = live.failures != before.failures || live.lost != before.lost;
        if spent || live.snoozes != before.snoozes + 1 || live.attempt != attempts {
            let what = format!("a snooze made {live:?} of {before:?}");
            judged.broken.push((Rule::Asked, what));
        }
        let holds = live.lease.as_ref().is_some_and(|lease| lease.token == snooze.token);
        if holds || !self.ended_by_report(snooze.token) {
            let what = format!("was snoozed, and lease {} is not over", snooze.token);
            judged.broken.push((Rule::Reports, what));
        }
        let kept = self.attempted.filter(|attempt| attempt.token == snooze.token);
        let until = kept.filter(|kept| kept.attempt == before.attempt);
        let Some(until_ms) = until.and_then(|kept| kept.snoozed_until_ms) else {
            let what = format!("was snoozed, and its attempt is kept as {:?}", self.attempted);
            return judged.broken.push((Rule::Lost, what));
        };
        let behind_ms = if snooze.by_delay { at.behind_ms } else { 0 };
        let earliest_ms = snooze.until_ms - behind_ms - at.slack_ms();
        if until_ms < earliest_ms {
            let what = format!("was snoozed until {until_ms}, before {}", snooze.until_ms);
            judged.broken.push((Rule::Dates, what));
        }
        if live.run_at_ms < until_ms {
            let what = format!("is due at {}, though snoozed until {until_ms}", live.run_at_ms);
            judged.doubted.push((&[Op::Postpone, Op::Edit], Rule::Dates, what));
        }
    }

    /// Whether a worker's report ended that lease.
    fn ended_by_report(&self, token: u64) -> bool {
        let live = self.live.as_ref().and_then(|live| live.last_end);
        let end = live.or_else(|| self.ended()?.last_end);
        end.is_some_and(|end| end.token == token)
    }
}
