//! Reports on their way to the server: each is kept until it was answered.

use std::collections::VecDeque;

use rota_proto::v1::{self, report::Outcome};

use crate::context::cut as cut_text;

/// Messages of reports that may be unanswered at once. The server takes more.
const UNANSWERED_MAX: usize = 4;
/// Reports put into one message.
const REPORTS_A_MESSAGE: usize = 1000;
/// Bytes of results and output put into one message.
const BYTES_A_MESSAGE: usize = 4 << 20;
/// Bytes of an error that are sent; the server keeps fewer.
const MESSAGE_BYTES: usize = 8 << 10;
/// The reason for which a server refuses a report that it cannot take as it is.
const UNACCEPTABLE: &str = "invalid";

/// Reports that wait to be sent, and those that wait for their answer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<v1::Report>,
    unanswered: VecDeque<v1::Reports>,
    last_seq: u64,
}

fn size_of(report: &v1::Report) -> usize {
    let said = match &report.outcome {
        Some(Outcome::Completed(done)) => done.result.len(),
        Some(Outcome::Failed(failed)) => failed.message.len(),
        Some(Outcome::Progress(progress)) => progress.message.len(),
        _ => 0,
    };
    report.output_tail.len() + said
}

/// Whether the report ends its lease, so that it must not be lost.
fn is_end(report: &v1::Report) -> bool {
    !matches!(report.outcome, Some(Outcome::Started(_) | Outcome::Progress(_)) | None)
}

/// What the server takes; larger reports would be refused, or end the stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) result_bytes: usize,
    pub(crate) output_tail_bytes: usize,
}

impl Bounds {
    /// As the server said when it welcomed the worker.
    pub(crate) fn of(welcome: &v1::Welcome) -> Self {
        // Nothing said: nothing known.
        let bound = |bytes| match usize::try_from(bytes) {
            Ok(bytes @ 1..) => bytes,
            _ => usize::MAX,
        };
        Self {
            result_bytes: bound(welcome.result_bytes_max),
            output_tail_bytes: bound(welcome.output_tail_bytes_max),
        }
    }

    /// Makes a report one that the server takes. A result that is too large makes a failure, which
    /// the next attempt would only repeat.
    fn fit(self, report: &mut v1::Report) {
        let cut = report.output_tail.len().saturating_sub(self.output_tail_bytes);
        report.output_tail = report.output_tail.slice(cut..);
        match &mut report.outcome {
            Some(Outcome::Completed(done)) if done.result.len() > self.result_bytes => {
                let message = format!(
                    "the handler returned {} bytes, and the server takes {} (limit result_bytes)",
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

impl Outbox {
    /// Takes a report, made to fit what the server accepts.
    pub(crate) fn push(&mut self, mut report: v1::Report, bounds: Bounds) {
        bounds.fit(&mut report);
        self.waiting.push_back(report);
    }

    /// Whether everything was sent and answered.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.unanswered.is_empty()
    }

    /// The next message, if there is something to send and not too much is unanswered.
    pub(crate) fn next(&mut self) -> Option<v1::Reports> {
        if self.waiting.is_empty() || self.unanswered.len() >= UNANSWERED_MAX {
            return None;
        }
        let mut bytes = 0;
        let mut reports = Vec::with_capacity(self.waiting.len().min(REPORTS_A_MESSAGE));
        while reports.len() < REPORTS_A_MESSAGE && bytes < BYTES_A_MESSAGE {
            let Some(report) = self.waiting.pop_front() else { break };
            bytes += size_of(&report);
            reports.push(report);
        }
        self.last_seq += 1;
        let message = v1::Reports { seq: self.last_seq, reports };
        self.unanswered.push_back(message.clone());
        Some(message)
    }

    /// The server answered: what it did not refuse is durable.
    pub(crate) fn answered(&mut self, results: &v1::ReportResults) {
        while self.unanswered.front().is_some_and(|message| message.seq <= results.seq) {
            let Some(message) = self.unanswered.pop_front() else { break };
            for refusal in results.refused.iter().filter(|_| message.seq == results.seq) {
                self.replace(message.reports.iter(), refusal);
            }
        }
    }

    /// A report that the server cannot take although the lease holds: without another one the task
    /// would lie there until its timeout.
    fn replace<'a>(
        &mut self,
        mut sent: impl Iterator<Item = &'a v1::Report>,
        refusal: &v1::ReportRefusal,
    ) {
        if refusal.reason != UNACCEPTABLE {
            return;
        }
        let meant = sent.find(|report| {
            is_end(report)
                && report.task_id == refusal.task_id
                && report.lease_token == refusal.lease_token
        });
        let Some(report) = meant else { return };
        if matches!(report.outcome, Some(Outcome::Completed(_))) {
            let message = format!("the server did not take the result: {}", refusal.message);
            let outcome = Some(failed_for_good(message));
            self.waiting.push_back(v1::Report { outcome, ..report.clone() });
        }
    }

    /// Whether what is pushed now is sent soon.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.unanswered.len() < UNANSWERED_MAX
    }

    /// The stream broke: what was not answered is sent again. What is soft is not worth it.
    pub(crate) fn rewind(&mut self) {
        while let Some(message) = self.unanswered.pop_back() {
            for report in message.reports.into_iter().rev().filter(is_end) {
                self.waiting.push_front(report);
            }
        }
    }

    /// The leases that reports in here end.
    pub(crate) fn leases(&self) -> impl Iterator<Item = v1::Lease> {
        let unanswered = self.unanswered.iter().flat_map(|message| &message.reports);
        unanswered.chain(&self.waiting).filter(|report| is_end(report)).map(|report| v1::Lease {
            task_id: report.task_id.clone(),
            lease_token: report.lease_token,
        })
    }

    /// The lease is over: its reports are not wanted.
    pub(crate) fn forget(&mut self, task_id: &str, token: u64) {
        self.waiting.retain(|report| report.lease_token != token || report.task_id != task_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        outbox.rewind();
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
        outbox.rewind();
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
        assert_eq!(sent.len(), UNANSWERED_MAX);
        assert!(sent.iter().all(|message| message.reports.len() == REPORTS_A_MESSAGE));
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
            assert!(bytes <= BYTES_A_MESSAGE + (1 << 20), "{bytes}");
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
                    "the handler returned 11 bytes, and the server takes 10 (limit result_bytes)"
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
        let refusals = vec![refused(UNACCEPTABLE, 1), refused("stale_lease", 2)];
        outbox.answered(&v1::ReportResults { seq: sent.seq, refused: refusals });
        let again = outbox.next().expect("another report of the first");
        assert_eq!(tokens(&again), [1]);
        assert!(matches!(again.reports[0].outcome, Some(Outcome::Failed(_))));
        // If the server doesn't take that either, there is nothing more to say.
        let refusals = vec![refused(UNACCEPTABLE, 1)];
        outbox.answered(&v1::ReportResults { seq: again.seq, refused: refusals });
        assert!(outbox.is_empty());
    }
}
