//! The outbox: keeps each report until the server has answered it.
//!
//! A message that the server does not accept must not block later reports. So the outbox learns from each
//! broken connection how much to put into one message (`pace`), until the report at fault is alone. Only that
//! report becomes a failure of its attempt.

mod pace;

use std::collections::VecDeque;

use prost::Message as _;
use rota_proto::{
    Reason,
    v1::{self, report::Outcome},
};
use tracing::warn;

use self::pace::{Pace, Verdict};
use crate::{breaks::Break, context::cut as cut_text};

/// Maximum bytes of an error message to send. The server keeps fewer.
const MESSAGE_BYTES: usize = 8 << 10;
/// Bytes of an error message that was cut because the report was too large.
const SHORT_MESSAGE_BYTES: usize = 256;
/// Overhead of a report in a message, in bytes.
const FRAME_BYTES: usize = 8;

/// Reports that wait to be sent, and reports that wait for their answer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<v1::Report>,
    unanswered: VecDeque<v1::Reports>,
    last_seq: u64,
    pace: Pace,
}

fn size_of(report: &v1::Report) -> usize {
    report.encoded_len() + FRAME_BYTES
}

fn size_of_all(message: &v1::Reports) -> usize {
    message.reports.iter().map(size_of).sum()
}

/// Whether the server cannot accept the report although the lease may be valid.
pub(crate) fn is_unacceptable(refusal: &v1::ReportRefusal) -> bool {
    matches!(Reason::parse(&refusal.reason), Some(Reason::Invalid | Reason::TooLarge))
}

/// Whether the report ends its lease, so that it must not be lost.
fn is_end(report: &v1::Report) -> bool {
    !matches!(report.outcome, Some(Outcome::Started(_) | Outcome::Progress(_)) | None)
}

/// The limits of the server. Larger reports would be refused, or end the stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) result_bytes: usize,
    pub(crate) output_tail_bytes: usize,
}

impl Bounds {
    /// The limits from the welcome of the server.
    pub(crate) fn of(welcome: &v1::Welcome) -> Self {
        // Zero means that the server sent no limit.
        let bound = |bytes| match usize::try_from(bytes) {
            Ok(bytes @ 1..) => bytes,
            _ => usize::MAX,
        };
        Self {
            result_bytes: bound(welcome.result_bytes_max),
            output_tail_bytes: bound(welcome.output_tail_bytes_max),
        }
    }

    /// Makes a report fit the limits of the server. A result that is too large becomes a permanent failure,
    /// because the next attempt would only repeat it.
    fn fit(self, report: &mut v1::Report) {
        let cut = report.output_tail.len().saturating_sub(self.output_tail_bytes);
        report.output_tail = report.output_tail.slice(cut..);
        match &mut report.outcome {
            Some(Outcome::Completed(done)) if done.result.len() > self.result_bytes => {
                let message = format!(
                    "the handler returned {} bytes, but the server accepts at most {} (limit result_bytes)",
                    done.result.len(),
                    self.result_bytes
                );
                report.outcome = Some(failed_for_good(message));
            }
            Some(Outcome::Failed(failed)) => cut_text(&mut failed.message, MESSAGE_BYTES),
            _ => {}
        }
    }
}

fn failed_for_good(message: String) -> Outcome {
    let reason = v1::FailureReason::Permanent.into();
    Outcome::Failed(v1::Failed { reason, message, retry_at: None })
}

/// Makes a report smaller that the server does not accept. Returns false if nothing can be omitted.
fn reduce(report: &mut v1::Report, why: &str) -> bool {
    match &mut report.outcome {
        Some(Outcome::Completed(_)) => report.outcome = Some(failed_for_good(why.to_owned())),
        _ if !report.output_tail.is_empty() => report.output_tail.clear(),
        Some(Outcome::Failed(failed)) if failed.message.len() > SHORT_MESSAGE_BYTES => {
            cut_text(&mut failed.message, SHORT_MESSAGE_BYTES);
        }
        _ => return false,
    }
    true
}

