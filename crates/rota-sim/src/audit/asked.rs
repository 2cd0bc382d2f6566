//! What a client asked of a task, and whether what becomes of the task is that.

use super::{
    Rule,
    records::{Done, ERROR, FAILED, Live, SNOOZES_UNSAID, Spec, TIMEOUT},
    task::Judged,
};

/// Two clocks that are right may differ by so much as things are rounded.
const ROUNDING_MS: i64 = 10;
/// The engine does not set its timers anew when its wall clock goes back by less than this.
const SET_BACK_MS: i64 = 1_100;

/// What a client asked for. Dates are true ones.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(crate) queue: String,
    pub(crate) priority: u32,
    pub(crate) run_at_ms: i64,
    pub(crate) expires_at_ms: Option<i64>,
    pub(crate) max_attempts: u32,
    pub(crate) max_snoozes: u32,
    /// The delay after the first failure, which doubles with each, and the longest.
    pub(crate) initial_ms: i64,
    pub(crate) longest_ms: i64,
    /// Delays are drawn between nothing and that.
    pub(crate) jitters: bool,
    /// It is removed soon after its end.
    pub(crate) is_short_lived: bool,
}

/// When a batch was decided on, by the wall clocks that machines may have had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now_us: u64,
    pub(super) seq: u64,
    /// Not before.
    pub(super) begun_ms: i64,
    /// Not after.
    pub(super) sent_ms: i64,
    /// The furthest that a clock is that may be believed when history is removed.
    pub(super) wall_max_ms: i64,
    /// How far clocks were behind, at most, and whether one ever jumped.
    pub(super) behind_ms: i64,
    pub(super) jumped: bool,
}

impl Moment {
    pub(super) fn slack_ms(&self) -> i64 {
        ROUNDING_MS + if self.jumped { SET_BACK_MS } else { 0 }
    }
}

impl Intent {
    /// A definition is written.
    pub(super) fn check_definition(&self, spec: &Spec) -> Option<String> {
        let policy = spec.policy.unwrap_or_default();
        let millis = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let max_snoozes = policy.max_snoozes.unwrap_or(SNOOZES_UNSAID);
        let written = (policy.max_attempts, max_snoozes, !policy.no_jitter);
        let backoff = (millis(policy.initial_ms), millis(policy.max_ms));
        let same = written == (self.max_attempts, self.max_snoozes, self.jitters)
            && backoff == (self.initial_ms, self.longest_ms)
            && spec.expires_at_ms == self.expires_at_ms;
        (!same).then(|| {
            let expires_at_ms = spec.expires_at_ms;
            format!("its definition has {policy:?} and expires at {expires_at_ms:?}, not {self:?}")
        })
    }

    /// A task appears.
    pub(super) fn check_new(&self, live: &Live, at: &Moment, judged: &mut Judged) {
        let mut broken = |what: String| judged.broken.push((Rule::Asked, what));
        if live.queue != self.queue || live.priority != self.priority {
            broken(format!(
                "waits in {} at priority {}; asked was {} at {}",
                live.queue, live.priority, self.queue, self.priority
            ));
        }
        if live.expires_at_ms != self.expires_at_ms {
            broken(format!("expires at {:?}, not {:?}", live.expires_at_ms, self.expires_at_ms));
        }
        if live.run_at_ms < self.run_at_ms - at.behind_ms - at.slack_ms() {
            broken(format!("is due at {}, before {}", live.run_at_ms, self.run_at_ms));
        }
    }

    /// An attempt may have failed.
    pub(super) fn check_attempts(
        &self,
        before: Option<&Live>,
        now: Option<&Live>,
        ended: Option<Done>,
        at: &Moment,
        judged: &mut Judged,
    ) {
        let mut broken = |rule, what: String| judged.broken.push((rule, what));
        // An edit may have lowered the budget below what was spent before.
        let spends = |live: &&Live| before.is_none_or(|before| live.failures > before.failures);
        let spent = now.filter(spends);
        if let Some(live) = spent.filter(|live| live.failures >= self.max_attempts) {
            let what = format!("failed {} of {} times and lives", live.failures, self.max_attempts);
            broken(Rule::Asked, what);
        }
        let Some(before) = before else { return };
        let failed = before.failures + 1;
        if let Some(live) = now.filter(|live| live.failures == failed && !self.jitters) {
            let grown = self.initial_ms.saturating_mul(1 << (failed - 1).min(20));
            let due_ms = at.begun_ms + grown.min(self.longest_ms);
            if live.run_at_ms < due_ms - at.slack_ms() {
                let what = format!(
                    "is due at {} after failure {failed}, though its backoff ends at {due_ms}",
                    live.run_at_ms
                );
                broken(Rule::Dates, what);
            }
        }
        let failed_for_good = ended.filter(|done| done.status == FAILED);
        let reason = failed_for_good.and_then(|done| done.failure).map(|failure| failure.reason);
        let gave_up = matches!(reason, Some(ERROR | TIMEOUT)) && before.lease.is_some();
        if gave_up && failed < self.max_attempts {
            let what = format!("failed {failed} of {} times and ended", self.max_attempts);
            broken(Rule::Asked, what);
        }
    }
}

/// A lease was given to a task that was due then and expires then.
pub(super) fn check_dates(
    run_at_ms: i64,
    expires_at_ms: Option<i64>,
    at: &Moment,
    judged: &mut Judged,
) {
    if run_at_ms > at.sent_ms + at.slack_ms() {
        let what = format!("was given away by {}, before {run_at_ms}", at.sent_ms);
        judged.broken.push((Rule::Dates, what));
    }
    if let Some(expires_at_ms) = expires_at_ms
        && expires_at_ms < at.begun_ms - at.slack_ms()
    {
        let what =
            format!("was given away after {}, though it expired at {expires_at_ms}", at.begun_ms);
        judged.broken.push((Rule::Dates, what));
    }
}