/// Makes a report fit into one message. Returns false if this is impossible.
fn reduce_to(report: &mut v1::Report, bytes_max: usize) -> bool {
    let bytes = size_of(report);
    while size_of(report) > bytes_max {
        let why = format!(
            "the result was lost: the report of this attempt has {bytes} bytes, more than the \
             server accepts in one message (limit request_bytes)"
        );
        if !reduce(report, &why) {
            return false;
        }
    }
    true
}

impl Outbox {
    /// Adds a report, after making it fit the limits of the server.
    pub(crate) fn push(&mut self, mut report: v1::Report, bounds: Bounds) {
        bounds.fit(&mut report);
        self.keep(report);
    }

    /// Adds a report at the end, if the server can accept it.
    fn keep(&mut self, mut report: v1::Report) {
        if reduce_to(&mut report, self.pace.report_bytes_max) {
            self.waiting.push_back(report);
        } else if is_end(&report) {
            warn_dropped(&report);
        }
    }

    /// Whether everything was sent and answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.unanswered.is_empty()
    }

    /// The next message, if there are reports to send and not too many are unanswered.
    pub(crate) fn next(&mut self) -> Option<v1::Reports> {
        if self.waiting.is_empty() || self.unanswered.len() >= self.pace.messages {
            return None;
        }
        let mut bytes = 0;
        let mut reports = Vec::with_capacity(self.waiting.len().min(self.pace.reports));
        while reports.len() < self.pace.reports
            && let Some(size) = self.waiting.front().map(size_of)
            && (reports.is_empty() || bytes + size <= self.pace.bytes)
        {
            bytes += size;
            reports.extend(self.waiting.pop_front());
        }
        self.last_seq += 1;
        let message = v1::Reports { seq: self.last_seq, reports };
        self.unanswered.push_back(message.clone());
        Some(message)
    }

    /// Processes an answer. All reports that the server did not refuse are durable.
    pub(crate) fn answered(&mut self, results: &v1::ReportResults) {
        while self.unanswered.front().is_some_and(|message| message.seq <= results.seq) {
            let Some(message) = self.unanswered.pop_front() else { break };
            self.pace.answered();
            for refusal in results.refused.iter().filter(|_| message.seq == results.seq) {
                self.replace(message.reports.iter(), refusal);
            }
        }
    }

    /// Processes a broken stream. Unanswered reports are sent again, in smaller messages if they may have
    /// broken it.
    pub(crate) fn broken(&mut self, why: &Break) {
        let largest = self.unanswered.iter().max_by_key(|message| size_of_all(message));
        let Some(largest) = largest else { return };
        let sent = pace::Sent {
            bytes: size_of_all(largest),
            reports: largest.reports.len(),
            messages: self.unanswered.len(),
        };
        // Soft reports are not sent again, so they do no more harm.
        let suspect = largest.reports.first().filter(|report| sent.is_alone() && is_end(report));
        let suspected = suspect.is_some();
        self.rewind();
        let verdict = self.pace.broken(why, sent);
        if verdict == Verdict::Smaller {
            for report in std::mem::take(&mut self.waiting) {
                self.keep(report);
            }
        }
        // The report that was alone is the first again.
        let first = if suspected { self.waiting.pop_front() } else { None };
        match (verdict, why, first) {
            (Verdict::Guilty, Break::Refused(said), Some(mut report)) => {
                let why = format!("the result was lost: the server refused the report: {said}");
                if reduce(&mut report, &why) {
                    self.waiting.push_front(report);
                } else {
                    warn_dropped(&report);
                }
            }
            (Verdict::Guilty, _, Some(report)) => self.waiting.push_back(report),
            (_, _, Some(report)) => self.waiting.push_front(report),
            (_, _, None) => {}
        }
    }

    /// Handles a report that the server cannot accept although the lease is valid. Without a replacement, the
    /// task would stay leased until its timeout.
    fn replace<'a>(
        &mut self,
        mut sent: impl Iterator<Item = &'a v1::Report>,
        refusal: &v1::ReportRefusal,
    ) {
        if !is_unacceptable(refusal) {
            return;
        }
        let meant = sent.find(|report| {
            is_end(report)
                && report.task_id == refusal.task_id
                && report.lease_token == refusal.lease_token
        });
        let Some(report) = meant else { return };
        if matches!(report.outcome, Some(Outcome::Completed(_))) {
            let message = format!("the server did not accept the result: {}", refusal.message);
            let outcome = Some(failed_for_good(message));
            self.waiting.push_back(v1::Report { outcome, ..report.clone() });
        }
    }

    /// Whether a report that is added now is sent soon.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.unanswered.len() < self.pace.messages
    }

    /// Queues unanswered reports again, without soft ones.
    fn rewind(&mut self) {
        while let Some(message) = self.unanswered.pop_back() {
            for report in message.reports.into_iter().rev().filter(is_end) {
                self.waiting.push_front(report);
            }
        }
    }

    /// The leases that reports in the outbox end.
    pub(crate) fn leases(&self) -> impl Iterator<Item = v1::Lease> {
        let unanswered = self.unanswered.iter().flat_map(|message| &message.reports);
        unanswered.chain(&self.waiting).filter(|report| is_end(report)).map(|report| v1::Lease {
            task_id: report.task_id.clone(),
            lease_token: report.lease_token,
        })
    }

    /// Drops the reports of an ended lease.
    pub(crate) fn forget(&mut self, task_id: &str, token: u64) {
        self.waiting.retain(|report| report.lease_token != token || report.task_id != task_id);
    }
}

fn warn_dropped(report: &v1::Report) {
    let (task, token) = (&report.task_id, report.lease_token);
    warn!(
        task,
        token, "the server accepts no report of this attempt; it will end with its timeout"
    );
}

#[cfg(test)]
mod tests {
    use super::{
        pace::{BYTES_MAX, MESSAGES_MAX, REPORTS_MAX},
        *,
    };

    const BOUNDS: Bounds = Bounds { result_bytes: 10, output_tail_bytes: 4 };

    fn done(token: u64) -> v1::Report {
        v1::Report {
            task_id: "t".to_owned(),
            lease_token: token,
            outcome: Some(Outcome::Completed(v1::Completed::default())),
            ..v1::Report::default()
        }
    }

    fn answer(seq: u64) -> v1::ReportResults {
        v1::ReportResults { seq, refused: Vec::new() }
    }

    fn tokens(message: &v1::Reports) -> Vec<u64> {
        message.reports.iter().map(|report| report.lease_token).collect()
    }

    #[test]
    fn what_was_not_answered_is_sent_again_in_order_and_what_is_soft_is_not() {
        let mut outbox = Outbox::default();
        outbox.push(done(1), BOUNDS);
        let started = Some(Outcome::Started(v1::Started {}));
        outbox.push(v1::Report { outcome: started, ..done(2) }, BOUNDS);
        let first = outbox.next().expect("two reports");
        outbox.push(done(3), BOUNDS);
        let second = outbox.next().expect("one report");
        outbox.push(done(4), BOUNDS);
        outbox.answered(&answer(first.seq - 1));
        outbox.broken(&Break::Lost);
        let again = outbox.next().expect("three reports");
        assert_eq!(tokens(&again), [1, 3, 4]);
        assert!(again.seq > second.seq);
        outbox.answered(&answer(again.seq));
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_leases_of_unanswered_ends_are_held_until_they_are_revoked() {
        let mut outbox = Outbox::default();
        outbox.push(done(1), BOUNDS);
        outbox.next().expect("one report");
        outbox.push(done(2), BOUNDS);
        outbox.push(v1::Report { outcome: None, ..done(3) }, BOUNDS);
        let held: Vec<u64> = outbox.leases().map(|lease| lease.lease_token).collect();
        assert_eq!(held, [1, 2]);
        outbox.broken(&Break::Lost);
        outbox.forget("t", 1);
        assert_eq!(tokens(&outbox.next().expect("what is left")), [2, 3]);
    }

    #[test]
    fn few_messages_are_unanswered_at_once() {
        let mut outbox = Outbox::default();
        for token in 0..10_000 {
            outbox.push(done(token), BOUNDS);
        }
        let sent: Vec<_> = std::iter::from_fn(|| outbox.next()).collect();
        assert_eq!(sent.len(), MESSAGES_MAX);
        assert!(sent.iter().all(|message| message.reports.len() == REPORTS_MAX));
        assert!(!outbox.has_room());
        outbox.answered(&answer(sent[0].seq));
        assert!(outbox.next().is_some());
    }

    #[test]
    fn large_reports_go_in_messages_of_their_own() {
        let wide = Bounds { result_bytes: usize::MAX, output_tail_bytes: usize::MAX };
        let mut outbox = Outbox::default();
        for token in 0..8 {
            let message = "e".repeat(1 << 20);
            let failed = v1::Failed { message, ..v1::Failed::default() };
            outbox.push(v1::Report { outcome: Some(Outcome::Failed(failed)), ..done(token) }, wide);
            let result = vec![0; 1 << 20].into();
            let completed = Some(Outcome::Completed(v1::Completed { result }));
            outbox.push(v1::Report { outcome: completed, ..done(token) }, wide);
        }
        while let Some(message) = outbox.next() {
            let bytes: usize = message.reports.iter().map(size_of).sum();
            assert!(bytes <= BYTES_MAX, "{bytes}");
            outbox.answered(&answer(message.seq));
        }
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_report_is_made_to_fit() {
        let mut outbox = Outbox::default();
        let result = "12345678901".into();
        let too_much = Some(Outcome::Completed(v1::Completed { result }));
        outbox.push(
            v1::Report { outcome: too_much, output_tail: "abcdef".into(), ..done(1) },
            BOUNDS,
        );
        let report = outbox.next().expect("one report").reports.remove(0);
        assert_eq!(report.output_tail, "cdef");
        match report.outcome {
            Some(Outcome::Failed(failed)) => {
                assert_eq!(failed.reason(), v1::FailureReason::Permanent);
                assert_eq!(
                    failed.message,
                    "the handler returned 11 bytes, but the server accepts at most 10 (limit result_bytes)"
                );
            }
            other => panic!("not a failure: {other:?}"),
        }
    }

    #[test]
    fn a_result_that_is_refused_becomes_a_failure_and_a_lost_lease_nothing() {
        let refused = |reason: &str, token| v1::ReportRefusal {
            task_id: "t".to_owned(),
            lease_token: token,
            reason: reason.to_owned(),
            message: "why".to_owned(),
        };
        let mut outbox = Outbox::default();
        outbox.push(done(1), BOUNDS);
        outbox.push(done(2), BOUNDS);
        let sent = outbox.next().expect("two reports");
        let refusals = vec![refused("invalid", 1), refused("stale_lease", 2)];
        outbox.answered(&v1::ReportResults { seq: sent.seq, refused: refusals });
        let again = outbox.next().expect("another report of the first");
        assert_eq!(tokens(&again), [1]);
        assert!(matches!(again.reports[0].outcome, Some(Outcome::Failed(_))));
        // If the server doesn't take that either, there is nothing more to say.
        let refusals = vec![refused("invalid", 1)];
        outbox.answered(&v1::ReportResults { seq: again.seq, refused: refusals });
        assert!(outbox.is_empty());
    }

    fn result(token: u64, bytes: usize) -> v1::Report {
        let completed = v1::Completed { result: vec![b'1'; bytes].into() };
        v1::Report { outcome: Some(Outcome::Completed(completed)), ..done(token) }
    }

    const WIDE: Bounds = Bounds { result_bytes: usize::MAX, output_tail_bytes: usize::MAX };

    /// A server that breaks the stream when it is sent what it does not take; what it took.
    fn deliver(
        outbox: &mut Outbox,
        refuses: impl Fn(&v1::Reports) -> Option<Break>,
    ) -> Vec<v1::Report> {
        let mut taken = Vec::new();
        for _ in 0..200 {
            let sent: Vec<_> = std::iter::from_fn(|| outbox.next()).collect();
            let mut broken = None;
            for message in sent {
                broken = refuses(&message);
                if broken.is_some() {
                    break;
                }
                outbox.answered(&answer(message.seq));
                taken.extend(message.reports);
            }
            if let Some(why) = broken {
                outbox.broken(&why);
            }
            if outbox.is_empty() {
                return taken;
            }
        }
        panic!("still there: {} of {}", outbox.waiting.len(), taken.len());
    }

    fn failures(taken: &[v1::Report]) -> Vec<(u64, &str)> {
        let failed = taken.iter().filter_map(|report| match &report.outcome {
            Some(Outcome::Failed(failed)) => Some((report.lease_token, failed.message.as_str())),
            _ => None,
        });
        failed.collect()
    }

    #[test]
    fn messages_are_made_as_small_as_the_server_wants_them() {
        const MAX: usize = 2 << 20;
        for told in [Some(MAX), None] {
            let mut outbox = Outbox::default();
            (0..5).for_each(|token| outbox.push(result(token, 985_000), WIDE));
            let taken = deliver(&mut outbox, |message| {
                (message.encoded_len() > MAX).then_some(Break::TooLarge(told))
            });
            assert_eq!(taken.len(), 5);
            assert_eq!(failures(&taken), []);
        }
    }

    #[test]
    fn only_the_result_that_never_fits_fails_and_says_why() {
        const MAX: usize = 1 << 20;
        for told in [Some(MAX), None] {
            let mut outbox = Outbox::default();
            for token in 0..9 {
                let bytes = if token == 4 { MAX } else { 100_000 };
                outbox.push(result(token, bytes), WIDE);
            }
            let taken = deliver(&mut outbox, |message| {
                (message.encoded_len() > MAX).then_some(Break::TooLarge(told))
            });
            let mut tokens: Vec<u64> = taken.iter().map(|report| report.lease_token).collect();
            tokens.sort_unstable();
            assert_eq!(tokens, (0..9).collect::<Vec<_>>());
            match failures(&taken)[..] {
                [(4, message)] => assert!(message.contains("limit request_bytes"), "{message}"),
                ref other => panic!("{other:?}"),
            }
            // The next one need not be refused first.
            outbox.push(result(10, MAX), WIDE);
            let next = outbox.next().expect("a report");
            assert_eq!(failures(&next.reports).len(), 1);
        }
    }

    #[test]
    fn a_report_that_breaks_the_stream_does_not_hold_up_the_others() {
        let has = |message: &v1::Reports, token: u64| {
            let mut reports = message.reports.iter();
            reports.any(|it| {
                it.lease_token == token && matches!(it.outcome, Some(Outcome::Completed(_)))
            })
        };
        for bad in [0, 37, 99] {
            let mut outbox = Outbox::default();
            (0..100).for_each(|token| outbox.push(done(token), BOUNDS));
            let taken = deliver(&mut outbox, |message| {
                has(message, bad).then(|| Break::Refused("who knows".to_owned()))
            });
            assert_eq!(taken.len(), 100);
            let expected = "the result was lost: the server refused the report: who knows";
            assert_eq!(failures(&taken), [(bad, expected)]);
        }
    }

    #[test]
    fn a_network_that_fails_never_costs_a_result_and_holds_up_nobody() {
        let mut outbox = Outbox::default();
        (0..20).for_each(|token| outbox.push(done(token), BOUNDS));
        let breaks = std::cell::Cell::new(0);
        let taken = deliver(&mut outbox, |message| {
            let bad = message.reports.iter().any(|report| report.lease_token == 3);
            breaks.set(breaks.get() + u32::from(bad));
            (bad && breaks.get() < 60).then_some(Break::Lost)
        });
        assert_eq!(failures(&taken), []);
        assert_eq!(taken.len(), 20);
        assert_eq!(taken.last().map(|report| report.lease_token), Some(3), "the others went first");
    }
}
